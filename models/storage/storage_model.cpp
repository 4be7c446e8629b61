#include "models/storage/storage_model.h"

#include <algorithm>
#include <array>
#include <deque>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::storage {

namespace {

constexpr std::int64_t kFemtosecondsPerNanosecond = 1000000;
constexpr std::int64_t kFemtosecondsPerSecond = 1000000000000000;
constexpr std::int64_t kMaxLatencyNs = 1000000000;             // a second
constexpr std::int64_t kMaxBytesPerSecond = 1000000000000000;  // a petabyte
constexpr std::int64_t kMaxQueueDepth = 65536;                 // NVMe's
constexpr std::int64_t kMaxGranularity = std::int64_t{1} << 30;
constexpr std::int64_t kMaxDmaBytes = std::int64_t{1} << 20;

struct Preset {
  const char* name;
  const char* kind;
  std::int64_t latency_ns, bytes_per_second, queue_depth, granularity_bytes;
  const char* source;
};

constexpr const char* kHostSource =
    "link rate less 128b/130b coding and 20 bytes around each completion's 256 (PCI Express base specification); "
    "latency "
    "of a DMA read as measured by Neugebauer et al., SIGCOMM 2018, on a Xeon E5; depth: 8-bit tags";

// Host bandwidths: lanes * transfers * 128 / 130 / 8 * 256 / 276.
const std::array<Preset, 7> kPresets{{
    {"nvme-pcie3x4", "nvme", 92000, 3500000000, 128, 4096,
     "Micron 9200 data sheet: 128 KB sequential reads 3.5 GB/s, typical read latency 92 us at queue depth 1"},
    {"nvme-pcie4x4", "nvme", 80000, 6800000000, 128, 4096,
     "Micron 7450 product brief: sequential reads 6800 MB/s, typical read latency 80 us"},
    {"nvme-pcie5x4", "nvme", 60000, 14000000000, 128, 4096,
     "Micron 9550 product brief: sequential reads 14000 MB/s, typical read latency 60 us"},
    {"host-pcie3x16", "host", 550, 14612000000, 256, 64, kHostSource},
    {"host-pcie4x16", "host", 550, 29224000000, 256, 64, kHostSource},
    {"host-pcie5x16", "host", 550, 58448000000, 256, 64, kHostSource},
    {"ufs4", "ufs", 100000, 4200000000, 32, 4096,
     "JESD220F (two lanes of 23.2 Gb/s) and Samsung's announcement of 2022: sequential reads 4200 MB/s; no vendor "
     "states a "
     "latency: 100 us is assumed, of the order of TLC flash behind NVMe"},
}};

const Preset& find_preset(const std::string& name) {
  for (const Preset& preset : kPresets)
    if (name == preset.name) return preset;
  std::string choices;
  for (const Preset& preset : kPresets) choices += (choices.empty() ? "" : ", ") + std::string(preset.name);
  throw base::InputError("storage preset: got " + name + ", expected one of " + choices);
}

class StorageLink final : public StorageModel {
 public:
  explicit StorageLink(const StorageConfig& config) : config_(config) {
    const bool good = config.latency.count() >= 0 && config.bytes_per_second >= 1 && config.queue_depth >= 1 &&
                      config.granularity_bytes >= 1;
    if (!good) throw std::logic_error("storage: numbers that read_storage_config() refuses");
  }

  std::string name() const override {
    return config_.kind + "(" + config_.preset + ", latency " +
           std::to_string(config_.latency.count() / kFemtosecondsPerNanosecond) + " ns, " +
           std::to_string(config_.bytes_per_second) + " bytes/s, queue depth " + std::to_string(config_.queue_depth) +
           ", granularity " + std::to_string(config_.granularity_bytes) + " bytes)";
  }

  bool submit(std::uint64_t id, Bytes bytes, Femtoseconds now) override {
    if (bytes.count() < 1) throw std::logic_error("storage: a request of no bytes");
    if (now < now_) throw std::logic_error("storage: a request before the last one");
    now_ = now;
    if (outstanding(now) >= config_.queue_depth) {
      refused_ = true;
      return false;
    }
    refused_ = false;
    const std::int64_t whole = base::round_up(bytes.count(), config_.granularity_bytes);
    begin_ = std::max(free_, now);
    free_ = begin_ + transfer(whole, config_.bytes_per_second);
    moved_ += Bytes(whole);
    pending_.push_back({id, free_ + config_.latency});
    return true;
  }

  std::optional<Completion> finished(Femtoseconds now) override {
    if (pending_.empty() || now < pending_.front().time) return std::nullopt;
    const Completion oldest = pending_.front();
    pending_.pop_front();
    return oldest;
  }

