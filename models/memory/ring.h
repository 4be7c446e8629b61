#pragma once
/// A queue in one block of memory that doubles when it is full: what the models pass from stage to stage.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace moesaic::memory {

template <class T>
class Ring {
 public:
  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }
  T& operator[](std::size_t i) { return slots_[(first_ + i) & (capacity_ - 1)]; }
  const T& operator[](std::size_t i) const { return slots_[(first_ + i) & (capacity_ - 1)]; }
  T& front() { return slots_[first_]; }
  const T& front() const { return slots_[first_]; }
  void push_back(const T& value) {
    if (count_ == capacity_) grow();
    slots_[(first_ + count_++) & (capacity_ - 1)] = value;
  }
  void pop_front() {
    first_ = (first_ + 1) & (capacity_ - 1);
    --count_;
  }
  /// How many of the elements, which ascend, are <= `limit`.
  std::size_t count_until(const T& limit) const {
    std::size_t low = 0, high = 1;  // few, as a rule
    while (high < count_ && (*this)[high] <= limit) low = high + 1, high = 2 * high + 1;
    high = high < count_ ? high : count_;
    while (low < high) {
      const std::size_t middle = (low + high) / 2;
      if ((*this)[middle] <= limit)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }

 private:
  void grow() {
    std::vector<T> larger(capacity_ == 0 ? 16 : 2 * capacity_);
    for (std::size_t i = 0; i < count_; ++i) larger[i] = (*this)[i];
    slots_.swap(larger);
    capacity_ = slots_.size();
    first_ = 0;
  }
  std::vector<T> slots_;
  std::size_t capacity_ = 0;  // slots, a power of two
  std::size_t first_ = 0, count_ = 0;
};

}  // namespace moesaic::memory
