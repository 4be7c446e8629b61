#pragma once
/// For results of several files that appear together: they are written in a folder of their own and moved into place
/// while no signal ends the program (base::SignalsWait).
#include <filesystem>
#include <string>

namespace moesaic::cli {

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
