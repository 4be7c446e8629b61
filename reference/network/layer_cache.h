/// What belongs to one layer, made when it is first asked for and kept while at most `capacity` layers are: the one
/// that was not asked for the longest goes first. Whoever holds a layer keeps it alive. Thread-safe; while one caller
/// makes a layer, others wait.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

namespace moesaic::network {

template <class T>
class LayerCache {
 public:
  /// capacity >= 1.
  LayerCache(std::size_t capacity, std::function<T(std::size_t layer)> make)
      : capacity_(capacity), make_(std::move(make)) {}

  std::shared_ptr<const T> get(std::size_t layer) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Entry& e) { return e.first == layer; });
    if (found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      return kept_.front().second;
    }
    while (kept_.size() >= capacity_) kept_.pop_back();  // before the next one is made: both may not fit
    kept_.emplace_front(layer, std::make_shared<const T>(make_(layer)));
    return kept_.front().second;
  }

 private:
  using Entry = std::pair<std::size_t, std::shared_ptr<const T>>;
  std::size_t capacity_;
  std::function<T(std::size_t)> make_;
  mutable std::mutex mutex_;
  mutable std::list<Entry> kept_;  // the one asked for last first
};

}  // namespace moesaic::network
