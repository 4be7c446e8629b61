#include "reference/numerics/format.h"

#include <stdexcept>

#include "base/error.h"

namespace moesaic::numerics {

namespace {

constexpr const char* kNames = "int1 to int8, nested1 to nested8, binary or ternary";

void check_bits(int bits) {
  if (bits < 1 || bits > 8) throw std::logic_error("a format of " + std::to_string(bits) + " bits");
}

// 1..8 from one digit, else 0.
int bits_of(const std::string& text) {
  return text.size() == 1 && text[0] >= '1' && text[0] <= '8' ? text[0] - '0' : 0;
}

}  // namespace

Format Format::integer(int bits) {
  check_bits(bits);
  return Format(FormatKind::kInt, bits);
}

Format Format::nested(int bits) {
  check_bits(bits);
  return Format(FormatKind::kNested, bits);
}

Format Format::parse(const std::string& name, const std::string& where, const std::string& key) {
  for (const Format& format : all_formats())
    if (format.name() == name) return format;
  throw base::ConfigError(where, key, "'" + name + "'", kNames);
}

Format Format::from_metadata(const std::string& kind, const std::string& bits, const std::string& where) {
  if (kind == "int" || kind == "nested") {
    const int b = bits_of(bits);
    if (b == 0) throw base::ConfigError(where, "bits", "'" + bits + "'", "1 to 8");
    return kind == "int" ? integer(b) : nested(b);
  }
  if (kind != "binary" && kind != "ternary")
    throw base::ConfigError(where, "format", "'" + kind + "'", "one of int, nested, binary, ternary");
  const Format format = kind == "binary" ? binary() : ternary();
  if (!bits.empty() && bits_of(bits) != format.bits())
    throw base::ConfigError(where, "bits", "'" + bits + "'", std::to_string(format.bits()) + " for " + kind);
  return format;
}

int Format::up() const {
  switch (kind_) {
    case FormatKind::kNested:
      return 8 - bits_;
    case FormatKind::kBinary:
      return 1;
    case FormatKind::kInt:
    case FormatKind::kTernary:
      return 0;
  }
  return 0;
}

int Format::offset(std::uint8_t zero_point) const {
  switch (kind_) {
    case FormatKind::kInt:
      return zero_point;
    case FormatKind::kNested:
      return bits_ == 8 ? zero_point : zero_point - (1 << (7 - bits_));
    case FormatKind::kBinary:
    case FormatKind::kTernary:
      return 1;
  }
  return 0;
}

int Format::max_code() const { return kind_ == FormatKind::kTernary ? 2 : (1 << stored_planes()) - 1; }

int Format::weight(std::uint8_t code, std::uint8_t zero_point) const {
  const int read = code >> (stored_planes() - planes());
  return (read << up()) - offset(zero_point);
}

std::string Format::kind_name() const {
  switch (kind_) {
    case FormatKind::kInt:
      return "int";
    case FormatKind::kNested:
      return "nested";
    case FormatKind::kBinary:
      return "binary";
    case FormatKind::kTernary:
      return "ternary";
  }
  return "";
}

std::string Format::name() const { return has_zero_point() ? kind_name() + std::to_string(bits_) : kind_name(); }

const std::vector<Format>& all_formats() {
  static const std::vector<Format> all = [] {
    std::vector<Format> list;
    for (int b = 1; b <= 8; ++b) list.push_back(Format::integer(b));
    for (int b = 1; b <= 8; ++b) list.push_back(Format::nested(b));
    list.push_back(Format::binary());
    list.push_back(Format::ternary());
    return list;
  }();
  return all;
}

}  // namespace moesaic::numerics
