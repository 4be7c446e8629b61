#include "base/atomic_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moesaic::base {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// What `path` finally names when it is a symbolic link to something that exists; `path` itself otherwise.
std::string behind_links(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return path;
  std::string target = resolved;
  std::free(resolved);
  return target;
}

// /dev/stdout and its like: links into /proc that stand for an open descriptor, whatever it is.
bool names_a_descriptor(const std::string& path) {
  char link[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), link, sizeof link);
  return length > 0 && (std::string_view(link, static_cast<std::size_t>(length)).substr(0, 6) == "/proc/" ||
                        path.rfind("/proc/", 0) == 0 || path.rfind("/dev/fd/", 0) == 0);
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), target_(path_) {
  if (path_.empty()) throw ConfigError("output", "path", "''", "a file name");
  struct stat status {};
  const bool exists = stat(path_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) throw ConfigError(path_, "output", "a folder", "a file name");
  if (exists && (!S_ISREG(status.st_mode) || names_a_descriptor(path_))) {
    fd_ = open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd_ < 0) fail("open");
    return;
  }
  if (exists) {
    target_ = behind_links(path_);
    if (access(target_.c_str(), W_OK) != 0) fail("open");
  }
  static std::atomic<unsigned> counter{0};
  const std::string prefix =
      folder_of(target_) + "/." + name_of(target_) + "." + std::to_string(getpid()) + "." + std::to_string(counter++);
  temporary_ = prefix + ".tmp";
  leftover_ = Leftover::file(temporary_);
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    const int error = errno;
    leftover_.forget();
    temporary_.clear();
    errno = error;
    fail("open");
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicFile::fail(const std::string& doing) const {
  throw ConfigError(path_, doing, std::strerror(errno), "a file that can be written");
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  // A stream cannot take bytes back, so it gets none before commit().
  if (!temporary_.empty() && buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write");
    done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
}

void AtomicFile::commit() {
  flush();
  if (close(std::exchange(fd_, -1)) != 0) fail("write");
  if (temporary_.empty()) return;
  if (rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename");
  temporary_.clear();
  leftover_.forget();
}

void write_file(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

void refuse_pipe(const std::string& path) {
  struct stat status = {};
  if (stat(path.c_str(), &status) == 0 && (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
    throw ConfigError(path, "file", "a pipe or a device", "a file: it is read twice");
}

std::string read_file(const std::string& path) {
  const auto refuse = [&](const std::string& got) -> ConfigError {
    return ConfigError(path, "read", got, "a readable file");
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw refuse(std::strerror(errno));
  std::string content;
  std::string chunk(kBufferBytes, '\0');
  for (;;) {
    const ssize_t n = ::read(fd, chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const std::string reason = errno == EISDIR ? "a folder" : std::strerror(errno);
      close(fd);
      throw refuse(reason);
    }
    if (n == 0) break;
    content.append(chunk.data(), static_cast<std::size_t>(n));
  }
  close(fd);
  return content;
}

}  // namespace moesaic::base
