#include "base/temporary_folder.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::base {

namespace {

/// Starts the program that removes `folder` once nobody has the other end of the pipe `life` any more; an error number,
/// or 0. Another program, not a fork, so that it holds none of this one's memory and does not go by its name. It is in
/// a session of its own before this returns: what is sent to the group is not for it.
int start_watcher(const std::string& folder, int life, pid_t& watcher) {
  std::string words[] = {"sh", "-c", "read -r nothing; command -p rm -rf -- \"$1\"", "sh", folder};
  char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), words[4].data(), nullptr};
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t files;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, life, STDIN_FILENO);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  const int error = posix_spawn(&watcher, "/bin/sh", &files, &attributes, arguments, environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  return error;
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& prefix) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
  if (error) throw ConfigError("TMPDIR", "folder", error.message(), "a folder");
  std::string name = (parent / (prefix + "XXXXXX")).string();
  const SignalsWait signals_wait;  // it has no name before it exists; the watcher goes on waiting
  if (mkdtemp(name.data()) == nullptr)
    throw ConfigError(parent.string(), "temporary folder", std::strerror(errno), "a place where a folder can be made");
  path_ = name;
  leftover_ = Leftover::folder(path_);
  watch();
}

void TemporaryFolder::watch() {
  int ends[2] = {-1, -1};
  int error = pipe(ends) == 0 ? 0 : errno;  // what is run inherits the end that is kept: it may write to the folder
  if (error == 0) error = start_watcher(path_, ends[0], watcher_);
  if (ends[0] >= 0) close(ends[0]);
  life_ = ends[1];
  if (error == 0) return;
  if (life_ >= 0) close(life_);
  rmdir(path_.c_str());
  throw std::runtime_error(std::string("a process for a temporary folder: ") + std::strerror(error));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;  // a destructor must not throw, and there is nobody left to tell
  std::filesystem::remove_all(path_, error);
  close(life_);
  // Where somebody still writes there is something left to wait for.
  if (std::filesystem::exists(path_, error) || kill(watcher_, SIGKILL) != 0) return;
  while (waitpid(watcher_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace moesaic::base
