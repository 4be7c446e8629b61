#pragma once
/// Runs the program in a folder of the test's own and keeps what it printed. MOESAIC_PROGRAM names the program.
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <stdexcept>
#include <string>

#include "base/atomic_file.h"

namespace moesaic::testing {

/// A temporary folder, removed at the end.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "moesaic-program-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  bool has(const std::string& name) const { return std::filesystem::exists(path_ / name); }
  std::size_t count() const {
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) files += entry.exists() ? 1 : 0;
    return files;
  }

 private:
  std::filesystem::path path_;
};

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
