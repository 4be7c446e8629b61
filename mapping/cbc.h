#pragma once
/// COIN-OR CBC as a second engine on the same ChoiceProgram: the `cbc` program on an LP file, with all gaps at zero.
/// Its answer is taken as choices alone and re-evaluated in integers: CBC computes in floating point.
#include <optional>
#include <string>

#include "mapping/choice_program.h"

namespace moesaic::mapping {

/// CPLEX LP format; binary x_i_o is option o of item i. Every number is written exactly.
std::string lp_text(const ChoiceProgram& program);

struct CbcAnswer {
  bool proved = false;      ///< CBC says that its answer is optimal, or that there is none
  bool infeasible = false;  ///< CBC says so, and no time limit made it
  Choices choices;          ///< empty when it gave none, or none that is one option of every item within the limits
  std::int64_t cost = 0;    ///< of choices, in integers
  std::string status;       ///< the first line of CBC's solution
};

/// Whether a program named cbc can be run.
bool has_cbc();

/// Runs cbc (one thread) for at most `time_limit_s` of wall-clock time; two seconds later it is killed, and the answer
/// has no choices and proves nothing. Nor does cbc outlive this program. Throws base::InputError when there is no cbc
/// to run.
CbcAnswer solve_with_cbc(const ChoiceProgram& program, std::optional<double> time_limit_s);

}  // namespace moesaic::mapping
