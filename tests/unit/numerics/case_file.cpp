// reference/numerics/case_file and random_case.
#include "reference/numerics/case_file.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/safetensors.h"
#include "tests/temporary_folder.h"

using namespace moesaic::numerics;
using moesaic::base::Rng;
using moesaic::base::tensor_view;
using moesaic::base::TensorView;

namespace {

using Folder = moesaic::tests::TemporaryFolder;

/// A legal 1 x 2 x 8 product whose tensors and metadata a test may spoil.
struct Raw {
  std::vector<std::int8_t> x = {1, 2, 3, 4, 5, 6, 7, -8};
  std::vector<std::int16_t> x16 = {1, 2, 3, 4, 5, 6, 7, -8};
  std::vector<std::uint8_t> w = std::vector<std::uint8_t>(16, 1), zp = {0, 1}, sigma = {0, 1}, token_shift = {0};
  std::vector<std::uint16_t> s = {1, 2}, mu = {3, 4};
  std::map<std::string, TensorView> tensors;
  std::map<std::string, std::string> metadata = {
      {"format", "int"}, {"bits", "2"}, {"group_size", "8"}, {"act_bits", "8"}, {"out_bits", "8"}};
  Raw() {
    tensors = {{"x", tensor_view(x, {1, 8})},
               {"w", tensor_view(w, {2, 8})},
               {"zero_point", tensor_view(zp, {2, 1})},
               {"group_multiplier", tensor_view(s, {2, 1})},
               {"requant_multiplier", tensor_view(mu, {2})},
               {"requant_shift", tensor_view(sigma, {2})}};
  }
  Raw(const Raw&) = delete;
  std::string refusal(const Folder& folder) const {
    const std::string path = folder.file("case.safetensors");
    moesaic::base::write_safetensors(path, tensors, metadata);
    try {
      read_case(path);
    } catch (const moesaic::base::InputError& error) {
      const std::string text = error.what();
      REQUIRE(text.rfind(path + ": ", 0) == 0);
      return text.substr(path.size() + 2);
    }
    return "accepted";
  }
};

}  // namespace

TEST_CASE("a random case is legal, is reproducible, and survives its file", "[unit][numerics]") {
  const Folder folder;
  const Rng root(404);
  for (std::uint64_t i = 0; i < 150; ++i) {
    CAPTURE(i);
    Rng a = root.stream("case", i), b = root.stream("case", i);
    const KernelCase c = random_case(a), again = random_case(b);
    CAPTURE(describe(c));
    write_case(folder.file("c"), c);
    const KernelCase back = read_case(folder.file("c"));
    REQUIRE(describe(back) == describe(c));
    write_case(folder.file("back"), back);
    write_case(folder.file("again"), again);
    const std::string bytes = moesaic::base::read_file(folder.file("c"));
    REQUIRE(moesaic::base::read_file(folder.file("back")) == bytes);
    REQUIRE(moesaic::base::read_file(folder.file("again")) == bytes);
    REQUIRE(first_difference(c, run_case(back), run_case(c)).empty());
  }
}

