#pragma once
/// The general form of the mapper's problem: choose one option of every item, least total cost, under limits on what
/// the chosen options use.
///
///   minimise    sum over items of cost(chosen option)
///   subject to  sum over the items of limit c of use_c(chosen option) <= capacity[c]      for every limit c
///
/// A limit counts the items that name it: all of them (a budget for the model) or some (a layer's). Uses may be
/// negative: "at least n experts of a format" is a limit whose options of that format use -1 under a capacity of -n.
/// Everything is an integer, so that solvers, bounds and checkers compare with ==.
#include <cstdint>
#include <vector>

namespace moesaic::mapping {

struct ProgramOption {
  std::int64_t cost = 0;          ///< at least 0
  std::vector<std::int64_t> use;  ///< of the item's limits, in their order
};

struct ProgramItem {
  std::vector<int> limits;             ///< distinct indices into ChoiceProgram::capacity
  std::vector<ProgramOption> options;  ///< at least one
};

struct ChoiceProgram {
  std::vector<std::int64_t> capacity;
  std::vector<ProgramItem> items;
};

/// Throws std::logic_error for an item without options, a list of another length than its item's,
/// an unknown limit, a negative cost, and greatest costs or greatest magnitudes of use that sum to 2^51 or more.
void check_program(const ChoiceProgram& program);

/// One option's index per item.
using Choices = std::vector<int>;

std::int64_t program_cost(const ChoiceProgram& program, const Choices& choices);
/// What is used of every limit.
std::vector<std::int64_t> program_use(const ChoiceProgram& program, const Choices& choices);
bool within_limits(const ChoiceProgram& program, const Choices& choices);

/// A Lagrangian certificate: for multipliers num[c] / den >= 0, no choice within the limits costs less than
///   bound = ceil((sum over items of min over options of (cost * den + sum of num[c] * use_c)
///                 - sum of num[c] * capacity[c]) / den).
/// Anyone can recompute it from the tables.
struct Certificate {
  std::vector<__int128> num;
  std::int64_t den = 1;
  std::int64_t bound = 0;
};

}  // namespace moesaic::mapping
