// docs/numerics.md: every worked example, recomputed from the page itself.
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "reference/numerics/combine.h"
#include "reference/numerics/mpgemm.h"
#include "reference/numerics/stored_layout.h"
#include "reference/numerics/swiglu.h"

using namespace moesaic::numerics;

namespace {

/// An argument: a number, a word or a list of numbers.
struct Argument {
  std::string word;
  std::int64_t number = 0;
  std::vector<std::int64_t> list;
  Format format() const { return Format::parse(word, "docs/numerics.md", "format"); }
  template <class T>
  std::vector<T> as() const {
    std::vector<T> values;
    for (const auto v : list) values.push_back(static_cast<T>(v));
    return values;
  }
};
using Arguments = std::vector<Argument>;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

Arguments parse_arguments(const std::string& text) {
  Arguments arguments;
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = at;
    for (int depth = 0; end < text.size() && (depth > 0 || text[end] != ','); ++end)
      depth += text[end] == '[' ? 1 : text[end] == ']' ? -1 : 0;
    const std::string word = trimmed(text.substr(at, end - at));
    Argument argument;
    argument.word = word;
    if (word[0] == '[') {
      std::istringstream items(word.substr(1, word.size() - 2));
      for (std::string item; std::getline(items, item, ',');) argument.list.push_back(std::stoll(item));
    } else if (word.find_first_not_of("-0123456789") == std::string::npos) {
      argument.number = std::stoll(word);
    }
    arguments.push_back(argument);
    at = end + 1;
  }
  return arguments;
}

WeightMatrix one_row(const Argument& format, std::int64_t group_size, const Argument& codes) {
  WeightMatrix w;
  w.format = format.format();
  w.n = 1;
  w.codes = codes.as<std::uint8_t>();
  w.k = static_cast<std::int64_t>(w.codes.size());
  w.group_size = group_size;
  return w;
}

StoredLayout layout_of(const Arguments& a) {
  return stored_layout(
      a[0].format(), product_shapes(a[1].number, a[2].number, a[3].number),
      {parse_layout_kind(a[4].word, "docs", "layout"), static_cast<int>(a[5].number), static_cast<int>(a[6].number)});
}

int as_int(const Argument& a) { return static_cast<int>(a.number); }

using Function = std::function<std::int64_t(const Arguments&)>;

