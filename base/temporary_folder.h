#pragma once
/// A new folder under the system's temporary folder, gone at the end with all below it.
#include <sys/types.h>

#include <string>

#include "base/leftovers.h"

namespace moesaic::base {

/// It is removed by the destructor; on signals, empty, as any Leftover; and whatever else ends the process, SIGKILL
/// too, by another process, which waits until this one, those that it forked and the programs that it runs have ended.
/// base::InputError when it cannot be made.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& prefix);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  void watch();
  std::string path_;
  Leftover leftover_;
  int life_ = -1;       // a pipe's end that nobody writes to; closed once all that have it are gone
  pid_t watcher_ = -1;  // reads the other end
};

}  // namespace moesaic::base
