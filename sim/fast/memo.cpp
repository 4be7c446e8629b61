#include "sim/fast/memo.h"

#include <algorithm>
#include <string>

#include "base/varint.h"

namespace moesaic::fast {

namespace {

/// Of rounds put together, of one feed: counts of an outcome are bytes, and as much may have been taken just before.
constexpr std::size_t kMostOfFeed = Feeds::kRemembered / 2;

template <class T>
void append(std::vector<T>& all, const T* from, std::size_t count) {
  all.insert(all.end(), from, from + count);
}

std::string pack(const Counts& counts) {
  std::string bytes;
  {
    base::VarintWriter out(bytes);
    for (const auto& block : counts.activity)
      for (const std::uint32_t count : block) out.put(count);
    for (const std::uint32_t count : counts.causes) out.put(count);
  }
  return bytes;
}

std::string_view keep(const std::string& bytes, Arena& arena) {
  return {arena.copy(bytes.data(), bytes.size()), bytes.size()};
}

/// The counts with so many cycles more in which the weight reader is busy, and not blocked.
std::string count_beats(std::string_view bytes, std::uint32_t busy) {
  Counts counts = read_counts(bytes);
  auto& reader = counts.activity[static_cast<std::size_t>(program::Block::kWeightReader)];
  reader[static_cast<std::size_t>(program::Activity::kBusy)] += busy;
  reader[static_cast<std::size_t>(program::Activity::kBlocked)] -= busy;
  return pack(counts);
}

}  // namespace

std::string_view keep_counts(const Counts& counts, Arena& arena) { return keep(pack(counts), arena); }

Counts read_counts(std::string_view bytes) {
  Counts counts;
  base::VarintReader in(bytes);
  for (auto& block : counts.activity)
    for (std::uint32_t& count : block) count = static_cast<std::uint32_t>(in.get());
  for (std::uint32_t& count : counts.causes) count = static_cast<std::uint32_t>(in.get());
  return counts;
}

Outcome& with_beats(Outcome& stocked, const Came& came, State* next, Arena& arena) {
  constexpr auto kPort = static_cast<std::size_t>(program::MemoryPort::kWeightRead);
  const std::string counts = count_beats(stocked.counts, came.busy);
  for (Outcome* known = stocked.stock->variants.first; known != nullptr; known = known->beside)
    if (known->next == next && known->beats[kPort] == came.beats && known->still == came.still &&
        known->counts == counts)
      return *known;
  Outcome& outcome = *arena.make<Outcome>();
  outcome = stocked;
  outcome.stock = nullptr;
  outcome.next = next;
  outcome.times = 0;
  outcome.followed = 0;
  outcome.still = came.still;
  outcome.beats[kPort] = came.beats;
  outcome.counts = keep(counts, arena);
  stocked.stock->variants.add(&outcome);
  return outcome;
}

void leave_out_beats(Outcome& outcome, const Came& came, Arena& arena) {
  outcome.next = nullptr;
  outcome.beats[static_cast<std::size_t>(program::MemoryPort::kWeightRead)] = 0;
  outcome.counts = keep(count_beats(outcome.counts, 0 - came.busy), arena);
  outcome.still = came.still;
}

bool may_link(const Round& round) {
  const Outcome& outcome = *round.outcome;
  return round.refresh == kNoRefresh && !outcome.news.any() && !outcome.news.idle &&
         std::all_of(round.patterns, round.patterns + outcome.num_asked,
                     [](const memory::Recurring::Pattern& one) { return one.rows == 0; });
}

Round* put_together(const std::vector<const Round*>& rounds, const memory::Recurring::Stretch& stretch, Arena& states,
                    Arena& places) {
  std::array<std::vector<Item>, kNumFeeds> of_feed;
  std::vector<program::RefreshWaits::Wait> waits;
  std::vector<std::uint32_t> begins, ends;
  std::vector<Asked> asked;
  std::vector<memory::Recurring::Pattern> patterns;
  bool waits_somewhere = false;
  Counts counts;
  Outcome all;
  all.still = 1;
  for (const Round* const round : rounds) {
    const Outcome& one = *round->outcome;
    const Counts more = read_counts(one.counts);
    for (unsigned b = 0; b < program::kNumBlocks; ++b)
      for (unsigned a = 0; a < 4; ++a) counts.activity[b][a] += more.activity[b][a];
    for (std::size_t c = 0; c < program::kNumCauses; ++c) counts.causes[c] += more.causes[c];
    for (unsigned i = 0; i < one.num_waits; ++i)
      waits.push_back({one.waits[i].begin + all.cycles, one.waits[i].end + all.cycles, one.waits[i].port});
    for (std::uint32_t i = 0; i < one.num_begins; ++i) begins.push_back(one.tile_begins[i] + all.cycles);
    for (std::uint32_t i = 0; i < one.num_ends; ++i) ends.push_back(one.tile_ends[i] + all.cycles);
    for (unsigned i = 0; i < one.num_asked; ++i) {
      asked.push_back(one.asked[i]);
      asked.back().item += static_cast<std::int32_t>(of_feed[static_cast<unsigned>(one.asked[i].feed)].size());
    }
    append(patterns, round->patterns, one.num_asked);
    waits_somewhere = waits_somewhere || round->stretch.waits;
    const Item* item = one.items;
    for (unsigned i = 0; i < one.num_taken; item += one.taken[i++].count)
      append(of_feed[static_cast<unsigned>(one.taken[i].feed)], item, one.taken[i].count);
    for (std::size_t p = 0; p < program::kNumMemoryPorts; ++p)
      all.beats[p] = static_cast<std::uint16_t>(all.beats[p] + one.beats[p]);
    all.work.passed(one.work, all.cycles);
    all.still = one.still <= one.cycles ? one.still : all.still + one.cycles;
    all.cycles += one.cycles;
    all.segments = static_cast<std::uint8_t>(all.segments + one.segments);
    all.joins = one.joins;
    if (one.joins) all.joined = all.segments;
  }
  std::vector<Taken> taken;
  std::vector<Item> items;
  for (unsigned f = 0; f < kNumFeeds; ++f) {
    if (of_feed[f].empty()) continue;
    if (of_feed[f].size() > kMostOfFeed) return nullptr;
    taken.push_back({static_cast<Feed>(f), static_cast<std::uint8_t>(of_feed[f].size())});
    append(items, of_feed[f].data(), of_feed[f].size());
  }
  if (asked.size() > kMostOfFeed) return nullptr;
  all.next = rounds.back()->outcome->next;
  if (all.joins) all.joined = Outcome::kNotJoined;
  all.counts = keep_counts(counts, states);
  all.num_taken = static_cast<std::uint8_t>(taken.size());
  all.taken = states.copy(taken);
  all.num_items = static_cast<std::uint16_t>(items.size());
  all.items = states.copy(items);
  all.num_waits = static_cast<std::uint16_t>(waits.size());
  all.waits = states.copy(waits);
  all.num_begins = static_cast<std::uint32_t>(begins.size());
  all.tile_begins = states.copy(begins);
  all.num_ends = static_cast<std::uint32_t>(ends.size());
  all.tile_ends = states.copy(ends);
  all.num_asked = static_cast<std::uint8_t>(asked.size());
  all.asked = states.copy(asked);
  Outcome* const outcome = states.make<Outcome>();
  *outcome = all;
  Round* const chain = places.make<Round>();
  chain->outcome = outcome;
  chain->next = rounds.back()->next;
  chain->patterns = places.copy(patterns);
  chain->stretch = {stretch.what, waits_somewhere, false, {}};
  return chain;
}

}  // namespace moesaic::fast