TEST_CASE("random cases reach every format, width, operation, ragged shape and the 48-bit bound", "[unit][numerics]") {
  const Rng root(505);
  std::set<std::string> formats;
  std::set<int> act_bits, out_bits;
  int operations[3] = {};
  int at_bound = 0, one_group_beyond_k = 0, saturated = 0, nonzero = 0, values = 0, token_shifts_seen = 0,
      hidden_shifts = 0;
  std::int64_t largest = 0;
  for (std::uint64_t i = 0; i < 4000; ++i) {
    Rng rng = root.stream("reach", i);
    const KernelCase c = random_case(rng);
    ++operations[c.index()];
    const KernelResult result = run_case(c);
    if (const auto* expert = std::get_if<ExpertCase>(&c)) {
      for (const auto e : std::get<ExpertResult>(result).eh) hidden_shifts += e > 0 ? 1 : 0;
      formats.insert(expert->w.gate.format.name());
    }
    const auto* p = std::get_if<MpgemmCase>(&c);
    if (p == nullptr) continue;
    formats.insert(p->w.format.name());
    act_bits.insert(p->x.act_bits);
    out_bits.insert(p->out_bits);
    at_bound += fits_accumulator(p->w.k, p->x.act_bits, p->w.multiplier_sum()) &&
                !fits_accumulator(p->w.k + 1, p->x.act_bits, p->w.multiplier_sum());
    one_group_beyond_k += p->w.group_size > p->w.k ? 1 : 0;
    token_shifts_seen += p->x.token_shift.empty() ? 0 : 1;
    for (const auto a : std::get<MpgemmResult>(result).acc) largest = std::max(largest, a < 0 ? -a : a);
    for (const auto y : std::get<MpgemmResult>(result).y) {
      ++values;
      nonzero += y != 0 ? 1 : 0;
      saturated += y == (1 << (p->out_bits - 1)) - 1 ? 1 : 0;
    }
  }
  CHECK(formats.size() == 130);
  CHECK(act_bits == std::set<int>{4, 8, 16});
  CHECK(out_bits == std::set<int>{4, 8, 16});
  for (const int count : operations) CHECK(count > 200);
  CHECK(at_bound > 20);
  CHECK(one_group_beyond_k > 100);
  CHECK(token_shifts_seen > 300);
  CHECK(hidden_shifts > 500);
  CHECK(largest == std::int64_t{257} * 32768 * 255 * 65535);
  CHECK(nonzero * 5 > values * 2);
  CHECK(saturated * 100 > values);
}

