#pragma once
/// The host on AXI4-Lite with the core's registers, as cosim::AxilHost and the twin's AxilRegs behave together. What
/// words hold does not matter, only how many are written.
#include <cstdint>
#include <utility>
#include <vector>

#include "sim/fast/core.h"
#include "sim/program/commands.h"
#include "sim/program/core_params.h"
#include "sim/program/host_agent.h"
#include "sim/program/stalls.h"

namespace moesaic::fast {

class Host {
 public:
  Host(const program::IoSettings& settings, const program::CoreParams& params, program::Stalls stalls);

  /// What was not offered before and is to be pushed next; only while has_command() (has_load()) says false.
  void offer(const program::Command& command);
  void offer(const program::Descriptor& load);
  /// Forgets what the staging registers hold and how much room the queue has: the next command takes all words but
  /// those that only scattered planes need.
  void forget() {
    staged_known_ = false;
    room_ = 0;
  }
  bool has_command() const { return has_command_; }
  bool has_load() const { return has_load_; }

  /// One cycle: drive() before the core's evaluate(), sample() before its clock().
  void drive(Core::Inputs& in);
  struct Told {
    bool load_pushed = false;     ///< the write that pushes the load offered began
    bool command_pushed = false;  ///< the answer to the command's push was taken
  };
  /// base::CheckError when the core refuses a write.
  Told sample(const Core& core, const Core::Inputs& in, const Core::Wires& wires);

  /// Commands pushed and not executed; less than none for an instant, when one is executed before its push is answered.
  std::uint32_t unfinished() const { return unfinished_; }
  void executed() { --unfinished_; }

  /// In a cycle in which nothing else moves: 0 when the host does something, else the number of cycles after which it
  /// is as it was, as long as nothing changes: it rests, or asks for room again and again.
  unsigned period(const Core& core) const;
  /// Whether all that the host is about is in visit_state(): it does not set anything or push a descriptor.
  bool is_plain() const { return settings_.empty() && !(working_ && access_ >= Access::kIoStaging); }
  unsigned credits() const { return credits_; }

  /// As Core::visit_state(). Where no load is offered, what concerns loads is left out: nothing there can change.
  template <class Visit>
  void visit_state(Visit& visit);

 private:
  /// Those from kIoStaging on change the I/O queue or its settings.
  enum class Access : std::uint8_t { kStaging, kPush, kStatus, kIoStatus, kIoJobs, kIoStaging, kIoPush, kSetting };
  static bool is_write(Access access) {
    return access != Access::kStatus && access != Access::kIoStatus && access != Access::kIoJobs;
  }
  bool begins();
  void start(Access access);
  bool load_waits() const { return (closed_jobs_ >> load_job_ & 1) != 0 || io_room_ == 0; }
  void finish_write(Told& told);
  void finish_read();

  program::Stalls stalls_;
  program::CommandWords staged_{};
  bool staged_known_ = true;
  program::DescriptorWords io_staged_{};
  program::Descriptor load_, pushing_;
  std::vector<std::pair<bool, std::uint32_t>>
      settings_;  // still to be written, the last first: credits or order, value
  bool has_command_ = false, has_load_ = false;
  std::uint32_t words_left_ = 0, room_ = 0, unfinished_ = 0;
  std::uint32_t io_words_left_ = 0, io_room_ = 0, closed_jobs_ = 0, load_job_ = 0;
  bool asked_ = false, begins_load_ = false;
  bool working_ = false, answer_ready_ = false, refused_ = false;
  Access access_ = Access::kStaging;
  bool address_valid_ = false, data_valid_ = false, address_done_ = false, data_done_ = false;
  // registers
  bool aw_valid_ = false, w_valid_ = false, b_valid_ = false, ar_valid_ = false, r_valid_ = false;
  std::uint32_t r_value_ = 0;
  program::LoadOrder order_ = program::LoadOrder::kFifo;
  unsigned credits_;
};

template <class Visit>
void Host::visit_state(Visit& visit) {
  visit(has_command_), visit(words_left_), visit(room_), visit(unfinished_), visit(working_), visit(access_);
  visit(address_valid_), visit(data_valid_), visit(address_done_), visit(data_done_), visit(aw_valid_);
  visit(w_valid_), visit(b_valid_), visit(ar_valid_), visit(r_valid_), visit(r_value_), visit(asked_);
  visit(has_load_);
  if (!has_load_) return;
  visit(io_words_left_), visit(io_room_), visit(closed_jobs_), visit(load_job_);
}

}  // namespace moesaic::fast
