#pragma once
/// What is stored for each expert, as numbers: the unit of loading and eviction, its bytes, and where it lies in the
/// storage. The cache and the driver know experts by (layer, expert) and nothing else of a network.
///
///   tile_major, interleaved
///                one unit: the whole expert (planes of a tile lie together, so none can be left out)
///   plane_major  unit 0: group multipliers, zero points, requantisation; unit r: the plane of rank r (1 is the most
///                significant). A request for b bits reads units 0..b. MWQ: a level's multipliers are in its plane's
///                unit.
#include <cstdint>
#include <vector>

#include "base/units.h"
#include "reference/numerics/stored_layout.h"

namespace moesaic::host {

using base::Bytes;
using base::Cycles;

/// One unit of a stored expert.
struct UnitSpan {
  Bytes offset;  ///< from the expert's first stored byte
  Bytes bytes;   ///< >= 1
};

/// One kind of stored expert: all experts of one format and shape are alike.
struct StoredExpert {
  std::vector<UnitSpan> units;  ///< whole: one; by planes: parameters, then ranks 1, 2, ...
  bool by_planes = false;
  Bytes total;          ///< bytes of the object, padding included: the step from one expert to the next in storage
  int planes_read = 0;  ///< planes of a request that names none
  /// Above 0: the units lie in one contiguous place of so many bytes. It is given when the first comes, and kept for
  /// all of them whether they are there or not; they come in the order of units, and leave together. 0: each unit has a
  /// place of its own.
  Bytes room{};

  /// Units that a request for `planes` planes reads: units 0..count-1. 0 planes: as many as planes_read. All units when
  /// the expert is not stored by planes.
  std::size_t units_read(int planes) const;
  /// Their bytes.
  Bytes bytes_read(int planes) const;
};

/// The units of an object as numerics lays it out.
StoredExpert stored_expert(const numerics::StoredLayout& layout);

/// An expert of `bytes` bytes that is loaded and evicted as a whole.
StoredExpert whole_expert(Bytes bytes);

/// All experts: `layers` layers (those that have experts, numbered from 0) of `experts` experts each. Experts lie in
/// the storage one after the other, by layer and expert, from address 0.
class ExpertBytes {
 public:
  /// Every expert of one kind. std::logic_error for no layers, no experts or a kind without bytes.
  ExpertBytes(std::uint32_t layers, std::uint32_t experts, const StoredExpert& kind);
  /// kinds[kind_of[layer * experts + expert]].
  ExpertBytes(std::uint32_t layers, std::uint32_t experts, std::vector<StoredExpert> kinds,
              std::vector<std::uint32_t> kind_of);

  std::uint32_t layers() const { return layers_; }
  std::uint32_t experts() const { return experts_; }
  const StoredExpert& at(std::uint32_t layer, std::uint32_t expert) const {
    return kinds_[kind_of_[index(layer, expert)]];
  }
  /// First stored byte of an expert.
  std::uint64_t source(std::uint32_t layer, std::uint32_t expert) const { return source_[index(layer, expert)]; }
  std::size_t most_units() const { return most_units_; }  ///< of any expert
  Bytes largest_expert() const { return largest_; }       ///< most bytes that all units of one expert take, or its room
  bool equal_units() const { return equal_units_; }       ///< every unit of every expert has the same bytes

 private:
  std::size_t index(std::uint32_t layer, std::uint32_t expert) const {
    return static_cast<std::size_t>(layer) * experts_ + expert;
  }
  std::uint32_t layers_, experts_;
  std::vector<StoredExpert> kinds_;
  std::vector<std::uint32_t> kind_of_;
  std::vector<std::uint64_t> source_;
  std::size_t most_units_ = 0;
  Bytes largest_;
  bool equal_units_ = true;
};

}  // namespace moesaic::host