TEST_CASE("a case file with anything out of contract is refused with its reason", "[unit][numerics]") {
  const Folder folder;
  CHECK(Raw().refusal(folder) == "accepted");
  const auto metadata = [&](const std::string& key, const std::string& value) {
    Raw raw;
    raw.metadata[key] = value;
    return raw.refusal(folder);
  };
  CHECK(metadata("op", "matmul") == "__metadata__.op: got 'matmul', expected one of mpgemm, expert, combine");
  CHECK(metadata("op", "mpgemm") == "accepted");
  CHECK(metadata("formt", "int") ==
        "__metadata__.formt: got an unknown key, expected one of act_bits, bits, format, group_size, op, out_bits");
  CHECK(metadata("sigma_h", "3") ==
        "__metadata__.sigma_h: got an unknown key, expected one of act_bits, bits, format, group_size, op, out_bits");
  CHECK(metadata("format", "itn") ==
        "format: got 'itn', expected one of int, nested, binary, ternary, mwqB+L, mwqB+RofL");
  CHECK(metadata("format", "mwq2+") ==
        "format: got 'mwq2+', expected int1 to int8, nested1 to nested8, binary, "
        "ternary or mwqB+L, mwqB+RofL");
  CHECK(metadata("bits", "9") == "bits: got '9', expected 1 to 8");
  CHECK(metadata("bits", "02") == "bits: got '02', expected 1 to 8");
  CHECK(metadata("group_size", "12") == "__metadata__.group_size: got '12', expected a positive multiple of 8");
  CHECK(metadata("group_size", "0") == "__metadata__.group_size: got '0', expected a positive multiple of 8");
  CHECK(metadata("group_size", "-8") == "__metadata__.group_size: got '-8', expected a positive multiple of 8");
  CHECK(metadata("group_size", "8.0") == "__metadata__.group_size: got '8.0', expected a positive multiple of 8");
  CHECK(metadata("group_size", "9223372036854775808") ==
        "__metadata__.group_size: got '9223372036854775808', expected a positive multiple of 8");
  CHECK(metadata("group_size", "9223372036854775800") == "accepted");
  CHECK(metadata("act_bits", "5") == "__metadata__.act_bits: got '5', expected 4, 8 or 16");
  CHECK(metadata("act_bits", "16") == "tensor x: dtype: got I8, expected I16");
  CHECK(metadata("out_bits", "32") == "__metadata__.out_bits: got '32', expected 4, 8 or 16");
  CHECK(metadata("bits", "") == "bits: got '', expected 1 to 8");
  for (const char* key : {"format", "group_size", "act_bits", "out_bits"}) {
    Raw raw;
    raw.metadata.erase(key);
    CHECK(raw.refusal(folder) == "__metadata__." + std::string(key) + ": got nothing, expected this key");
  }
  {
    Raw raw;
    raw.w[3] = 4;
    CHECK(raw.refusal(folder) == "w[0, 3]: got 4, expected a code of int2 from 0 to 3");
  }
  {
    Raw raw;
    raw.metadata["format"] = "ternary";
    raw.w[9] = 3;
    CHECK(raw.refusal(folder) == "w[1, 1]: got 3, expected a code of ternary from 0 to 2");
    raw.w[9] = 2;
    CHECK(raw.refusal(folder) == "accepted");
    raw.tensors.erase("zero_point");
    CHECK(raw.refusal(folder) == "accepted");
    raw.metadata.erase("bits");
    CHECK(raw.refusal(folder) == "accepted");
    raw.tensors["zero_point"] = tensor_view(raw.zp, {1, 2});
    CHECK(raw.refusal(folder) == "tensor zero_point: shape: got [1, 2], expected [2, 1]");
  }
  {
    Raw raw;
    raw.metadata["act_bits"] = "4";
    CHECK(raw.refusal(folder) == "accepted");
    raw.x[7] = -9;
    CHECK(raw.refusal(folder) == "x[0, 7]: got -9, expected -8 to 7");
  }
  {
    Raw raw;
    raw.tensors.erase("zero_point");
    CHECK(raw.refusal(folder) == "tensor zero_point: got nothing, expected this tensor");
  }
  {
    Raw raw;
    raw.tensors["zero_points"] = tensor_view(raw.zp, {2, 1});
    CHECK_THAT(raw.refusal(folder), Catch::Matchers::StartsWith("tensor zero_points: got an unknown tensor"));
  }
  {
    Raw raw;
    raw.tensors["w"] = tensor_view(raw.w, {4, 4});
    CHECK(raw.refusal(folder) == "tensor zero_point: shape: got [2, 1], expected [4, 1]");
  }
  {
    Raw raw;
    raw.tensors["x"] = tensor_view(raw.x, {2, 4});
    CHECK(raw.refusal(folder) == "w: columns: got 8, expected 4 as in x");
  }
  {
    Raw raw;
    raw.tensors["x"] = tensor_view(raw.x, {8});
    CHECK(raw.refusal(folder) == "tensor x: shape: got [8], expected two extents of at least 1");
  }
  {
    Raw raw;
    const std::vector<std::int8_t> none;
    raw.tensors["x"] = tensor_view(none, {0, 8});
    CHECK(raw.refusal(folder) == "tensor x: shape: got [0, 8], expected two extents of at least 1");
  }
  {
    Raw raw;
    raw.sigma[1] = 60;
    raw.token_shift[0] = 3;
    raw.tensors["token_shift"] = tensor_view(raw.token_shift, {1});
    CHECK(raw.refusal(folder) == "requant_shift[1]: got 60 and a token shift of 3, expected a sum from 0 to 62");
  }
}

TEST_CASE("an MWQ case brings a multiplier for every level stored, and no other format may", "[unit][numerics]") {
  const Folder folder;
  Raw raw;
  raw.metadata["format"] = "mwq1+1of2";
  CHECK(raw.refusal(folder) == "tensor level_multiplier: got nothing, expected this tensor");
  const std::vector<std::uint16_t> levels = {1, 2, 3, 4};
  raw.tensors["level_multiplier"] = tensor_view(levels, {2, 2, 1});
  CHECK(raw.refusal(folder) == "accepted");
  raw.metadata["bits"] = "3";
  CHECK(raw.refusal(folder) == "bits: got '3', expected 2 for mwq1+1of2");
  raw.metadata.erase("bits");
  CHECK(raw.refusal(folder) == "accepted");
  raw.tensors["level_multiplier"] = tensor_view(levels, {1, 2, 2});
  CHECK(raw.refusal(folder).rfind("tensor level_multiplier: shape: got [1, 2, 2], expected [2, 2, 1]", 0) == 0);
  raw.tensors["level_multiplier"] = tensor_view(levels, {2, 2, 1});
  raw.metadata["format"] = "int";
  raw.metadata["bits"] = "3";
  CHECK(raw.refusal(folder) == "tensor level_multiplier: got levels, expected none for int3");
}

