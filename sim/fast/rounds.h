#pragma once
/// Core and memory repeat themselves together (docs/fast.md): where the memory is at a moment that it was at before, in
/// the same state of the machine (a Place), and what is asked for looks the same to it, what followed then (a Round)
/// follows now without asking. The memory is left where it is meanwhile, until land().
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "models/memory/recurring.h"
#include "sim/fast/machine.h"
#include "sim/fast/memo.h"
#include "sim/fast/paths.h"
#include "sim/fast/states.h"

namespace moesaic::fast {

class Rounds {
 public:
  /// Where the memory does not come back to moments there is no place ever.
  Rounds(Machine& machine, States& states)
      : machine_(machine),
        states_(states),
        feeds_(machine.feeds()),
        recurring_(machine.memory().model().recurring()),
        eager_(machine.options().eager) {}

  /// The place at hand after the outcome, at the state `next`, among those remembered, new if need be; null when the
  /// memory is not in a moment, or it does not seem worth knowing.
  Place* find_after(Outcome& outcome, State& next) { return is_familiar(outcome, next) ? find(next) : nullptr; }
  /// The same of a state.
  Place* find(State& state);

  /// From here on a stretch of the memory.
  void mark();
  /// What happened from the mark on, at `place`, to `next`: so many cycles were skipped, or the path was followed to
  /// the outcome, to `state`.
  void add_skip(Place& place, std::uint64_t count, Place* next);
  void add_round(Place& place, Outcome& outcome, const Paths::Path& path, State& state, Place* next);

  /// Goes on from a place as it did before; null, and nothing done but that cycles were skipped, where this is
  /// something new.
  const Round* go(State& state, Place*& place);
  /// The memory goes back to being asked, at the place where it would be.
  void land(const Place* place);

  bool are_full() const { return memo_.bytes() > machine_.options().state_bytes / 2; }
  /// All places; none may be referred to then, and the memory must have landed.
  void forget() { memo_.clear(); }

 private:
  bool is_familiar(Outcome& outcome, const State& next) const;
  bool refreshes_within(std::uint64_t count);
  std::int64_t refresh_since_mark(std::uint64_t count) const;
  bool is_refreshed_alike(std::int64_t refresh, std::uint64_t count, const memory::Recurring::Stretch& stretch);
  bool note_path(Outcome& outcome, const Paths::Path& path);
  std::optional<memory::Recurring::Stretch> keep_stretch(std::int64_t refresh);
  const Skip* find_skip(Place& place);
  Round* find_round(Found<Round>& rounds, std::uint64_t most);
  bool may_go(const Round& round, std::uint64_t most);
  bool fits(const Round& round);
  void check_plain(std::uint64_t origin, std::uint64_t address, std::uint64_t bytes);
  void pass(const memory::Recurring::Stretch& stretch, std::uint64_t end);
  const Round* pass(const Round& round);
  void begin_chain(Place& place);
  const Round* go_on(const Round& round);
  void end_chain();

  std::uint64_t bytes_of(const Asked& asked) const { return std::uint64_t{asked.beats} * machine_.beat_bytes(); }

  Machine& machine_;
  States& states_;
  Feeds& feeds_;
  memory::Recurring* const recurring_;
  const bool eager_;

  Memo<Place> memo_;
  std::vector<std::uint32_t> met_;  // parts of numbers of glances
  std::string key_;
  bool away_ = false;                                    // the memory is not where the place at hand is, which is
  std::uint64_t marked_at_ = 0;                          // cycle of the last mark
  std::uint64_t mark_end_ = 0;                           // Recurring::end() there
  std::uint64_t quiet_until_ = 0;                        // no refresh is due in cycles up to it
  std::uint64_t round_end_ = 0;                          // after the round that fits
  std::uint64_t plain_from_ = kNever, plain_until_ = 0;  // from the one on, Recurring::plain_until() is the other
  bool same_rows_ = false;                               // are open as before the last stretch that was passed

  std::vector<const Round*> chain_;  // of chain_from_, as far as it was passed
  Place* chain_from_ = nullptr;
  bool chain_begins_ = false;

  // Before they are kept.
  std::vector<Item> items_;
  std::vector<Asked> asked_;
  std::vector<memory::Recurring::Pattern> patterns_;
  std::string stretch_;
};

}  // namespace moesaic::fast
