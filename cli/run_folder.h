#pragma once
/// The folder of one run: it appears whole or not at all. An existing folder is taken only when it is empty or holds
/// nothing but an earlier run, which is then replaced.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/atomic_file.h"

namespace moesaic::cli {

class RunFolder {
 public:
  /// Checks before the work: `path` must be new, empty, or an earlier run's (every file in it is one of `names`, and
  /// summary.json is there), and its parent must take a new folder. Throws base::InputError (`--out`).
  RunFolder(std::string path, std::vector<std::string> names);

  /// The folder that the run's folder lies in: for temporary files.
  std::string parent() const;

  /// A file's name, and what writes it.
  using File = std::pair<std::string, std::function<void(base::AtomicFile&)>>;
  /// Writes all files, then puts the folder in place. Signals wait until that is done.
  void commit(const std::vector<File>& files) const;

 private:
  std::string path_;
  std::vector<std::string> names_;
};

}  // namespace moesaic::cli
