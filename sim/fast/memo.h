#pragma once
/// What the fast engine remembers: states of the machine, moments of the memory, and what followed them. All of it lies
/// in arenas: nothing is freed but everything at once.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory_resource>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "models/memory/recurring.h"
#include "sim/fast/feeds.h"
#include "sim/program/command_work.h"
#include "sim/program/commands.h"
#include "sim/program/engine_run.h"
#include "sim/program/refresh_waits.h"

namespace moesaic::fast {

/// Memory that is taken back all at once.
class Arena final : public std::pmr::memory_resource {
 public:
  std::size_t bytes() const { return bytes_; }  ///< given out
  void clear() {
    pool_.release();
    bytes_ = 0;
  }
  template <class T>
  T* make() {
    static_assert(std::is_trivially_destructible_v<T>);
    return new (allocate(sizeof(T), alignof(T))) T();
  }
  /// Of trivial elements; null for none.
  template <class T>
  const T* copy(const T* from, std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (count == 0) return nullptr;
    void* const to = allocate(count * sizeof(T), alignof(T));
    std::memcpy(to, from, count * sizeof(T));
    return static_cast<const T*>(to);
  }
  template <class T>
  const T* copy(const std::vector<T>& from) {
    return copy(from.data(), from.size());
  }

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    bytes_ += bytes;
    return pool_.allocate(bytes, alignment);
  }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }
  std::pmr::monotonic_buffer_resource pool_{std::size_t{1} << 16};
  std::size_t bytes_ = 0;
};

/// What is remembered under a key.
struct Remembered {
  std::string_view key;
  std::size_t hash = 0;
};

/// All that is remembered of one kind. Keys are compared in full.
template <class T>
class Memo {
 public:
  Memo() { clear(); }
  static std::size_t hash(std::string_view key) { return std::hash<std::string_view>()(key); }
  T* find(std::string_view key, std::size_t hash) {
    T probe;
    probe.key = key;
    probe.hash = hash;
    const auto found = set_->find(&probe);
    return found == set_->end() ? nullptr : *found;
  }
  /// New, and under this key, which is copied.
  T* add(std::string_view key, std::size_t hash) {
    T* const added = arena_.make<T>();
    added->key = {arena_.copy(key.data(), key.size()), key.size()};
    added->hash = hash;
    set_->insert(added);
    return added;
  }
  Arena& arena() { return arena_; }
  std::size_t bytes() const { return arena_.bytes(); }
  void clear() {
    set_.reset();
    arena_.clear();
    set_.emplace(&arena_);
  }

 private:
  struct Hash {
    std::size_t operator()(const T* one) const { return one->hash; }
  };
  struct Same {
    bool operator()(const T* a, const T* b) const { return a->hash == b->hash && a->key == b->key; }
  };
  Arena arena_;
  std::optional<std::pmr::unordered_set<T*, Hash, Same>> set_;
};

/// A list of T, linked by T::beside. What was found goes to its front.
template <class T>
struct Found {
  T* first = nullptr;
  void add(T* one) {
    one->beside = first;
    first = one;
  }
  /// `before` is the one before it, null for the first.
  void to_front(T* one, T* before) {
    if (before == nullptr) return;
    before->beside = one->beside;
    add(one);
  }
};

/// Blocks' activity and causes over a stretch of cycles.
struct Counts {
  std::array<std::array<std::uint32_t, 4>, program::kNumBlocks> activity{};
  std::array<std::uint32_t, program::kNumCauses> causes{};
};

/// Packed; and unpacked again.
std::string_view keep_counts(const Counts& counts, Arena& arena);
Counts read_counts(std::string_view bytes);

/// A cycle of an outcome, from its state on.
using LegCycle = std::uint16_t;

/// Items taken from a feed.
struct Taken {
  Feed feed;
  std::uint8_t count;
};

/// What the host's agent is told at the edge that ends a cycle, completions of loads apart.
struct News {
  bool load_pushed = false, command_pushed = false, executed = false;
  bool idle = false;  ///< the core is, and has executed all that was pushed: the phase ends if it has no more
  bool any() const { return load_pushed || command_pushed || executed; }
};

