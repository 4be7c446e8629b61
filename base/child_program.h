#pragma once
/// Another program, run and waited for. It does not outlive this one, however this one ends, nor a time limit.
#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace moesaic::base {

struct ProgramEnd {
  int status = 0;          ///< its exit status; -1 when a signal ended it
  bool timed_out = false;  ///< it was killed at the limit
};

/// Runs `words`, the first of which PATH finds, without input and output. Nothing when it cannot be started. After
/// `limit` of wall-clock time it is killed. A signal that ends this program kills it too (leftovers.h), and so does
/// the end of the thread that called.
std::optional<ProgramEnd> run_program(const std::vector<std::string>& words,
                                      std::optional<std::chrono::duration<double>> limit = std::nullopt);

}  // namespace moesaic::base
