#pragma once
/// The memory behind the core's ports, which is asked beat by beat: by the core as it steps, or by a path that is
/// followed (Paths) and asks what the core asked for before. Where such a path ends in something new, the core steps
/// from its beginning: what the path asked for and what came is then told to the core in the memory's place, so that
/// the memory sees everything once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

#include "models/memory/memory_model.h"
#include "sim/fast/leg_recorder.h"
#include "sim/fast/memo.h"
#include "sim/fast/ports.h"

namespace moesaic::fast {

class AskedMemory {
 public:
  AskedMemory(std::unique_ptr<memory::MemoryModel> model, unsigned beat_bytes)
      : model_(std::move(model)), beat_bytes_(beat_bytes), settles_(model_->takes_ports_apart()) {}
  memory::MemoryModel& model() { return *model_; }
  const memory::MemoryModel& model() const { return *model_; }

  // ---- by the core, cycle by cycle ----

  /// A cycle is stepped: what is known of beats that come is known no more.
  void step() { looked_ = false; }
  /// Whether the memory takes the beat.
  bool submit(unsigned port, bool is_write, std::uint64_t address, std::uint64_t now) {
    bool taken = true;
    const bool is_apart = apart_ && port == kWrites;
    if (is_apart) asked_about_ = now;
    if (submits_known_ > 0 && !is_apart) {
      --submits_known_;
    } else {
      taken = model_->submit(beat(port, is_write, address), cycles(now));
      owed_[port] += taken ? 1 : 0;
      quiet_until_[port] = 0;
      if (is_apart && taken) find_answers();
    }
    if (recorder_ != nullptr && !is_apart) recorder_->asked(port, address, taken, now);
    return taken;
  }
  /// As submit() of so many reads, one behind the other, up to one that is refused; returns how many were taken.
  unsigned submit_reads(unsigned port, std::uint64_t address, unsigned count, std::uint64_t now);
  /// Whether the port's next beat is there. What was asked before is not asked again.
  bool comes(unsigned port, bool is_write, std::uint64_t now) {
    bool yes = false;
    if (apart_ && port == kWrites) {
      if (answers_.empty() || now < cycle_of(answers_.front())) return false;
      answered_at_ = now;
      return true;
    }
    if (came_at_ < came_.size() && came_[came_at_] == static_cast<LegCycle>(now - begin_) &&
        came_ports_[came_at_] == port) {
      yes = true;
      ++came_at_;
    } else if (now >= ask_from_ && now >= quiet_until_[port]) {
      yes = is_there(port, is_write, now);
      if (yes) take_ |= 1U << port;
    }
    if (yes && recorder_ != nullptr) recorder_->came(port, now);
    return yes;
  }
  /// The core takes the beat that is there.
  void take(unsigned port, bool is_write) {
    if (apart_ && port == kWrites) {
      take_answer();
      return;
    }
    if ((take_ >> port & 1) == 0) return;
    take_ &= ~(1U << port);
    --owed_[port];
    if (!settles_) return model_->take(port, is_write);
    constexpr LegCycle kThere = 0;
    if (model_->take_as(port, is_write, cycles(there_at_[port]), 0, &kThere, 1) == 0)
      throw std::logic_error("fast: a beat that was there is not");
  }
  /// As silence(), while the core steps and the memory may still be asked about `now`; 0 where that is not known.
  std::uint64_t quiet(std::uint64_t now) const {
    std::uint64_t until = came_at_ < came_.size() ? begin_ + came_[came_at_] : kNever;
    for (unsigned port = 0; port < kNumPorts; ++port)
      if (owed_[port] != 0) until = std::min(until, std::max(ask_from_, quiet_until_[port]));
    return until > now ? until - now : 0;
  }
  /// Told what passes, until it is null.
  void record_to(LegRecorder* recorder) { recorder_ = recorder; }
  /// The core, at `now`, has been told all that a path came to know.
  bool is_told(std::uint64_t now) const {
    return came_at_ == came_.size() && submits_known_ == 0 && now >= ask_from_ && now > asked_about_;
  }

  /// The port that writes is no part of paths, and asks the memory, which must allow that
  /// (MemoryModel::takes_ports_apart()), as of cycles that may be ahead of the core's.
  void set_apart(bool apart);
  /// While it is apart: how many answers are to come, and the cycles until one of them does, or 0 where it is there.
  std::size_t num_answers() const { return answers_.size(); }
  std::uint64_t until_answer(std::size_t number, std::uint64_t now) const {
    const std::uint64_t at = cycle_of(answers_[number]);
    return at > now ? at - now : 0;
  }
  /// The next answer, which is there, is taken in the cycle `now`.
  void answer(std::uint64_t now) {
    answered_at_ = now;
    take_answer();
  }
  /// As MemoryModel::next_change(); kNever for nothing.
  std::uint64_t next_change(std::uint64_t now) {
    asked_about_ = now;
    const auto next = model_->next_change(cycles(now));
    return next ? static_cast<std::uint64_t>(next->count()) : kNever;
  }

  /// Beats that the memory took and that were not taken from it.
  std::uint64_t owed(unsigned port) const { return owed_[port]; }

  // ---- by a path, ahead of the core ----

