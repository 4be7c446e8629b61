#include "models/host/byte_space.h"

#include <stdexcept>

namespace moesaic::host {

ByteSpace::ByteSpace(std::uint64_t base, base::Bytes capacity)
    : capacity_(capacity.count() / kAlignment * kAlignment), free_(capacity_) {
  if (base % kAlignment != 0 || capacity_ < kAlignment)
    throw std::logic_error("ByteSpace: expected a base of a multiple of 64 and room for at least 64 bytes");
  add_hole(base, capacity_);
}

void ByteSpace::add_hole(std::uint64_t address, std::int64_t bytes) {
  holes_.emplace(address, bytes);
  by_size_.emplace(bytes, address);
}

void ByteSpace::remove_hole(std::map<std::uint64_t, std::int64_t>::iterator hole) {
  by_size_.erase({hole->second, hole->first});
  holes_.erase(hole);
}

std::optional<std::uint64_t> ByteSpace::allocate(base::Bytes bytes) {
  const std::int64_t wanted = rounded(bytes).count();
  const auto best = by_size_.lower_bound({wanted, 0});
  if (wanted < kAlignment || best == by_size_.end()) return std::nullopt;
  const auto [size, address] = *best;
  remove_hole(holes_.find(address));
  if (size > wanted) add_hole(address + static_cast<std::uint64_t>(wanted), size - wanted);
  pieces_.emplace(address, wanted);
  free_ -= wanted;
  return address;
}

void ByteSpace::release(std::uint64_t address, base::Bytes bytes) {
  const auto piece = pieces_.find(address);
  if (piece == pieces_.end() || piece->second != rounded(bytes).count())
    throw std::logic_error("ByteSpace: release of a piece that was not handed out");
  std::uint64_t begin = address;
  std::int64_t size = piece->second;
  free_ += size;
  pieces_.erase(piece);
  const auto after = holes_.lower_bound(begin);
  if (after != holes_.end() && after->first == begin + static_cast<std::uint64_t>(size)) {
    size += after->second;
    remove_hole(after);
  }
  const auto next = holes_.lower_bound(begin);
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + static_cast<std::uint64_t>(before->second) == begin) {
      begin = before->first;
      size += before->second;
      remove_hole(before);
    }
  }
  add_hole(begin, size);
}

}  // namespace moesaic::host