  std::optional<Femtoseconds> next_change(Femtoseconds now) const override {
    const auto later = std::upper_bound(pending_.begin(), pending_.end(), now,
                                        [](Femtoseconds at, const Completion& c) { return at < c.time; });
    // A refused request could be taken as soon as one completes, or at once if one has since.
    if (refused_ && outstanding(now) < config_.queue_depth) return now + Femtoseconds(1);
    if (later == pending_.end()) return std::nullopt;
    return later->time;
  }

  Arrival arrival() const override {
    return [begin = begin_ + config_.latency, rate = config_.bytes_per_second](Bytes bytes) {
      return begin + transfer(bytes.count(), rate);
    };
  }

  std::int64_t outstanding(Femtoseconds now) const override {
    const auto later = std::upper_bound(pending_.begin(), pending_.end(), now,
                                        [](Femtoseconds at, const Completion& c) { return at < c.time; });
    return pending_.end() - later;
  }

  Bytes moved() const override { return moved_; }

  void reset() override {
    pending_.clear();
    now_ = begin_ = free_ = Femtoseconds(0);
    moved_ = Bytes(0);
    refused_ = false;
  }

 private:
  static Femtoseconds transfer(std::int64_t bytes, std::int64_t bytes_per_second) {
    using Wide = unsigned __int128;  // bytes times femtoseconds
    const Wide rate = static_cast<Wide>(bytes_per_second);
    const Wide time = (static_cast<Wide>(bytes) * static_cast<Wide>(kFemtosecondsPerSecond) + rate - 1) / rate;
    return Femtoseconds(static_cast<std::int64_t>(time));
  }

  StorageConfig config_;
  std::deque<Completion> pending_;  // not returned yet, in order of completion
  Femtoseconds now_;                // of the last submit()
  Femtoseconds begin_, free_;       // when the link began to move the last request; when it has moved everything
  Bytes moved_;
  bool refused_ = false;
};

}  // namespace

bool operator==(const StorageConfig& a, const StorageConfig& b) {
  return a.kind == b.kind && a.preset == b.preset && a.latency == b.latency &&
         a.bytes_per_second == b.bytes_per_second && a.queue_depth == b.queue_depth &&
         a.granularity_bytes == b.granularity_bytes && a.dma_bytes == b.dma_bytes;
}

std::vector<std::string> storage_preset_names(const std::string& kind) {
  std::vector<std::string> names;
  for (const Preset& preset : kPresets)
    if (kind.empty() || kind == preset.kind) names.emplace_back(preset.name);
  return names;
}

StorageConfig storage_preset(const std::string& name) {
  const Preset& p = find_preset(name);
  return {p.kind,
          p.name,
          Femtoseconds(p.latency_ns * kFemtosecondsPerNanosecond),
          p.bytes_per_second,
          p.queue_depth,
          p.granularity_bytes,
          0};
}

std::string storage_preset_source(const std::string& name) { return find_preset(name).source; }

StorageConfig read_storage_config(const base::YamlNode& node) {
  const std::string kind = node.choice("kind", {"nvme", "host", "ufs"});
  StorageConfig config = storage_preset(node.choice("preset", storage_preset_names(kind)));
  const std::int64_t latency_ns =
      node.integer_or("latency_ns", config.latency.count() / kFemtosecondsPerNanosecond, 0, kMaxLatencyNs);
  config.latency = Femtoseconds(latency_ns * kFemtosecondsPerNanosecond);
  config.bytes_per_second = node.integer_or("bytes_per_second", config.bytes_per_second, 1, kMaxBytesPerSecond);
  config.queue_depth = node.integer_or("queue_depth", config.queue_depth, 1, kMaxQueueDepth);
  config.granularity_bytes = node.integer_or("granularity_bytes", config.granularity_bytes, 1, kMaxGranularity);
  if (node.find("dma_bytes")) config.dma_bytes = node.integer("dma_bytes", 64, kMaxDmaBytes);
  return config;
}

std::unique_ptr<StorageModel> make_storage(const StorageConfig& config) {
  return std::make_unique<StorageLink>(config);
}

std::string describe_storage(const StorageConfig& config) {
  return make_storage(config)->name() + describe_dma(config.dma_bytes);
}

std::string describe_dma(std::int64_t dma_bytes) {
  if (dma_bytes == 0) return ", loads take none of the memory's bandwidth";
  return ", written to the memory in pieces of " + std::to_string(dma_bytes) + " bytes";
}

}  // namespace moesaic::storage
