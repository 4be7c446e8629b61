#include "cli/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/scratch_folder.h"

namespace moesaic::cli {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& got, const std::string& expected) {
  throw base::ConfigError(path, "--out", got, expected);
}

fs::path beside(const std::string& path, const char* what) {
  fs::path clean = fs::path(path).lexically_normal();
  if (clean.filename().empty()) clean = clean.parent_path();  // "out/"
  return clean.parent_path() / ("." + clean.filename().string() + what + std::to_string(getpid()));
}

}  // namespace

RunFolder::RunFolder(std::string path, std::vector<std::string> names)
    : path_(std::move(path)), names_(std::move(names)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();  // "link/" is the link
  std::error_code error;
  // The folder is replaced by another one: whoever stands in it would be left in neither, and ".." lead astray.
  const fs::path here = fs::current_path(error), real = fs::weakly_canonical(path_, error);
  if (!real.empty() && std::mismatch(real.begin(), real.end(), here.begin(), here.end()).first == real.end())
    refuse(path_, "a folder that this command runs in", "another one");
  if (fs::is_symlink(path_, error)) path_ = real.string();  // the link stays, what it names is replaced
  const fs::file_status status = fs::status(path_, error);
  if (fs::exists(status)) {
    if (!fs::is_directory(status)) refuse(path_, "a file", "a new folder, an empty one or an earlier run's");
    bool is_run = false, is_empty = true;
    for (fs::directory_iterator entry(path_, error), end; !error && entry != end; entry.increment(error)) {
      const std::string name = entry->path().filename().string();
      is_empty = false;
      if (std::find(names_.begin(), names_.end(), name) == names_.end())
        refuse(path_, "a folder that holds " + name, "a new folder, an empty one or an earlier run's");
      is_run = is_run || name == "summary.json";
    }
    if (error) refuse(path_, error.message(), "a folder that can be read");
    if (access(path_.c_str(), W_OK) != 0) refuse(path_, std::strerror(errno), "a folder that can be replaced");
    if (!is_empty && !is_run)
      refuse(path_, "a folder without summary.json", "a new folder, an empty one or an earlier run's");
  }
  const ScratchFolder probe(beside(path_, ".probe-"), path_);
}

std::string RunFolder::parent() const {
  const std::string parent = beside(path_, "").parent_path().string();
  return parent.empty() ? "." : parent;
}

void RunFolder::commit(const std::vector<File>& files) const {
  const base::SignalsWait signals_wait;
  ScratchFolder made(beside(path_, ".partial-"), path_);
  for (const auto& [name, write] : files) {
    base::AtomicFile file((made.path() / name).string());
    write(file);
    file.commit();
  }
  std::error_code error;
  if (fs::exists(path_)) {
    ScratchFolder old(beside(path_, ".old-"), path_);  // removed at the end of this scope, with what it holds
    fs::rename(path_, old.path() / "run", error);
    if (error) refuse(path_, error.message(), "a folder that can be replaced");
    fs::rename(made.path(), path_, error);
    if (error) {
      const std::string reason = error.message();
      fs::rename(old.path() / "run", path_, error);
      refuse(path_, reason, "a folder that can be replaced");
    }
  } else {
    fs::rename(made.path(), path_, error);
    if (error) refuse(path_, error.message(), "a place where a folder can be made");
  }
  made.keep();
}

}  // namespace moesaic::cli
