#include "sim/program/memory_image.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::program {

std::uint64_t MemoryImage::allocate(std::string name, Kind kind, std::uint64_t bytes, unsigned skew) {
  const std::uint64_t begin = (end_ - base_ + 63) / 64 * 64 + skew;
  end_ = base_ + begin + bytes;
  if (has_bytes_) bytes_.resize(begin + bytes);
  regions_.push_back({std::move(name), kind, base_ + begin, bytes});
  return base_ + begin;
}

void MemoryImage::skip_to(std::uint64_t address) {
  if (address < end_) throw std::logic_error("skip to an address before the image's end");
  end_ = address;
  if (has_bytes_) bytes_.resize(end_ - base_);
}

void MemoryImage::relabel(std::uint64_t address, std::uint64_t bytes, Kind kind) {
  if (bytes == 0) return;
  const auto after = std::upper_bound(regions_.begin(), regions_.end(), address,
                                      [](std::uint64_t a, const Region& r) { return a < r.address; });
  const auto found = after == regions_.begin() ? regions_.end() : after - 1;
  if (found == regions_.end() || address + bytes > found->address + found->bytes)
    throw std::logic_error("relabel outside a region");
  const Region whole = *found;
  std::vector<Region> parts;
  if (address > whole.address) parts.push_back({whole.name, whole.kind, whole.address, address - whole.address});
  parts.push_back({whole.name, kind, address, bytes});
  const std::uint64_t rest = address + bytes, end = whole.address + whole.bytes;
  if (end > rest) parts.push_back({whole.name, whole.kind, rest, end - rest});
  regions_.insert(regions_.erase(found), parts.begin(), parts.end());
}

void MemoryImage::read(std::uint64_t address, std::uint8_t* to, std::uint64_t bytes) const {
  need_bytes();
  if (contains(address, bytes)) {
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(address - base_), bytes, to);
    return;
  }
  for (std::uint64_t i = 0; i < bytes; ++i) to[i] = read(address + i);
}

void MemoryImage::write(std::uint64_t address, const std::uint8_t* from, std::uint64_t bytes) {
  need_bytes();
  if (!contains(address, bytes)) throw std::logic_error("write outside the memory image");
  std::copy_n(from, bytes, bytes_.begin() + static_cast<std::ptrdiff_t>(address - base_));
}

void MemoryImage::write_byte(std::uint64_t address, std::uint8_t value) { write(address, &value, 1); }

const MemoryImage::Region* MemoryImage::region_at(std::uint64_t address) const {
  auto after = std::upper_bound(regions_.begin(), regions_.end(), address,
                                [](std::uint64_t a, const Region& r) { return a < r.address; });
  if (after == regions_.begin()) return nullptr;
  const Region& r = *(after - 1);
  return address - r.address < r.bytes ? &r : nullptr;
}

}  // namespace moesaic::program