TEST_CASE("an expert's out_bits may only be 16 and its matrices must fit each other", "[unit][numerics]") {
  const Folder folder;
  Rng rng(8);
  CaseOptions options;
  options.mpgemm = options.combine = false;
  auto c = std::get<ExpertCase>(random_case(rng, options));
  c.w.down.format = Format::binary();  // codes and parameters of another
  if (c.w.up.format == Format::binary()) c.w.down.format = Format::integer(3);
  CHECK_THROWS_AS(validate(KernelCase(c), "case"), moesaic::base::InputError);
  c = std::get<ExpertCase>(random_case(rng, options));
  c.w.sigma_h = 32;
  CHECK_THROWS_WITH(validate(KernelCase(c), "case"), "case: sigma_h: got 32, expected 0 to 31");
  c = std::get<ExpertCase>(random_case(rng, options));
  std::swap(c.w.down.n, c.w.down.k);
  ++c.w.down.n;
  CHECK_THROWS_AS(validate(KernelCase(c), "case"), moesaic::base::InputError);
}

TEST_CASE("an expert whose matrices have formats of their own survives its file, which names one or three",
          "[unit][numerics]") {
  const Folder folder;
  const Rng root(606);
  CaseOptions options;
  options.mpgemm = options.combine = false;
  options.mixed_experts = true;
  int paired = 0, apart = 0;
  for (std::uint64_t i = 0; i < 120; ++i) {
    Rng rng = root.stream("mixed", i);
    const auto c = std::get<ExpertCase>(random_case(rng, options));
    const ExpertFormats formats = c.w.formats();
    paired += !formats.is_one() && formats.is_paired();
    apart += !formats.is_paired();
    CAPTURE(describe(c));
    CHECK_THAT(describe(c), Catch::Contains(" " + formats.name() + " "));
    CHECK(ExpertFormats::parse(formats.name(), "test", "format") == formats);
    write_case(folder.file("c"), c);
    const KernelCase back = read_case(folder.file("c"));
    REQUIRE(std::get<ExpertCase>(back).w.formats() == formats);
    REQUIRE(first_difference(c, run_case(back, Path::kReference), run_case(c)).empty());
  }
  CHECK(paired > 20);
  CHECK(apart > 20);
  for (const char* bad : {"int2/int3", "int2/int3/int4/int5", "int2//int4", "int9", "/"})
    CHECK_THROWS_WITH(ExpertFormats::parse(bad, "test", "format"), Catch::Contains("test: format: got '"));
}

TEST_CASE("the first difference names tensor, element and both values", "[unit][numerics]") {
  Rng rng(21);
  CaseOptions options;
  options.expert = options.combine = false;
  const KernelCase c = random_case(rng, options);
  const KernelResult expected = run_case(c);
  MpgemmResult got = std::get<MpgemmResult>(expected);
  got.y.back() = static_cast<std::int16_t>(got.y.back() ^ 1);
  const auto& p = std::get<MpgemmCase>(c);
  CHECK(first_difference(c, got, expected) == "y[" + std::to_string(p.x.m - 1) + ", " + std::to_string(p.w.n - 1) +
                                                  "]: got " + std::to_string(got.y.back()) + ", expected " +
                                                  std::to_string(std::get<MpgemmResult>(expected).y.back()));
  CHECK(first_difference(c, expected, expected).empty());
}
