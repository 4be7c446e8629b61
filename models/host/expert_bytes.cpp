#include "models/host/expert_bytes.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace moesaic::host {

std::size_t StoredExpert::units_read(int planes) const {
  if (!by_planes) return units.size();
  if (planes == 0) planes = planes_read;
  if (planes < 1 || static_cast<std::size_t>(planes) >= units.size())
    throw std::logic_error("units_read: got " + std::to_string(planes) + " planes, expected 1 to " +
                           std::to_string(units.size() - 1));
  return static_cast<std::size_t>(planes) + 1;
}

Bytes StoredExpert::bytes_read(int planes) const {
  Bytes sum;
  for (std::size_t u = 0; u < units_read(planes); ++u) sum += units[u].bytes;
  return sum;
}

StoredExpert stored_expert(const numerics::StoredLayout& layout) {
  StoredExpert kind;
  kind.total = Bytes(layout.total_bytes());
  kind.planes_read = layout.format().planes();
  if (layout.spec().kind != numerics::LayoutKind::kPlaneMajor) {
    kind.units.push_back({Bytes(0), kind.total});
    return kind;
  }
  kind.by_planes = true;
  const std::int64_t params = layout.params_begin();
  kind.units.push_back({Bytes(params), Bytes(layout.total_bytes() - params)});
  const int levels = layout.format().stored_levels(), planes = layout.format().stored_planes() - levels;
  for (int rank = 1; rank <= planes; ++rank)
    kind.units.push_back({Bytes((rank - 1) * layout.plane_stride()), Bytes(layout.plane_stride())});
  for (int level = 1; level <= levels; ++level)
    kind.units.push_back(
        {Bytes(planes * layout.plane_stride() + (level - 1) * layout.level_stride()), Bytes(layout.level_stride())});
  return kind;
}

StoredExpert whole_expert(Bytes bytes) {
  StoredExpert kind;
  kind.units.push_back({Bytes(0), bytes});
  kind.total = bytes;
  kind.planes_read = 1;
  return kind;
}

ExpertBytes::ExpertBytes(std::uint32_t layers, std::uint32_t experts, const StoredExpert& kind)
    : ExpertBytes(layers, experts, std::vector<StoredExpert>{kind},
                  std::vector<std::uint32_t>(static_cast<std::size_t>(layers) * experts, 0U)) {}

ExpertBytes::ExpertBytes(std::uint32_t layers, std::uint32_t experts, std::vector<StoredExpert> kinds,
                         std::vector<std::uint32_t> kind_of)
    : layers_(layers), experts_(experts), kinds_(std::move(kinds)), kind_of_(std::move(kind_of)) {
  if (layers_ == 0 || experts_ == 0 || kind_of_.size() != static_cast<std::size_t>(layers_) * experts_)
    throw std::logic_error("ExpertBytes: expected at least one layer and expert, and a kind for each");
  source_.reserve(kind_of_.size());
  std::uint64_t address = 0;
  Bytes first;
  for (const std::uint32_t k : kind_of_) {
    const StoredExpert& kind = kinds_.at(k);
    source_.push_back(address);
    address += static_cast<std::uint64_t>(kind.total.count());
  }
  for (const StoredExpert& kind : kinds_) {
    Bytes sum;
    for (const UnitSpan& unit : kind.units) {
      if (unit.bytes < Bytes(1)) throw std::logic_error("ExpertBytes: expected units of at least one byte");
      sum += unit.bytes;
      if (first == Bytes(0)) first = unit.bytes;
      equal_units_ = equal_units_ && unit.bytes == first;
    }
    most_units_ = std::max(most_units_, kind.units.size());
    largest_ = std::max({largest_, sum, kind.room});
  }
  if (most_units_ == 0) throw std::logic_error("ExpertBytes: expected experts with at least one unit");
}

}  // namespace moesaic::host
