#pragma once
/// Bytes that are too many for memory, in a file without a name: it is gone with the process that made it and with
/// those that it forked, however they end. Neighbouring writes are gathered. Errors: InputError naming the folder and
/// the system's reason (no space left on device, ...).
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace moesaic::base {

class SpillFile {
 public:
  /// In `folder`; empty: where the system keeps temporary files ($TMPDIR, else /tmp).
  explicit SpillFile(const std::string& folder = "");
  ~SpillFile();
  SpillFile(SpillFile&& other) noexcept;
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  /// Bytes that nobody wrote, before others, read as 0.
  void write(std::uint64_t offset, const void* data, std::size_t bytes);
  void append(std::string_view text) { write(end_, text.data(), text.size()); }
  /// Writes what was kept back: in a forked process before it ends, so that the other one sees it. Only one of the two
  /// writes, and nothing was written before the fork.
  void flush();
  /// Everything written in this process, and by the other up to its last flush().
  std::uint64_t size();
  /// Bytes from `offset` on, which must be there.
  void read(std::uint64_t offset, void* to, std::size_t bytes);
  /// All bytes, from the first on, in pieces.
  void read_all(const std::function<void(std::string_view piece)>& take);

 private:
  [[noreturn]] void fail(const char* doing) const;
  std::string folder_;
  std::string buffer_;  // kept back: the bytes from buffer_at_ on
  std::uint64_t buffer_at_ = 0, end_ = 0;
  int fd_ = -1;
};

}  // namespace moesaic::base
