#include "cli/scratch_folder.h"

#include <system_error>
#include <utility>

#include "base/error.h"

namespace moesaic::cli {

ScratchFolder::ScratchFolder(std::filesystem::path path, const std::string& out) : path_(std::move(path)) {
  std::error_code error;
  std::filesystem::create_directory(path_, error);
  if (error) throw base::ConfigError(out, "--out", error.message(), "a place where a folder can be made");
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;  // a destructor must not throw, and there is nobody left to tell
  if (!kept_) std::filesystem::remove_all(path_, ignored);
}

}  // namespace moesaic::cli
