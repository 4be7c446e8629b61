#include "mapping/cbc.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <sstream>
#include <vector>

#include "base/atomic_file.h"
#include "base/child_program.h"
#include "base/error.h"
#include "base/leftovers.h"
#include "base/temporary_folder.h"

namespace moesaic::mapping {

namespace {

/// What CBC gets beyond its limit to write its answer. It looks at the clock rarely, and in its preprocessing not at
/// all.
constexpr double kGraceSeconds = 2;

void append_term(std::string& text, std::int64_t factor, const std::string& name) {
  text += fmt::format("\n {} {} {}", factor < 0 ? '-' : '+', factor < 0 ? -factor : factor, name);
}

}  // namespace

std::string lp_text(const ChoiceProgram& program) {
  const auto name = [](std::size_t i, std::size_t o) { return fmt::format("x_{}_{}", i, o); };
  std::string text = "Minimize\n cost:";
  std::vector<std::string> rows(program.capacity.size());
  std::string ones, names;
  for (std::size_t i = 0; i < program.items.size(); ++i) {
    const ProgramItem& item = program.items[i];
    ones += fmt::format(" one_{}:", i);
    for (std::size_t o = 0; o < item.options.size(); ++o) {
      append_term(text, item.options[o].cost, name(i, o));
      for (std::size_t k = 0; k < item.limits.size(); ++k)
        append_term(rows[static_cast<std::size_t>(item.limits[k])], item.options[o].use[k], name(i, o));
      append_term(ones, 1, name(i, o));
      names += " " + name(i, o) + "\n";
    }
    ones += "\n = 1\n";
  }
  text += "\nSubject To\n";
  for (std::size_t c = 0; c < rows.size(); ++c)
    if (!rows[c].empty()) text += fmt::format(" limit_{}:{}\n <= {}\n", c, rows[c], program.capacity[c]);
  return text + ones + "Binary\n" + names + "End\n";
}

bool has_cbc() { return base::run_program({"cbc", "-quit"}).has_value(); }

CbcAnswer solve_with_cbc(const ChoiceProgram& program, std::optional<double> time_limit_s) {
  check_program(program);
  const base::TemporaryFolder folder("moesaic-cbc-");
  const std::string problem = folder.file("problem.lp"), answer_file = folder.file("answer.txt");
  const base::Leftover unlinked_problem = base::Leftover::file(problem),
                       unlinked_answer = base::Leftover::file(answer_file);
  base::write_file(problem, lp_text(program));
  std::vector<std::string> words = {"cbc", problem, "ratioGap", "0", "allowableGap", "0"};
  if (time_limit_s) {
    for (const char* word : {"timeMode", "elapsed", "sec"}) words.emplace_back(word);
    words.push_back(fmt::format("{}", *time_limit_s));
  }
  for (const char* word : {"solve", "solution"}) words.emplace_back(word);
  words.push_back(answer_file);
  std::optional<std::chrono::duration<double>> limit;
  if (time_limit_s) limit = std::chrono::duration<double>(*time_limit_s + kGraceSeconds);
  const std::optional<base::ProgramEnd> end = base::run_program(words, limit);
  if (!end) throw base::InputError("cbc: got no such program, expected COIN-OR CBC (Debian package coinor-cbc)");
  CbcAnswer answer;
  if (end->timed_out) {
    answer.status = fmt::format("stopped {} s beyond its time limit, nothing proved", kGraceSeconds);
    return answer;
  }
  if (!std::filesystem::exists(answer_file)) {
    answer.status = "no answer";
    return answer;
  }
  std::istringstream lines(base::read_file(answer_file));
  std::getline(lines, answer.status);
  // Stopped by its time limit before it found a choice, CBC says "Integer infeasible" too: that proves nothing.
  answer.infeasible = !time_limit_s && answer.status.find("nfeasible") != std::string::npos;
  answer.proved = answer.infeasible || answer.status.rfind("Optimal", 0) == 0;
  if (answer.status.find("nfeasible") != std::string::npos) return answer;
  Choices choices(program.items.size(), -1);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string mark, variable;
    double value = 0;
    fields >> mark;
    if (mark == "**") fields >> mark;  // CBC marks what it thinks is out of bounds
    fields >> variable >> value;
    unsigned item = 0, option = 0;
    if (!fields || std::sscanf(variable.c_str(), "x_%u_%u", &item, &option) != 2 || std::lround(value) != 1) continue;
    if (item >= choices.size() || option >= program.items[item].options.size() || choices[item] >= 0) return answer;
    choices[item] = static_cast<int>(option);
  }
  for (const int c : choices)
    if (c < 0) return answer;
  if (!within_limits(program, choices)) return answer;
  answer.choices = choices;
  answer.cost = program_cost(program, choices);
  return answer;
}

}  // namespace moesaic::mapping
