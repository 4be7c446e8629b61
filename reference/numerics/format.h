#pragma once
/// Weight formats. A code is one byte; its bit planes are ranked from 1, the most significant, which is also the order
/// in which they are stored and loaded. Rank r of a code is bit (stored_planes - r).
///
///   format     codes     stored planes  planes read  up    z (signed 16 bits)           weight
///   int b      0..2^b-1  b              b            0     zero point                   code - z
///   nested b   0..255    8              b (the top)  8-b   zero point - 2^(7-b), b < 8  code, low `up` bits cut, - z
///   binary     0..1      1              1            1     1                            2 code - 1
///   ternary    0..2      2              2            0     1                            code - 1
///
/// These have one bundle: planes that share a group multiplier and an offset. MWQ has several (D2MoE's matryoshka
/// weights): the top b planes are an int b bundle, and each plane below is a binary bundle, a level, with a group
/// multiplier of its own. A weight is worth s * (base - z) + sum over the levels read of s_level * (+1 or -1).
///
///   mwq b+r of l   0..2^(b+l)-1   b + l stored, b + r read   base: up 0, z the zero point; levels: up 1, z 1
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moesaic::numerics {

enum class FormatKind : std::uint8_t { kInt, kNested, kBinary, kTernary, kMwq };

class Format {
 public:
  constexpr Format() = default;
  static Format integer(int bits);  ///< bits 1..8, else std::logic_error
  static Format nested(int bits);   ///< bits 1..8, else std::logic_error
  static constexpr Format binary() { return Format(FormatKind::kBinary, 1); }
  static constexpr Format ternary() { return Format(FormatKind::kTernary, 2); }
  /// Base 1..7 bits, levels stored 1..8 - base_bits, levels read 0..stored; else std::logic_error.
  static Format mwq(int base_bits, int stored_levels, int read_levels);

  /// "int4", "nested3", "binary", "ternary", "mwq2+3" (base 2 bits, 3 levels, all read), "mwq2+1of3" (one of them
  /// read); anything else is a ConfigError at `where`, `key`.
  static Format parse(const std::string& name, const std::string& where, const std::string& key);
  /// A case file's pair: kind "int", "nested", "binary", "ternary" or MWQ's whole name, and the number of bits. But for
  /// int and nested `bits` may be empty; given, it must be bits().
  static Format from_metadata(const std::string& kind, const std::string& bits, const std::string& where);

  FormatKind kind() const { return kind_; }
  int bits() const { return planes(); }  ///< int, nested: 1..8; binary 1; ternary 2; MWQ: base and levels read
  int planes() const { return base_planes_ + levels_; }  ///< planes read by a product
  int stored_planes() const { return kind_ == FormatKind::kNested ? 8 : base_planes_ + stored_levels_; }
  int base_planes() const { return base_planes_; }      ///< planes read of the first bundle
  int levels() const { return levels_; }                ///< bundles read after the first, each of one plane
  int stored_levels() const { return stored_levels_; }  ///< the levels of a weight, read or not
  /// Low bits of a code that do not belong to what is read of the first bundle.
  int base_cut() const { return stored_planes() - base_planes_; }
  /// Of the first bundle, as up() and offset(). A level's are kLevelUp and kLevelOffset.
  int up() const;                             ///< left shift of a group's plane sum, 0..7
  int offset(std::uint8_t zero_point) const;  ///< z; binary and ternary ignore the zero point
  static constexpr int kLevelUp = 1;
  static constexpr int kLevelOffset = 1;
  /// The same stored copy read at `planes` planes: nested at 1..8, MWQ from its base to all it stores; any other format
  /// only at the planes it has. Nothing when it cannot be read so. Codes, parameters and layout are the same at each.
  std::optional<Format> read_at(int planes) const;
  /// One stored copy serves both.
  bool same_copy(Format other) const { return read_at(other.planes()) == other; }
  int max_code() const;  ///< the greatest legal code
  bool has_zero_point() const { return kind_ != FormatKind::kBinary && kind_ != FormatKind::kTernary; }
  /// Bit of `code` in plane `rank` (1 = most significant stored plane).
  int plane_bit(std::uint8_t code, int rank) const { return (code >> (stored_planes() - rank)) & 1; }
  /// What a code's first bundle means as an integer: (its planes read, weighted) << up - z. In -255..255.
  int weight(std::uint8_t code, std::uint8_t zero_point) const;
  /// What a code says in level 1..stored_levels(): -1 or +1.
  int level_weight(std::uint8_t code, int level) const { return 2 * plane_bit(code, base_planes_ + level) - 1; }

  std::string name() const;       ///< "int4"; parse(name()) gives the same format
  std::string kind_name() const;  ///< what from_metadata() takes: "int"; MWQ's whole name

  friend bool operator==(Format a, Format b) { return a.key() == b.key(); }
  friend bool operator!=(Format a, Format b) { return !(a == b); }
  /// Some order, for use as a key; it is not that of all_formats().
  friend bool operator<(Format a, Format b) { return a.key() < b.key(); }

 private:
  constexpr Format(FormatKind kind, int base_planes, int stored_levels = 0, int levels = 0)
      : kind_(kind), base_planes_(base_planes), stored_levels_(stored_levels), levels_(levels) {}
  constexpr int key() const {
    return ((static_cast<int>(kind_) * 16 + base_planes_) * 16 + stored_levels_) * 16 + levels_;
  }
  FormatKind kind_ = FormatKind::kInt;
  int base_planes_ = 8, stored_levels_ = 0, levels_ = 0;
};

/// The 18 of one bundle: int1..int8, nested1..nested8, binary, ternary.
const std::vector<Format>& one_bundle_formats();
/// The 112 of MWQ, by base bits, levels stored, levels read.
const std::vector<Format>& mwq_formats();
/// All 130: the first, then the second.
const std::vector<Format>& all_formats();

}  // namespace moesaic::numerics
