#include "reference/numerics/format.h"

#include <stdexcept>

#include "base/error.h"

namespace moesaic::numerics {

namespace {

constexpr const char* kNames = "int1 to int8, nested1 to nested8, binary, ternary or mwqB+L, mwqB+RofL";

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

Format Format::mwq(int base_bits, int stored_levels, int read_levels) {
  if (base_bits < 1 || stored_levels < 1 || base_bits + stored_levels > 8 || read_levels < 0 ||
      read_levels > stored_levels)
    throw std::logic_error("MWQ of " + std::to_string(base_bits) + " bits and " + std::to_string(read_levels) + " of " +
                           std::to_string(stored_levels) + " levels");
  return Format(FormatKind::kMwq, base_bits, stored_levels, read_levels);
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
  const bool is_mwq = kind.rfind("mwq", 0) == 0;
  if (kind != "binary" && kind != "ternary" && !is_mwq)
    throw base::ConfigError(where, "format", "'" + kind + "'",
                            "one of int, nested, binary, ternary, mwqB+L, mwqB+RofL");
  const Format format = is_mwq ? parse(kind, where, "format") : kind == "binary" ? binary() : ternary();
  if (!bits.empty() && bits_of(bits) != format.bits())
    throw base::ConfigError(where, "bits", "'" + bits + "'", std::to_string(format.bits()) + " for " + kind);
  return format;
}

int Format::up() const {
  switch (kind_) {
    case FormatKind::kNested:
      return 8 - base_planes_;
    case FormatKind::kBinary:
      return 1;
    case FormatKind::kInt:
    case FormatKind::kMwq:
    case FormatKind::kTernary:
      return 0;
  }
  return 0;
}

int Format::offset(std::uint8_t zero_point) const {
  switch (kind_) {
    case FormatKind::kInt:
    case FormatKind::kMwq:
      return zero_point;
    case FormatKind::kNested:
      return base_planes_ == 8 ? zero_point : zero_point - (1 << (7 - base_planes_));
    case FormatKind::kBinary:
    case FormatKind::kTernary:
      return 1;
  }
  return 0;
}

std::optional<Format> Format::read_at(int planes) const {
  if (planes == this->planes()) return *this;
  if (kind_ == FormatKind::kNested && planes >= 1 && planes <= 8) return nested(planes);
  if (kind_ == FormatKind::kMwq && planes >= base_planes_ && planes <= stored_planes())
    return mwq(base_planes_, stored_levels_, planes - base_planes_);
  return std::nullopt;
}

int Format::max_code() const { return kind_ == FormatKind::kTernary ? 2 : (1 << stored_planes()) - 1; }

int Format::weight(std::uint8_t code, std::uint8_t zero_point) const {
  return ((code >> base_cut()) << up()) - offset(zero_point);
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
    case FormatKind::kMwq:
      return "mwq" + std::to_string(base_planes_) + "+" + std::to_string(levels_) +
             (levels_ == stored_levels_ ? "" : "of" + std::to_string(stored_levels_));
  }
  return "";
}

std::string Format::name() const {
  const bool numbered = kind_ == FormatKind::kInt || kind_ == FormatKind::kNested;
  return numbered ? kind_name() + std::to_string(base_planes_) : kind_name();
}

const std::vector<Format>& one_bundle_formats() {
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

const std::vector<Format>& mwq_formats() {
  static const std::vector<Format> all = [] {
    std::vector<Format> list;
    for (int base = 1; base <= 7; ++base)
      for (int stored = 1; base + stored <= 8; ++stored)
        for (int read = 0; read <= stored; ++read) list.push_back(Format::mwq(base, stored, read));
    return list;
  }();
  return all;
}

const std::vector<Format>& all_formats() {
  static const std::vector<Format> all = [] {
    std::vector<Format> list = one_bundle_formats();
    list.insert(list.end(), mwq_formats().begin(), mwq_formats().end());
    return list;
  }();
  return all;
}

}  // namespace moesaic::numerics
