#pragma once
/// What the memory side's tests share: a memory whose bytes are a function of their address, and a bit stream that
/// stands in for a stream reader's pop side.
#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/common/core_params.h"
#include "sim/cycle/memory/beat.h"
#include "sim/program/core_params.h"

namespace moesaic::cosim {

/// The byte at `addr` of a memory that nobody has written.
inline std::uint8_t byte_at(std::uint64_t addr) {
  std::uint64_t state = addr;
  return static_cast<std::uint8_t>(base::splitmix64(state));
}
inline std::uint64_t bytes_at(std::uint64_t addr, unsigned count) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < count; ++i) value |= std::uint64_t{byte_at(addr + i)} << (8 * i);
  return value;
}

/// Bits of a stream reader's avail_o and pop_i: up to three beats.
inline unsigned avail_bits(const cycle::CoreParams& params) { return program::log2_ceil(3 * params.axi_data_bits + 1); }

/// The pop side of a stream reader: bytes arrive at random times, at most three beats are offered, any bits may be
/// popped.
class BitStream {
 public:
  BitStream(Lockstep& bench, const cycle::CoreParams& params, In<std::uint64_t>& avail, In<cycle::Beat>& data,
            Out<std::uint64_t>& pop)
      : pace_(bench.rng("bit_stream")), rng_(bench.rng("bit_stream_amount")), width_(params.axi_data_bits) {
    bench.on_reset([this, &avail, &data] {
      bits_.clear();
      avail_ = 0;
      avail.write(0);
      data.write(cycle::Beat(width_ / 64));
    });
    bench.on_falling([this, &avail, &data](std::uint64_t) {
      if (pace_.go()) {
        const std::size_t room = std::min<std::size_t>(3 * width_ - avail_, bits_.size() - avail_) / 8;
        avail_ += 8 * std::min<std::size_t>(room, 1 + rng_.below(width_ / 8));
      }
      cycle::Beat beat(width_ / 64);
      for (std::size_t i = 0; i < std::min<std::size_t>(avail_, width_); ++i) {
        beat[i / 64] |= std::uint64_t{bits_[i]} << (i % 64);
      }
      avail.write(avail_);
      data.write(beat);
    });
    bench.on_sample([this, &bench, &pop](std::uint64_t) {
      const std::uint64_t count = pop.read();
      if (count > avail_ || count > width_ + 8) {
        bench.fail("popped " + std::to_string(count) + " bits of " + std::to_string(avail_));
        return;
      }
      bits_.erase(bits_.begin(), bits_.begin() + static_cast<std::ptrdiff_t>(count));
      avail_ -= count;
    });
  }
  void push(const std::uint8_t* bytes, std::size_t count) {
    for (std::size_t i = 0; i < 8 * count; ++i) bits_.push_back((bytes[i / 8] >> (i % 8)) & 1);
  }
  bool empty() const { return bits_.empty(); }

 private:
  std::deque<std::uint8_t> bits_;
  std::size_t avail_ = 0;
  Pace pace_;
  base::Rng rng_;
  unsigned width_;
};

}  // namespace moesaic::cosim