  /// A path begins at `now`.
  void begin(std::uint64_t now);
  std::uint64_t begin_cycle() const { return begin_; }
  /// How many beats have come on the path.
  std::size_t num_came() const { return came_.size(); }
  /// Whether the beats from number `from` on are the leg's first.
  bool came_as(const Leg& leg, std::size_t from) const;
  /// Whether the beats from number `from` on that came up to the leg's end are the leg's.
  bool came_all_as(const Leg& leg, std::size_t from) const;
  /// Whether the next beat can be the leg's next, of which `done` have come, as far as is known without asking.
  bool may_come(const Leg& leg, std::size_t done) const {
    const std::uint64_t until = begin_ + leg.until;
    if (until + 1 < ask_from_ || until < asked_about_) return false;  // the memory is past its end
    const unsigned port = next_port();
    if (done == leg.num_beats) return !coming_[port].known || coming_[port].cycle > until;
    const std::uint64_t expected = begin_ + leg.beats[done];
    return coming_[port].known ? coming_[port].cycle == expected && leg.ports[done] == port
                               : coming_[port].cycle <= expected;
  }
  /// Takes beats as they come while they come as they did on this leg, of which `done` have. Whether all did.
  bool come(const Leg& leg, std::size_t done);
  /// Takes beats of weights as they come, as long as one stays in the buffer whenever one leaves it on this leg, which
  /// is stocked; `in_store` are there. Whether that was so, and no other beats came.
  bool come_stocked(const Leg& leg, std::uint32_t& in_store);
  /// What has come on the path, to such an outcome.
  Came sum_up(const Outcome& outcome) const;
  /// Asks for what the leg asks for at its end, from this address on. False: the memory has not taken all.
  bool ask(const Leg& leg, std::uint64_t address);
  /// The path has come to an end that is known, or the core has been told everything.
  void end() {
    came_.clear();
    submits_known_ = ask_from_ = 0;
  }

  // ---- between cycles, `now` the next one ----

  /// The cycles from `now` on in which the memory says nothing if it is not asked; kNever: never a word.
  std::uint64_t silence(std::uint64_t now);
  /// The memory was asked for something as of `now`: it is not asked about the cycle before any more.
  void set_asked(std::uint64_t now) { asked_at_ = now; }
  /// It was put to another moment, as of `now`, in which it owes so many beats of weights and no others.
  void set_moment(std::uint64_t owed, std::uint64_t now) {
    owed_ = {};
    quiet_until_ = {};
    owed_[kWeights] = owed;
    looked_ = false;
    set_asked(now);
  }

 private:
  /// The next beat of a port.
  struct Coming {
    std::uint64_t cycle = 0;
    bool known = false;  // false: not before
  };

  memory::Request beat(unsigned port, bool is_write, std::uint64_t address) const {
    return {port, is_write, address, base::Bytes(static_cast<std::int64_t>(beat_bytes_))};
  }
  unsigned next_port() const {
    unsigned port = 0;
    for (unsigned p = 1; p < kNumPorts; ++p)
      if (coming_[p].cycle < coming_[port].cycle) port = p;
    return port;
  }
  bool is_there(unsigned port, bool is_write, std::uint64_t now);
  void take_row(const Leg& leg, std::size_t& done);
  bool take_until(std::uint64_t cycle, std::uint64_t end, std::uint32_t& in_store);
  void look(unsigned port, std::uint64_t now, std::uint64_t first);
  void find_answers() {
    answers_.clear();
    model_->list_answers(kWrites, answers_);
  }
  void take_answer();
  static std::uint64_t cycle_of(base::Cycles cycle) { return static_cast<std::uint64_t>(cycle.count()); }

  std::unique_ptr<memory::MemoryModel> model_;
  const unsigned beat_bytes_;
  const bool settles_;  // the model itself knows when beats come, whatever other ports ask
  LegRecorder* recorder_ = nullptr;
  std::array<std::uint64_t, kNumPorts> owed_{};         // beats that the memory took and that were not taken
  unsigned take_ = 0;                                   // ports whose beat is the memory's still
  std::array<std::uint64_t, kNumPorts> quiet_until_{};  // before which no beat comes, if the port asks for nothing
  std::array<std::uint64_t, kNumPorts> there_at_{};     // a cycle in which that beat was there
  std::uint64_t asked_at_ = kNever;
  // While the port that writes is apart: when answers come; the cycle in which the next one is there.
  bool apart_ = false;
  std::vector<base::Cycles> answers_;
  std::uint64_t answered_at_ = 0;
  // Of the path.
  std::uint64_t begin_ = 0;
  std::array<Coming, kNumPorts> coming_{};
  bool looked_ = false;                   // coming_ is what the memory knew when last asked
  std::vector<LegCycle> came_;            // as Leg::beats
  std::vector<std::uint8_t> came_ports_;  // as Leg::ports
  std::size_t came_at_ = 0;               // those before were told to the core
  std::uint64_t ask_from_ = 0;            // cycle; of earlier ones came_ says all
  std::uint64_t asked_about_ = 0;         // the last cycle of which the memory was asked when beats come
  std::uint64_t submits_known_ = 0;       // that the memory took and the core has not yet made
};

}  // namespace moesaic::fast
