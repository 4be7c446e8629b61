#include "sim/program/memory_image.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::program {

std::size_t MemoryImage::new_counter(Kind kind) {
  counter_kinds_.push_back(kind);
  return counter_kinds_.size() - 1;
}

std::uint64_t MemoryImage::allocate(std::string name, Kind kind, std::uint64_t bytes, unsigned skew,
                                    std::optional<std::size_t> counter) {
  return add(std::move(name), kind, bytes, skew, counter, false);
}

std::uint64_t MemoryImage::allocate_for_a_while(std::string name, Kind kind, std::uint64_t bytes,
                                                std::optional<std::size_t> counter) {
  return add(std::move(name), kind, bytes, 0, counter, true);
}

/// `apart`: a block of its own holds the bytes.
std::uint64_t MemoryImage::add(std::string name, Kind kind, std::uint64_t bytes, unsigned skew,
                               const std::optional<std::size_t>& counter, bool apart) {
  if (counter && counter_kinds_.at(*counter) != kind) throw std::logic_error("a region counted as another kind");
  const std::uint64_t address = base_ + (end_ - base_ + 63) / 64 * 64 + skew;
  end_ = address + bytes;
  if (has_bytes_) {
    if (apart || apart_) blocks_.push_back({address, {}});
    blocks_.back().bytes.resize(end_ - blocks_.back().begin);
    apart_ = apart;
  }
  regions_.push_back({std::move(name), kind, address, bytes, counter ? *counter : new_counter(kind)});
  return address;
}

void MemoryImage::forget(std::uint64_t address) {
  const auto region = std::lower_bound(regions_.begin(), regions_.end(), address,
                                       [](const Region& r, std::uint64_t a) { return r.address < a; });
  if (region == regions_.end() || region->address != address) throw std::logic_error("no such region to forget");
  regions_.erase(region);
  if (!has_bytes_) return;
  const auto block = std::lower_bound(blocks_.begin(), blocks_.end(), address,
                                      [](const Block& b, std::uint64_t a) { return b.begin < a; });
  if (block == blocks_.end() || block->begin != address) throw std::logic_error("a region that is to stay forgotten");
  if (block + 1 == blocks_.end()) apart_ = true;
  blocks_.erase(block);
}

void MemoryImage::skip_to(std::uint64_t address) {
  if (address < end_) throw std::logic_error("skip to an address before the image's end");
  end_ = address;
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
  if (address > whole.address)
    parts.push_back({whole.name, whole.kind, whole.address, address - whole.address, whole.counter});
  parts.push_back({whole.name, kind, address, bytes, new_counter(kind)});
  const std::uint64_t rest = address + bytes;
  if (whole.end() > rest) parts.push_back({whole.name, whole.kind, rest, whole.end() - rest, whole.counter});
  regions_.insert(regions_.erase(found), parts.begin(), parts.end());
}

const MemoryImage::Block* MemoryImage::block_at(std::uint64_t address) const {
  auto after = std::upper_bound(blocks_.begin(), blocks_.end(), address,
                                [](std::uint64_t a, const Block& b) { return a < b.begin; });
  if (after == blocks_.begin()) return nullptr;
  const Block& block = *(after - 1);
  return address < block.end() ? &block : nullptr;
}

void MemoryImage::read(std::uint64_t address, std::uint8_t* to, std::uint64_t bytes) const {
  need_bytes();
  const Block* const block = block_at(address);
  if (block != nullptr && bytes <= block->end() - address) {
    std::copy_n(block->bytes.begin() + static_cast<std::ptrdiff_t>(address - block->begin), bytes, to);
    return;
  }
  for (std::uint64_t i = 0; i < bytes; ++i) to[i] = read(address + i);
}

void MemoryImage::write(std::uint64_t address, const std::uint8_t* from, std::uint64_t bytes) {
  need_bytes();
  if (bytes == 0 || shows_zeros_) return;
  const Block* const found = block_at(address);
  if (found == nullptr || bytes > found->end() - address) throw std::logic_error("write outside the memory image");
  Block& block = blocks_[static_cast<std::size_t>(found - blocks_.data())];
  std::copy_n(from, bytes, block.bytes.begin() + static_cast<std::ptrdiff_t>(address - block.begin));
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