const std::map<std::string, Function>& functions() {
  static const std::map<std::string, Function> all = {
      {"rshift_round", [](const Arguments& a) { return rshift_round(a[0].number, as_int(a[1])); }},
      {"saturate", [](const Arguments& a) { return saturate(a[0].number, as_int(a[1])); }},
      {"plane",
       [](const Arguments& a) {
         return a[0].format().plane_bit(static_cast<std::uint8_t>(a[1].number), as_int(a[2]));
       }},
      {"weight",
       [](const Arguments& a) {
         return a[0].format().weight(static_cast<std::uint8_t>(a[1].number), static_cast<std::uint8_t>(a[2].number));
       }},
      {"offset", [](const Arguments& a) { return a[0].format().offset(static_cast<std::uint8_t>(a[1].number)); }},
      {"plane_sum",
       [](const Arguments& a) {
         const auto x = a[2].as<std::int16_t>();
         return plane_sum(one_row(a[0], 1024, a[1]), 0, 0, x.data());
       }},
      {"activation_sum",
       [](const Arguments& a) {
         const auto x = a[0].as<std::int16_t>();
         WeightMatrix w;
         w.k = static_cast<std::int64_t>(x.size());
         w.group_size = 1024;
         return activation_sum(w, 0, x.data());
       }},
      {"dequantise_group",
       [](const Arguments& a) {
         return dequantise_group(a[0].number, a[1].number, as_int(a[2]), as_int(a[3]),
                                 static_cast<std::uint16_t>(a[4].number));
       }},
      {"accumulate",
       [](const Arguments& a) {
         WeightMatrix w = one_row(a[0], a[1].number, a[2]);
         w.zero_point = a[3].as<std::uint8_t>();
         w.group_multiplier = a[4].as<std::uint16_t>();
         w.requant_multiplier = {0};
         w.requant_shift = {0};
         Activations x;
         x.m = 1;
         x.values = a[5].as<std::int16_t>();
         x.k = static_cast<std::int64_t>(x.values.size());
         validate(x, "docs");
         validate(w, x.act_bits, "docs");
         REQUIRE(multiply(w, x) == multiply_reference(w, x));
         return multiply_reference(w, x)[0];
       }},
      {"accumulate_levels",
       [](const Arguments& a) {
         WeightMatrix w = one_row(a[0], a[1].number, a[2]);
         w.zero_point = a[3].as<std::uint8_t>();
         w.group_multiplier = a[4].as<std::uint16_t>();
         w.level_multiplier = a[5].as<std::uint16_t>();
         w.requant_multiplier = {0};
         w.requant_shift = {0};
         Activations x;
         x.m = 1;
         x.values = a[6].as<std::int16_t>();
         x.k = static_cast<std::int64_t>(x.values.size());
         validate(x, "docs");
         validate(w, x.act_bits, "docs");
         REQUIRE(multiply(w, x) == multiply_reference(w, x));
         return multiply_reference(w, x)[0];
       }},
      {"level_weight",
       [](const Arguments& a) {
         return a[0].format().level_weight(static_cast<std::uint8_t>(a[1].number), as_int(a[2]));
       }},
      {"fits_accumulator",
       [](const Arguments& a) { return fits_accumulator(a[0].number, as_int(a[1]), a[2].number) ? 1 : 0; }},
      {"requantise",
       [](const Arguments& a) {
         return requantise(a[0].number, static_cast<std::uint16_t>(a[1].number), as_int(a[2]), as_int(a[3]));
       }},
      {"rom", [](const Arguments& a) { return kSigmoidRom.at(static_cast<std::size_t>(a[0].number)); }},
      {"sigmoid", [](const Arguments& a) { return sigmoid(static_cast<std::int16_t>(a[0].number)); }},
      {"swiglu",
       [](const Arguments& a) {
         return swiglu(static_cast<std::int16_t>(a[0].number), static_cast<std::int16_t>(a[1].number), as_int(a[2]));
       }},
      {"hidden_shift",
       [](const Arguments& a) {
         const auto h = a[0].as<std::int16_t>();
         return hidden_shift(h.data(), static_cast<std::int64_t>(h.size()), as_int(a[1]));
       }},
      {"combine",
       [](const Arguments& a) {
         return combine(a[0].as<std::int16_t>(), a[1].as<std::uint16_t>(), static_cast<std::int64_t>(a[0].list.size()),
                        1, 1)[0];
       }},
      {"plane_stride", [](const Arguments& a) { return layout_of(a).plane_stride(); }},
      {"level_stride", [](const Arguments& a) { return layout_of(a).level_stride(); }},
      {"level_params_offset",
       [](const Arguments& a) {
         return layout_of(a).level_params(0, a[7].number, 0, a[8].number, as_int(a[9])).offset;
       }},
      {"fetch_offset",
       [](const Arguments& a) { return layout_of(a).fetch_offset(0, a[7].number, 0, a[8].number, a[9].number); }},
      {"read_bytes", [](const Arguments& a) { return layout_of(a).read_bytes(); }},
      {"total_bytes", [](const Arguments& a) { return layout_of(a).total_bytes(); }},
      {"plane_offset",
       [](const Arguments& a) {
         return layout_of(a).plane(0, a[7].number, 0, a[8].number, a[9].number, as_int(a[10])).offset;
       }},
  };
  return all;
}

}  // namespace

TEST_CASE("every worked example of docs/numerics.md is what the code computes", "[unit][numerics]") {
  std::istringstream page(moesaic::base::read_file("docs/numerics.md"));
  bool in_example = false;
  std::set<std::string> used;
  int line_number = 0;
  for (std::string line; std::getline(page, line);) {
    ++line_number;
    if (line.rfind("```", 0) == 0) {
      in_example = line == "```example";
      continue;
    }
    if (!in_example || trimmed(line).empty()) continue;
    CAPTURE(line_number, line);
    const auto open = line.find('('), close = line.rfind(") = ");
    REQUIRE(open != std::string::npos);
    REQUIRE(close != std::string::npos);
    const std::string name = line.substr(0, open);
    REQUIRE(functions().count(name) == 1);
    used.insert(name);
    const std::int64_t value = functions().at(name)(parse_arguments(line.substr(open + 1, close - open - 1)));
    CHECK(std::to_string(value) == trimmed(line.substr(close + 4)));
  }
  for (const auto& entry : functions()) {
    CAPTURE(entry.first);
    CHECK(used.count(entry.first) == 1);
  }
}