/// Of one feed, by an outcome.
inline void check_remembered(std::uint64_t count) {
  if (count > Feeds::kRemembered) throw std::logic_error("fast: more was taken than is remembered");
}

struct State;
struct Kind;
struct Outcome;

/// What a stocked outcome is beyond an Outcome: one in which beats of weights lie in the reader's buffer in every
/// cycle, so that it does not matter in which of them more of these come.
struct Stock {
  Kind* next = nullptr;
  std::uint8_t still = 0;      ///< State::still at its end
  std::uint32_t activity = 0;  ///< State::activity there
  Found<Outcome> variants;     ///< with_beats()
  static constexpr unsigned kMostCycles = 320;
  using Cycles = std::array<std::uint64_t, kMostCycles / 64>;  ///< a bit each
  Cycles works{};                                              ///< in which the reader does more than to take a beat
  Cycles adds{};                                               ///< in which sums are added to the accumulators
  /// Of the cycles of beats that come, those in which it does not.
  std::uint32_t count_others(const std::vector<LegCycle>& beats) const {
    std::uint32_t count = 0;
    for (const LegCycle cycle : beats) count += (works[cycle / 64] >> cycle % 64 & 1) == 0 ? 1 : 0;
    return count;
  }
};

/// What was asked for, as Leg has it.
struct Asked {
  std::int64_t offset = 0;
  std::int32_t item = 0;
  std::uint16_t beats = 0;
  Feed feed{};
};

/// What followed a state, once, up to the next one or to the first edge at which the agent is told something, while the
/// I/O queue and the storage rested. Cycles are from the state on.
struct Outcome {
  Outcome* beside = nullptr;
  State* next = nullptr;   ///< before the agent answers; null of a stocked one
  Stock* stock = nullptr;  ///< of a stocked one, all else of which is as if no beat of weights came
  std::uint32_t cycles = 0;
  std::uint32_t still = 0;  ///< cycles from the last in which a block moved to the end; more than `cycles` if none did
  News news;                ///< at the end
  std::array<std::uint16_t, program::kNumMemoryPorts> beats{};  ///< that crossed each port
  std::uint8_t followed = 0;
  std::uint8_t num_taken = 0, num_asked = 0;
  std::uint8_t segments = 0;  ///< of weights that are taken
  bool joins = false;         ///< Core::join_bursts() at its end
  /// Of several put together: segments taken up to the last at whose end it was true, if it is not at the end of all.
  std::uint8_t joined = kNotJoined;
  static constexpr std::uint8_t kNotJoined = 255;
  std::uint16_t num_items = 0, num_waits = 0;
  std::uint32_t num_begins = 0, num_ends = 0;
  const Taken* taken = nullptr;  ///< of each feed from which something was taken
  const Item* items = nullptr;   ///< feed by feed
  const std::uint32_t* tile_begins = nullptr;
  const std::uint32_t* tile_ends = nullptr;
  const program::RefreshWaits::Wait* waits = nullptr;  ///< where the memory refreshes
  const Asked* asked = nullptr;                        ///< where the memory was asked and may be repeated too
  std::string_view counts;                             ///< Counts, as varints
  program::CommandWork work;
  std::uint64_t times = 0;  ///< not yet in the run's counts
};

/// What beats of weights that come in a stocked outcome add to it.
struct Came {
  std::uint16_t beats = 0;
  std::uint32_t busy = 0;   ///< cycles in which they are all that the reader does
  std::uint32_t still = 0;  ///< Outcome::still with them
};

/// Of an outcome that was recorded: what came in it is left out, so that it may be a stocked one. Came::still is its
/// Outcome::still without them.
void leave_out_beats(Outcome& outcome, const Came& came, Arena& arena);
/// The stocked outcome with what came as an outcome of its own, one of Stock::variants.
Outcome& with_beats(Outcome& stocked, const Came& came, State* next, Arena& arena);

