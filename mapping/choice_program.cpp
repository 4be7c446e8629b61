#include "mapping/choice_program.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace moesaic::mapping {

namespace {

constexpr std::int64_t kTotalLimit = std::int64_t{1} << 51;

std::size_t index(int i) { return static_cast<std::size_t>(i); }

}  // namespace

void check_program(const ChoiceProgram& program) {
  std::int64_t cost_sum = 0;
  std::vector<std::int64_t> use_sum(program.capacity.size(), 0);
  for (const ProgramItem& item : program.items) {
    if (item.options.empty()) throw std::logic_error("choice program: an item of no option");
    std::vector<std::int64_t> most(item.limits.size(), 0);
    std::int64_t dearest = 0;
    for (const ProgramOption& o : item.options) {
      if (o.cost < 0 || o.cost >= kTotalLimit) throw std::logic_error("choice program: a cost out of range");
      dearest = std::max(dearest, o.cost);
      if (o.use.size() != item.limits.size()) throw std::logic_error("choice program: uses of other limits");
      for (std::size_t k = 0; k < o.use.size(); ++k) {
        if (o.use[k] <= -kTotalLimit || o.use[k] >= kTotalLimit)
          throw std::logic_error("choice program: a use out of range");
        most[k] = std::max(most[k], std::abs(o.use[k]));
      }
    }
    cost_sum += dearest;
    if (cost_sum >= kTotalLimit) throw std::logic_error("choice program: total cost out of range");
    for (std::size_t k = 0; k < most.size(); ++k) {
      std::int64_t& sum = use_sum.at(index(item.limits[k]));
      sum += most[k];
      if (sum >= kTotalLimit) throw std::logic_error("choice program: total use out of range");
    }
  }
}

std::int64_t program_cost(const ChoiceProgram& program, const Choices& choices) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < program.items.size(); ++i) sum += program.items[i].options.at(index(choices.at(i))).cost;
  return sum;
}

std::vector<std::int64_t> program_use(const ChoiceProgram& program, const Choices& choices) {
  std::vector<std::int64_t> sum(program.capacity.size(), 0);
  for (std::size_t i = 0; i < program.items.size(); ++i) {
    const ProgramItem& item = program.items[i];
    const ProgramOption& o = item.options.at(index(choices.at(i)));
    for (std::size_t k = 0; k < item.limits.size(); ++k) sum[index(item.limits[k])] += o.use[k];
  }
  return sum;
}

bool within_limits(const ChoiceProgram& program, const Choices& choices) {
  const std::vector<std::int64_t> use = program_use(program, choices);
  for (std::size_t c = 0; c < use.size(); ++c)
    if (use[c] > program.capacity[c]) return false;
  return true;
}

}  // namespace moesaic::mapping
