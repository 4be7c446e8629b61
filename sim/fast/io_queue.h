#pragma once
/// The I/O queue of docs/io_queue.md, clock by clock: descriptors that wait, requests at the storage, jobs. Equal to
/// the twin's (sim/cycle/queue/io_queue.h) in everything, for it handles no data.
#include <array>
#include <cstdint>
#include <vector>

#include "sim/program/commands.h"
#include "sim/program/core_params.h"

namespace moesaic::fast {

class IoQueue {
 public:
  /// What comes in during one cycle.
  struct Inputs {
    const program::Descriptor* push = nullptr;  ///< offered by the registers
    program::LoadOrder order = program::LoadOrder::kFifo;
    unsigned credits = 0;
    bool req_ready = false, done_valid = false;
    unsigned done_id = 0;
  };
  /// What moves in it.
  struct Wires {
    bool push = false, select = false, accepted = false, done = false;
    bool any() const { return push || select || accepted || done; }
  };

  explicit IoQueue(const program::CoreParams& params);
  void reset();

  Wires evaluate(const Inputs& in) const;
  program::Activity activity(const Wires& wires) const;
  void clock(const Inputs& in, const Wires& wires);
  /// At the same edge, after clock(): the fetch side has passed the wait of a job; the wait was executed.
  void pass(unsigned job) { passed_ |= 1U << job; }
  void retire(unsigned job);

  bool is_released(unsigned job) const { return (closed_ >> job & 1) != 0 && missing_[job] == 0; }
  bool is_fetchable(unsigned job) const { return is_released(job) && (passed_ >> job & 1) == 0; }
  /// Whether the next descriptor goes to the port by itself.
  bool selects(unsigned credits) const { return !waiting_.empty() && outstanding_ < credits && !offered_; }
  /// Job j at bit j.
  std::uint32_t used_jobs() const { return used_; }
  std::uint32_t released_jobs() const;
  unsigned free() const { return depth_ - static_cast<unsigned>(waiting_.size()); }
  unsigned outstanding() const { return outstanding_; }
  /// The request on the port, if any.
  bool offers() const { return offered_; }
  unsigned offered_id() const { return offered_id_; }
  const program::Descriptor& offered() const { return offered_load_; }
  bool error() const { return error_; }

 private:
  bool accepts(const program::Descriptor& d) const;
  /// A request that the storage has not accepted yet cannot have been completed.
  bool is_owed(unsigned id) const {
    return id < credits_ && (busy_ids_ >> id & 1) != 0 && !(offered_ && offered_id_ == id);
  }

  unsigned depth_, credits_, jobs_;
  std::vector<program::Descriptor> waiting_;          // oldest first
  std::uint32_t used_ = 0, closed_ = 0, passed_ = 0;  // by job
  std::array<std::uint32_t, 16> missing_{};           // by job: planes that are not resident
  std::uint64_t busy_ids_ = 0;
  std::array<std::uint8_t, 64> job_of_id_{};
  unsigned outstanding_ = 0;  // requests offered or accepted and not completed
  bool offered_ = false, error_ = false;
  unsigned offered_id_ = 0;
  program::Descriptor offered_load_;
};

}  // namespace moesaic::fast
