#pragma once
/// A storage device (NVMe, host memory, UFS; docs/memory.md) behind a core's storage port.
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "models/storage/core_storage.h"
#include "models/storage/storage_model.h"

namespace moesaic::storage {

/// The device keeps femtoseconds: a request that completes within a cycle is done at the clock edge that ends it.
class StorageDevice final : public CoreStorage {
 public:
  /// `period` is the core's clock's.
  StorageDevice(std::unique_ptr<StorageModel> device, base::Femtoseconds period)
      : device_(std::move(device)), period_(period) {}

  std::string name() const override { return device_->name(); }
  bool submit(const StorageRequest& request, base::Cycles now) override {
    return device_->submit(request.id, request.bytes, time(now));
  }
  std::optional<unsigned> finished(base::Cycles now) override {
    if (!done_) {
      if (const auto completion = device_->finished(time(now))) done_ = static_cast<unsigned>(completion->id);
    }
    return done_;
  }
  void take(unsigned) override { done_.reset(); }
  std::optional<base::Cycles> next_change(base::Cycles now) override {
    const auto next = device_->next_change(time(now));
    if (!next) return std::nullopt;
    return edge(*next, period_);
  }
  Arrival arrival() const override {
    return [period = period_, arrival = device_->arrival()](base::Bytes bytes) { return edge(arrival(bytes), period); };
  }

 private:
  base::Femtoseconds time(base::Cycles now) const { return period_ * now.count(); }
  static base::Cycles edge(base::Femtoseconds time, base::Femtoseconds period) {
    return base::Cycles(base::ceil_div(time.count(), period.count()));
  }
  std::unique_ptr<StorageModel> device_;
  base::Femtoseconds period_;
  std::optional<unsigned> done_;  // completed in the device, not taken by the core
};

}  // namespace moesaic::storage
