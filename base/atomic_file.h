#pragma once
/// A file that appears whole or not at all: bytes go to a temporary name beside the target, commit() renames it.
/// Without commit() (an exception, a signal, leftovers.h) nothing is left.
/// A target that exists and is not a regular file (/dev/full, /dev/stdout, a pipe) is written through, never renamed
/// over. Errors: InputError naming the path and the system's reason (no such folder, no space left on device, ...).
#include <cstddef>
#include <string>
#include <string_view>

#include "base/leftovers.h"

namespace moesaic::base {

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Hands on what was written: of several files that belong together, before the first commit().
  void flush();
  /// Flushes, closes and renames; the file is complete when this returns.
  void commit();

 private:
  [[noreturn]] void fail(const std::string& doing) const;
  std::string path_;       // as the caller named it, for messages
  std::string target_;     // after symbolic links
  std::string temporary_;  // empty: written through
  std::string buffer_;
  int fd_ = -1;
  Leftover leftover_;
};

/// Writes a whole text atomically.
void write_file(const std::string& path, std::string_view content);
/// InputError for what gives its bytes once: of files that are read twice.
void refuse_pipe(const std::string& path);
/// Reads a whole file; a folder, a missing or an unreadable file is an InputError.
std::string read_file(const std::string& path);

}  // namespace moesaic::base
