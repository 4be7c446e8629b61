#pragma once
/// Runs the program in a folder of the test's own and keeps what it printed. MOESAIC_PROGRAM names the program.
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "base/atomic_file.h"
#include "tests/temporary_folder.h"

namespace moesaic::testing {

using Folder = tests::TemporaryFolder;

struct Outcome {
  int exit_code = -1;  ///< -1 when a signal ended it
  std::string out, err;
  /// One line that ends in a newline.
  bool one_error_line() const { return !err.empty() && err.find('\n') == err.size() - 1; }
};

/// `arguments` goes through the shell, so it may quote and redirect.
inline Outcome run_program(const std::string& arguments) {
  const Folder capture;
  const std::string command =
      std::string(MOESAIC_PROGRAM) + " " + arguments + " >" + capture.file("out") + " 2>" + capture.file("err");
  const int status = std::system(command.c_str());
  Outcome outcome;
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  outcome.out = base::read_file(capture.file("out"));
  outcome.err = base::read_file(capture.file("err"));
  return outcome;
}

}  // namespace moesaic::testing
