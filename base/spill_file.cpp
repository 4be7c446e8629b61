#include "base/spill_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/error.h"

namespace moesaic::base {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

std::string chosen_folder(const std::string& folder) {
  if (!folder.empty()) return folder;
  const char* const temporary = std::getenv("TMPDIR");
  return temporary != nullptr && *temporary != '\0' ? temporary : "/tmp";
}

}  // namespace

SpillFile::SpillFile(const std::string& folder) : folder_(chosen_folder(folder)) {
#ifdef O_TMPFILE
  fd_ = open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ >= 0) return;
#endif
  std::string name = folder_ + "/.moesaic-XXXXXX";  // a file system without nameless files
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) fail("open a temporary file");
  unlink(name.c_str());
}

SpillFile::SpillFile(SpillFile&& other) noexcept
    : folder_(std::move(other.folder_)),
      buffer_(std::move(other.buffer_)),
      buffer_at_(other.buffer_at_),
      end_(other.end_),
      fd_(std::exchange(other.fd_, -1)) {}

SpillFile::~SpillFile() {
  if (fd_ >= 0) close(fd_);
}

void SpillFile::fail(const char* doing) const {
  throw ConfigError(folder_, doing, std::strerror(errno), "a folder that takes temporary files");
}

void SpillFile::write(std::uint64_t offset, const void* data, std::size_t bytes) {
  if (offset != buffer_at_ + buffer_.size() || buffer_.size() >= kBufferBytes) {
    flush();
    buffer_at_ = offset;
  }
  buffer_.append(static_cast<const char*>(data), bytes);
  end_ = std::max(end_, offset + bytes);
}

void SpillFile::flush() {
  for (std::size_t done = 0; done < buffer_.size();) {
    const ssize_t n = pwrite(fd_, buffer_.data() + done, buffer_.size() - done, static_cast<off_t>(buffer_at_ + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("write to a temporary file");
    done += static_cast<std::size_t>(n);
  }
  buffer_at_ += buffer_.size();
  buffer_.clear();
}

std::uint64_t SpillFile::size() {
  flush();
  struct stat status {};
  if (fstat(fd_, &status) != 0) fail("read a temporary file");
  return static_cast<std::uint64_t>(status.st_size);
}

void SpillFile::read(std::uint64_t offset, void* to, std::size_t bytes) {
  flush();
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t n = pread(fd_, static_cast<char*>(to) + done, bytes - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("read a temporary file");
    if (n == 0) throw std::logic_error("a read behind the end of a temporary file");
    done += static_cast<std::size_t>(n);
  }
}

void SpillFile::read_all(const std::function<void(std::string_view piece)>& take) {
  const std::uint64_t all = size();
  std::string piece;
  for (std::uint64_t at = 0; at < all; at += piece.size()) {
    piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, all - at)));
    read(at, piece.data(), piece.size());
    take(piece);
  }
}

}  // namespace moesaic::base