/// A stretch of what followed a state behind a memory that was asked as the run went: the beats that came, up to the
/// next time that the core asked for some, or to the end of the outcome.
struct Leg {
  Leg* beside = nullptr;
  Found<Leg> next;
  Outcome* outcome = nullptr;           ///< the outcome ends here
  const Taken* taken = nullptr;         ///< of each feed from which something was taken
  const Item* items = nullptr;          ///< feed by feed
  const LegCycle* beats = nullptr;      ///< that came, in which cycle from the state on; ascending
  const std::uint8_t* ports = nullptr;  ///< on which ports; of a cycle ascending
  /// Stocked, in place of those two: the cycles in which a beat left the buffer; that of the cycle in which a leg asks
  /// is the next leg's.
  const LegCycle* left = nullptr;
  std::int64_t offset = 0;  ///< of the beats asked for: bytes from behind the segment, of a chunk from its first beat
  std::int32_t item = 0;    ///< in which they lie: its number, from what the state has taken on
  std::uint8_t num_taken = 0;
  std::uint16_t num_beats = 0, num_left = 0, num_items = 0;
  bool of_one_port = false;  ///< there are beats, all of them on one
  LegCycle until = 0;        ///< the cycle, from the state on, through which no others came
  std::uint8_t port = 0;     ///< asked for in that cycle
  std::uint8_t count = 0;    ///< beats; 0: none
};

/// States that differ only in how many of the beats of weights that were asked for have come.
struct Kind : Remembered {
  Found<State> states;
  Found<Leg> stocked;
  std::uint32_t used = 0;  ///< places in the buffer that are taken, by a beat or for one that is owed
};

struct State {
  State* beside = nullptr;
  Kind* kind = nullptr;
  Found<Outcome> outcomes;              ///< with the memory's state in the key
  Found<Leg> legs;                      ///< without; none of them stocked
  std::uint32_t owed = 0;               ///< beats of weights
  std::uint32_t tried = 0, passed = 0;  ///< times that the memory's moment was looked up, that it needed not be asked
  std::uint32_t activity = 0;           ///< while nothing moves until a beat comes
  std::uint32_t number = 0;             ///< in the order of adding: names it wherever it lies
  std::uint8_t still = 0;               ///< if nothing does: cycles to skip are a multiple of it
  bool may_part = false;                ///< Machine::may_part()
};

struct Place;

inline constexpr std::int64_t kNoRefresh = -1;

/// What followed a state and a moment of the memory, once.
struct Round {
  Round* beside = nullptr;
  Outcome* outcome = nullptr;
  Place* next = nullptr;
  const memory::Recurring::Pattern* patterns = nullptr;  ///< of Outcome::asked
  memory::Recurring::Stretch stretch;
  std::int64_t refresh = kNoRefresh;  ///< Recurring::until_refresh() at its beginning, if one was due in it
};

/// A stretch in which nothing moved until a beat came.
struct Skip {
  Skip* beside = nullptr;
  std::uint64_t cycles = 0;
  Place* next = nullptr;
  memory::Recurring::Stretch stretch;
  std::int64_t refresh = kNoRefresh;  ///< as Round's
};

/// A state and a moment of the memory: its key is the state's number and the moment.
struct Place : Remembered {
  Found<Round> rounds, refreshed;  ///< without and with a refresh
  Round* chain = nullptr;          ///< several rounds as one: each reads open rows and leaves them as they are
  unsigned num_rounds = 0, num_refreshed = 0;
  std::uint16_t passes = 0;  ///< since a chain was tried
  Found<Skip> skips;         ///< of a state in which nothing moves until a beat comes
  unsigned num_skips = 0;
  std::string_view moment() const { return key.substr(sizeof(State::number)); }
};

// ---- several rounds as one ----

/// The round reads straight on in open rows, and nothing follows but the next one.
bool may_link(const Round& round);
/// Rounds that may be linked, one behind the other, as one, with an outcome of its own; `stretch` is what happened in
/// all of them. Null where they take more than an outcome can.
Round* put_together(const std::vector<const Round*>& rounds, const memory::Recurring::Stretch& stretch, Arena& states,
                    Arena& places);

}  // namespace moesaic::fast
