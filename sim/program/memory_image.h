#pragma once
/// What lies in the memory behind a chip: named regions of bytes, each of one kind. Addresses start at base() and only
/// grow; what lies at those that nobody reads any more can be forgotten, so that a run of any length has an image of
/// one size.
#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace moesaic::program {

/// What bytes are for; traffic is counted by kind.
enum class Kind : std::uint8_t {
  kWeights,
  kParams,
  kRequant,
  kActivations,
  kHidden,
  kExpertRows,
  kRouting,
  kOutputs,
  kCache,        ///< keys and values of earlier tokens, read as weights with their parameters, and new rows of them
  kScores,       ///< scores of attention, and the probabilities made from them, read as activations
  kExpertCache,  ///< weights, params and requant of experts whose places come and go
};
inline constexpr std::array<std::string_view, 11> kKindNames{"weights", "params",      "requant",     "activations",
                                                             "hidden",  "expert_rows", "routing",     "outputs",
                                                             "cache",   "scores",      "expert_cache"};
/// Whether the core may write there.
constexpr bool is_written(Kind kind) {
  return kind == Kind::kOutputs || kind == Kind::kHidden || kind == Kind::kExpertRows || kind == Kind::kActivations ||
         kind == Kind::kCache || kind == Kind::kScores;
}
inline constexpr std::size_t kNumKinds = kKindNames.size();

class MemoryImage {
 public:
  struct Region {
    std::string name;
    Kind kind;
    std::uint64_t address;
    std::uint64_t bytes;
    std::size_t counter;  ///< number under which its traffic is counted (Traffic)
    std::uint64_t end() const { return address + bytes; }
  };

  /// Addresses begin at `base`, a multiple of 64.
  explicit MemoryImage(std::uint64_t base = 0) : base_(base), end_(base) {}
  /// An image of regions without bytes, for engines that only ask what lies where. Reading or writing it is a
  /// std::logic_error.
  static MemoryImage without_bytes(std::uint64_t base = 0) {
    MemoryImage image(base);
    image.has_bytes_ = false;
    return image;
  }
  /// Of an image without bytes: reading gives zeros from now on and writing changes nothing, so that an engine with
  /// data can run on shapes alone.
  void show_zeros() { shows_zeros_ = !has_bytes_; }

  /// A number to count traffic under, of bytes of this kind: 0, 1, ...
  std::size_t new_counter(Kind kind);
  std::size_t counters() const { return counter_kinds_.size(); }
  Kind counter_kind(std::size_t counter) const { return counter_kinds_[counter]; }

  /// A new region of zeros at the next address that is `skew` past a multiple of 64; two regions never share 64 bytes,
  /// the widest beat. Its traffic is counted under `counter`, which is of the same kind, or under a number of its own.
  /// Returns its address.
  std::uint64_t allocate(std::string name, Kind kind, std::uint64_t bytes, unsigned skew = 0,
                         std::optional<std::size_t> counter = std::nullopt);
  /// The same for a region that forget() may remove.
  std::uint64_t allocate_for_a_while(std::string name, Kind kind, std::uint64_t bytes,
                                     std::optional<std::size_t> counter = std::nullopt);
  /// Nothing lies any more at the region that begins at `address`, one of allocate_for_a_while(). Its addresses are not
  /// used again, and its counter stays.
  void forget(std::uint64_t address);
  /// Leaves the bytes up to `address` free: the next region begins there or after it.
  void skip_to(std::uint64_t address);
  /// Splits the bytes [address, address + bytes) of an existing region off as a region of another kind, which is
  /// counted under a number of its own.
  void relabel(std::uint64_t address, std::uint64_t bytes, Kind kind);

  std::uint64_t base() const { return base_; }
  std::uint64_t end() const { return end_; }  ///< behind the last region that there ever was
  bool has_bytes() const { return has_bytes_; }
  bool contains(std::uint64_t address, std::uint64_t bytes) const {
    return address >= base_ && address <= end() && bytes <= end() - address;
  }
  /// Bytes outside every region, and between regions, read as 0. Writing there is a std::logic_error.
  std::uint8_t read(std::uint64_t address) const {
    need_bytes();
    const Block* const block = block_at(address);
    return block == nullptr ? std::uint8_t{0} : block->bytes[address - block->begin];
  }
  void read(std::uint64_t address, std::uint8_t* to, std::uint64_t bytes) const;
  void write(std::uint64_t address, const std::uint8_t* from, std::uint64_t bytes);
  void write_byte(std::uint64_t address, std::uint8_t value);

  const std::vector<Region>& regions() const { return regions_; }
  /// The region that holds `address`, or null.
  const Region* region_at(std::uint64_t address) const;

 private:
  void need_bytes() const {
    if (!has_bytes_ && !shows_zeros_) throw std::logic_error("bytes of a memory image without bytes");
  }
  /// Bytes of neighbouring regions, and of the gaps between them.
  struct Block {
    std::uint64_t begin;
    std::vector<std::uint8_t> bytes;
    std::uint64_t end() const { return begin + bytes.size(); }
  };
  /// The block that holds `address`, or null.
  const Block* block_at(std::uint64_t address) const;
  std::uint64_t add(std::string name, Kind kind, std::uint64_t bytes, unsigned skew,
                    const std::optional<std::size_t>& counter, bool apart);

  std::uint64_t base_, end_;
  bool has_bytes_ = true, shows_zeros_ = false;
  bool apart_ = true;            // what comes next begins a block
  std::vector<Block> blocks_;    // by address
  std::vector<Region> regions_;  // by address
  std::vector<Kind> counter_kinds_;
};

}  // namespace moesaic::program
