#include "sim/program/load_order.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace moesaic::program {

namespace {

using Expert = std::pair<unsigned, unsigned>;  // layer, expert
Expert expert_of(const Descriptor& d) { return {d.layer, d.expert}; }

std::size_t next_by_index(const std::vector<Descriptor>& waiting) {
  const auto key = [](const Descriptor& d) { return std::tuple(expert_of(d), d.plane); };
  const auto best = std::min_element(waiting.begin(), waiting.end(),
                                     [&key](const Descriptor& a, const Descriptor& b) { return key(a) < key(b); });
  return static_cast<std::size_t>(best - waiting.begin());
}

std::size_t next_hottest(const std::vector<Descriptor>& waiting) {
  std::map<Expert, std::size_t> heads;
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    const auto [head, is_new] = heads.try_emplace(expert_of(waiting[i]), i);
    if (!is_new && waiting[i].plane < waiting[head->second].plane) head->second = i;
  }
  // The map is in the order of experts, and max_element keeps the first of equals.
  const auto hottest = std::max_element(heads.begin(), heads.end(), [&waiting](const auto& a, const auto& b) {
    return waiting[a.second].requests < waiting[b.second].requests;
  });
  return hottest->second;
}

}  // namespace

std::size_t next_load(const std::vector<Descriptor>& waiting, LoadOrder order) {
  switch (order) {
    case LoadOrder::kFifo:
      return 0;
    case LoadOrder::kExpertIndex:
      return next_by_index(waiting);
    case LoadOrder::kHebf:
      return next_hottest(waiting);
  }
  return 0;
}

std::vector<std::size_t> load_sequence(const std::vector<Descriptor>& descriptors, LoadOrder order) {
  std::vector<Descriptor> waiting = descriptors;
  std::vector<std::size_t> left(descriptors.size()), sequence;
  std::iota(left.begin(), left.end(), std::size_t{0});
  while (!waiting.empty()) {
    const auto next = static_cast<std::ptrdiff_t>(next_load(waiting, order));
    sequence.push_back(left[static_cast<std::size_t>(next)]);
    waiting.erase(waiting.begin() + next);
    left.erase(left.begin() + next);
  }
  return sequence;
}

LoadOrder parse_load_order(const std::string& name, const std::string& where, const std::string& key) {
  std::string names;
  for (std::size_t i = 0; i < kLoadOrderNames.size(); ++i) {
    if (name == kLoadOrderNames[i]) return static_cast<LoadOrder>(i);
    names += (i == 0 ? "" : ", ") + std::string(kLoadOrderNames[i]);
  }
  throw base::ConfigError(where, key, "'" + name + "'", "one of " + names);
}

}  // namespace moesaic::program
