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
  T& back() { return slots_[(first_ + count_ - 1) & (capacity_ - 1)]; }
  void push_back(const T& value) { append() = value; }
  /// A new last element, which holds anything: to be filled in where it lies.
  T& append() {
    if (count_ == capacity_) grow();
    return slots_[(first_ + count_++) & (capacity_ - 1)];
  }
  void pop_front(std::size_t count = 1) {
    first_ = (first_ + count) & (capacity_ - 1);
    count_ -= count;
  }
  void clear() { count_ = 0; }

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
