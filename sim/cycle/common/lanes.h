#pragma once

/// \file
/// Lanes<T>: the value of a wide port, one element a lane, as SystemC signals carry it.
/// At most kCapacity lanes and no heap; a copy moves only size() elements. A lane that is absent reads as 0, so the
/// empty value is "all bits 0" whatever the port's width. operator== compares bits in that sense. The lock-step harness
/// packs lane i to bits [i*width, (i+1)*width) of the SystemVerilog port.

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>
#include <initializer_list>
#include <ostream>
#include <string>
#include <systemc>

namespace moesaic::cycle {

template <class T, std::size_t Capacity = 64>
class Lanes {
 public:
  using value_type = T;
  static constexpr std::size_t kCapacity = Capacity;

  Lanes() = default;
  explicit Lanes(std::size_t size, T value = T{}) : size_(size) {
    assert(size <= kCapacity);
    std::fill_n(lane_.begin(), size, value);
  }
  Lanes(std::initializer_list<T> values) : size_(values.size()) {
    assert(values.size() <= kCapacity);
    std::copy(values.begin(), values.end(), lane_.begin());
  }
  Lanes(const Lanes& other) : size_(other.size_) { std::copy_n(other.lane_.begin(), size_, lane_.begin()); }
  Lanes& operator=(const Lanes& other) {
    size_ = other.size_;
    std::copy_n(other.lane_.begin(), size_, lane_.begin());
    return *this;
  }

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T& operator[](std::size_t lane) {
    assert(lane < size_);
    return lane_[lane];
  }
  const T& operator[](std::size_t lane) const {
    assert(lane < size_);
    return lane_[lane];
  }
  /// The lane's value, 0 where there is none.
  T at_or_zero(std::size_t lane) const { return lane < size_ ? lane_[lane] : T{}; }
  T* data() { return lane_.data(); }
  const T* data() const { return lane_.data(); }
  T* begin() { return lane_.data(); }
  T* end() { return lane_.data() + size_; }
  const T* begin() const { return lane_.data(); }
  const T* end() const { return lane_.data() + size_; }

  void clear() { size_ = 0; }
  void resize(std::size_t size) {
    assert(size <= kCapacity);
    if (size > size_) std::fill(lane_.begin() + size_, lane_.begin() + size, T{});
    size_ = size;
  }
  void push_back(T value) {
    assert(size_ < kCapacity);
    lane_[size_++] = value;
  }

  friend bool operator==(const Lanes& a, const Lanes& b) {
    const Lanes& longer = a.size_ < b.size_ ? b : a;
    const std::size_t common = std::min(a.size_, b.size_);
    return std::equal(a.begin(), a.begin() + common, b.begin()) &&
           std::all_of(longer.begin() + common, longer.end(), [](const T& value) { return value == T{}; });
  }
  friend bool operator!=(const Lanes& a, const Lanes& b) { return !(a == b); }
  friend std::ostream& operator<<(std::ostream& out, const Lanes& lanes) {
    out << '[';
    for (std::size_t i = 0; i < lanes.size_; ++i) out << (i == 0 ? "" : " ") << +lanes.lane_[i];
    return out << ']';
  }

 private:
  std::array<T, kCapacity> lane_;  // only [0, size_) is ever read
  std::size_t size_ = 0;
};

template <class T, std::size_t N>
void sc_trace(sc_core::sc_trace_file* file, const Lanes<T, N>& lanes, const std::string& name) {
  for (std::size_t i = 0; i < lanes.size(); ++i) sc_core::sc_trace(file, lanes[i], name + "." + std::to_string(i));
}

}  // namespace moesaic::cycle
