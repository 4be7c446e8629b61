#pragma once
/// Addresses of the expert cache: a space of `capacity` bytes from `base`, handed out in contiguous pieces rounded up
/// to 64 bytes. Best fit: the smallest hole that holds the piece, the lowest address among equals; a freed piece joins
/// the holes beside it. A piece is never moved, so holes may be too small though their sum would do: allocate() then
/// says so, and the caller frees more. Nothing is ever handed out beyond the capacity.
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "base/units.h"

namespace moesaic::host {

class ByteSpace {
 public:
  static constexpr std::int64_t kAlignment = 64;
  /// What a piece of `bytes` takes.
  static base::Bytes rounded(base::Bytes bytes) { return base::Bytes(base::round_up(bytes.count(), kAlignment)); }

  /// `base` is a multiple of 64; the capacity is rounded down to one. std::logic_error otherwise.
  ByteSpace(std::uint64_t base, base::Bytes capacity);

  std::optional<std::uint64_t> allocate(base::Bytes bytes);
  /// Frees a piece that allocate() gave for `bytes`; std::logic_error for anything else.
  void release(std::uint64_t address, base::Bytes bytes);

  base::Bytes capacity() const { return base::Bytes(capacity_); }
  base::Bytes free_bytes() const { return base::Bytes(free_); }
  base::Bytes largest_hole() const { return base::Bytes(by_size_.empty() ? 0 : by_size_.rbegin()->first); }

 private:
  void add_hole(std::uint64_t address, std::int64_t bytes);
  void remove_hole(std::map<std::uint64_t, std::int64_t>::iterator hole);
  std::int64_t capacity_, free_;
  std::map<std::uint64_t, std::int64_t> holes_;               // address -> bytes
  std::set<std::pair<std::int64_t, std::uint64_t>> by_size_;  // the same, smallest first
  std::map<std::uint64_t, std::int64_t> pieces_;              // handed out: address -> rounded bytes
};

}  // namespace moesaic::host
