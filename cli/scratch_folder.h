#pragma once
/// For results of several files that appear together: they are written in a folder of their own and moved into place
/// while no signal ends the program.
#include <signal.h>

#include <filesystem>
#include <string>

namespace moesaic::cli {

/// Holds back the signals that end a program.
class SignalsWait {
 public:
  SignalsWait();
  ~SignalsWait();
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;

 private:
  sigset_t before_;
};

/// A new folder that is gone at the end, with what it holds, unless it was kept.
class ScratchFolder {
 public:
  /// base::ConfigError (`--out`), naming the folder `out` that the command was told to make, when it cannot be made.
  ScratchFolder(std::filesystem::path path, const std::string& out);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  void keep() { kept_ = true; }

 private:
  std::filesystem::path path_;
  bool kept_ = false;
};

}  // namespace moesaic::cli
