#pragma once
/// Numbers as bytes, the small ones short: seven bits each, low first, a set eighth says that more follow.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moesaic::base {

/// Appends to a string that outlives it and that nobody else looks at meanwhile.
class VarintWriter {
 public:
  explicit VarintWriter(std::string& bytes) : bytes_(bytes), size_(bytes.size()) {}
  ~VarintWriter() { bytes_.resize(size_); }
  VarintWriter(const VarintWriter&) = delete;
  VarintWriter& operator=(const VarintWriter&) = delete;
  void put(std::uint64_t value) {
    constexpr std::size_t kLongest = 10;
    if (bytes_.size() - size_ < kLongest) bytes_.resize(2 * bytes_.size() + 64);
    for (; value >= 128; value >>= 7) bytes_[size_++] = static_cast<char>(value | 128);
    bytes_[size_++] = static_cast<char>(value);
  }
  /// Near 0 short, on either side.
  void put_signed(std::int64_t value) {
    put(static_cast<std::uint64_t>(value) << 1 ^ static_cast<std::uint64_t>(value >> 63));
  }

 private:
  std::string& bytes_;
  std::size_t size_;  // of what was written; there is room behind it
};

/// Reads what was written, as often as it was.
class VarintReader {
 public:
  explicit VarintReader(std::string_view bytes) : bytes_(bytes) {}
  std::uint64_t get() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<std::uint8_t>(bytes_[at_++]);
      value |= std::uint64_t{byte & 127U} << shift;
      if (byte < 128) return value;
    }
  }
  bool is_over() const { return at_ == bytes_.size(); }
  std::int64_t get_signed() {
    const std::uint64_t value = get();
    return static_cast<std::int64_t>(value >> 1 ^ (0 - (value & 1)));
  }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace moesaic::base
