#include "sim/program/run_log.h"

#include <stdexcept>

namespace moesaic::program {

void RunLog::command_pushed(const OfferedCommand& command) {
  if (sink_ == nullptr) {
    run_.tags.push_back(command.tag);
    return;
  }
  pushed_.push_back(command);
  tell();
}

void RunLog::command_executed(std::uint64_t cycle, const CommandWork& work) {
  ++executed_;
  if (sink_ == nullptr) {
    run_.retired.push_back(cycle);
    run_.work.push_back(work);
    return;
  }
  executed_at_.push_back({cycle, work});
  tell();
}

void RunLog::tell() {
  while (!pushed_.empty() && !executed_at_.empty()) {
    sink_->command(pushed_.front(), executed_at_.front().cycle, executed_at_.front().work);
    pushed_.pop_front();
    executed_at_.pop_front();
  }
}

void RunLog::phase_ended(const EngineRun::PhaseEnd& end) {
  run_.cycles = end.cycles;
  last_end_ = end;
  if (sink_ == nullptr) {
    run_.phase_ends.push_back(end);
    return;
  }
  if (!pushed_.empty() || !executed_at_.empty()) throw std::logic_error("a phase that ends before its commands");
  sink_->phase(end);
}

std::size_t RunLog::load_pushed(const Descriptor& descriptor, std::uint64_t now) {
  if (sink_ == nullptr)
    run_.loads.push_back({descriptor, now, 0, 0});
  else
    under_way_[loads_pushed_] = {descriptor, now, 0, 0};
  return loads_pushed_++;
}

void RunLog::load_issued(std::size_t number, std::uint64_t now) {
  entry(number).issued = now;
  if (sink_ != nullptr) sink_->load_issued(number, load(number));
}

void RunLog::load_completed(std::size_t number, std::uint64_t now) {
  EngineRun::Load& one = entry(number);
  one.completed = now;
  loaded_bytes_ += one.descriptor.bytes;
  if (sink_ == nullptr) return;
  sink_->load_completed(number, one);
  under_way_.erase(number);
}

}  // namespace moesaic::program
