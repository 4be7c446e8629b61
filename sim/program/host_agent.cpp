#include "sim/program/host_agent.h"

#include <stdexcept>

namespace moesaic::program {

std::vector<ByteRange> HostAgent::prepare(MemoryImage&) { return {}; }

IoSettings FixedProgram::settings() const {
  if (load_program_ == nullptr || load_program_->loads.empty()) return {};
  return {load_program_->order, load_program_->credits};
}

std::vector<ByteRange> FixedProgram::prepare(MemoryImage& image) {
  std::vector<ByteRange> empty;
  if (load_program_ == nullptr) return empty;
  for (const PlaneLoad& load : load_program_->loads) {
    const Descriptor& d = load.descriptor;
    const MemoryImage& storage = load_program_->storage;
    if (!storage.contains(d.source, d.bytes)) throw std::logic_error("a load's source is not in the storage");
    if (!image.contains(d.destination, d.bytes)) throw std::logic_error("a load's destination is not in the memory");
    for (std::uint64_t i = 0; i < d.bytes; ++i)
      image.write_byte(d.destination + i, static_cast<std::uint8_t>(~storage.read(d.source + i)));
    empty.push_back({d.destination, d.bytes});
  }
  return empty;
}

void FixedProgram::begin_phase(std::uint64_t now) {
  open_phase({at_, now});
  const std::size_t begin = at_ < phases_.size() ? phases_[at_] : 0, end = phase_end();
  for (std::size_t i = begin; i < end; ++i) offer(program_[i], i);
  close_phase();
  offer_due_loads();
}

void FixedProgram::on_command_pushed(std::uint64_t) {
  ++pushed_;
  offer_due_loads();
}

void FixedProgram::on_phase_ended(std::uint64_t now) {
  ++at_;
  if (at_ < phases_.size())
    begin_phase(now);
  else
    finish();
}

/// A load is due once the commands before its own are pushed and that one's phase has begun.
void FixedProgram::offer_due_loads() {
  if (load_program_ == nullptr) return;
  const std::vector<PlaneLoad>& all = load_program_->loads;
  const bool is_last = at_ + 1 >= phases_.size();
  while (next_load_ < all.size() && pushed_ >= all[next_load_].command &&
         (is_last || all[next_load_].command < phases_[at_ + 1]))
    offer(all[next_load_++].descriptor);
}

}  // namespace moesaic::program
