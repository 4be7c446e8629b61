#pragma once
/// Weight formats. A code is one byte; its bit planes are ranked from 1, the most significant, which is also the order
/// in which they are stored and loaded. Rank r of a code is bit (stored_planes - r).
///
///   format     codes     stored planes  planes read  up    z (signed 16 bits)             weight
///   int b      0..2^b-1  b              b            0     zero point                     code - z
///   nested b   0..255    8              b (the top)  8-b   zero point - 2^(7-b), b < 8    (code with its low `up` bits
///   cut) - z binary     0..1      1              1            1     1                              2 code - 1 ternary
///   0..2      2              2            0     1                              code - 1
#include <cstdint>
#include <string>
#include <vector>

namespace moesaic::numerics {

enum class FormatKind : std::uint8_t { kInt, kNested, kBinary, kTernary };

class Format {
 public:
  constexpr Format() = default;
  static Format integer(int bits);  ///< bits 1..8, else std::logic_error
  static Format nested(int bits);   ///< bits 1..8, else std::logic_error
  static constexpr Format binary() { return Format(FormatKind::kBinary, 1); }
  static constexpr Format ternary() { return Format(FormatKind::kTernary, 2); }

  /// "int4", "nested3", "binary", "ternary"; anything else is a ConfigError at `where`, `key`.
  static Format parse(const std::string& name, const std::string& where, const std::string& key);
  /// A case file's pair: kind "int", "nested", "binary" or "ternary" and the number of bits. For binary and ternary
  /// `bits` may be empty; given, it must be 1 and 2.
  static Format from_metadata(const std::string& kind, const std::string& bits, const std::string& where);

  FormatKind kind() const { return kind_; }
  int bits() const { return bits_; }    ///< int, nested: 1..8; binary 1; ternary 2
  int planes() const { return bits_; }  ///< planes read by a product
  int stored_planes() const { return kind_ == FormatKind::kNested ? 8 : bits_; }
  int up() const;                             ///< left shift of a group's plane sum, 0..7
  int offset(std::uint8_t zero_point) const;  ///< z; binary and ternary ignore the zero point
  int max_code() const;                       ///< the greatest legal code
  bool has_zero_point() const { return kind_ == FormatKind::kInt || kind_ == FormatKind::kNested; }
  /// Bit of `code` in plane `rank` (1 = most significant stored plane).
  int plane_bit(std::uint8_t code, int rank) const { return (code >> (stored_planes() - rank)) & 1; }
  /// What a code means as an integer: (planes read, weighted) << up - z. In -255..255.
  int weight(std::uint8_t code, std::uint8_t zero_point) const;

  std::string name() const;       ///< "int4"; parse(name()) gives the same format
  std::string kind_name() const;  ///< "int"

  friend bool operator==(Format a, Format b) { return a.kind_ == b.kind_ && a.bits_ == b.bits_; }
  friend bool operator!=(Format a, Format b) { return !(a == b); }

 private:
  constexpr Format(FormatKind kind, int bits) : kind_(kind), bits_(bits) {}
  FormatKind kind_ = FormatKind::kInt;
  int bits_ = 8;
};

/// All 18: int1..int8, nested1..nested8, binary, ternary.
const std::vector<Format>& all_formats();

}  // namespace moesaic::numerics
