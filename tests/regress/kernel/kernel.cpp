#include <catch2/catch.hpp>
#include <string>

#include "base/atomic_file.h"
#include "base/rng.h"
#include "reference/numerics/case_file.h"
#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using Catch::Matchers::Contains;

namespace {

const testing::Folder kFolder;
const std::string kCase = kFolder.file("case.safetensors");

std::string out_file(const std::string& name) { return kFolder.file(name + ".safetensors"); }

testing::Outcome compute(const std::string& backend, const std::string& options = "") {
  return testing::run_program("kernel --in " + kCase + " --backend " + backend + options + " --out " +
                              out_file(backend));
}

/// cpu, cycle and rtl write the same file.
void check_equal(const numerics::KernelCase& kernel_case, const std::string& options = "") {
  INFO(numerics::describe(kernel_case) << options);
  numerics::write_case(kCase, kernel_case);
  REQUIRE(compute("cpu").exit_code == 0);
  const std::string expected = base::read_file(out_file("cpu"));
  for (const std::string backend : {"cycle", "rtl"}) {
    const testing::Outcome run = compute(backend, options);
    INFO(backend << ": " << run.err);
    REQUIRE(run.exit_code == 0);
    CHECK(run.out.empty());
    CHECK(base::read_file(out_file(backend)) == expected);
  }
}

numerics::MpgemmCase product(numerics::Format format, std::int64_t m, std::int64_t n, std::int64_t k, int act_bits) {
  numerics::MpgemmCase c;
  c.w.format = format;
  c.w.n = n;
  c.w.k = k;
  c.w.group_size = 64;
  c.w.codes.assign(static_cast<std::size_t>(n * k), static_cast<std::uint8_t>(format.max_code()));
  if (format.has_zero_point()) c.w.zero_point.assign(static_cast<std::size_t>(n * c.w.groups()), 0);
  c.w.group_multiplier.assign(static_cast<std::size_t>(n * c.w.groups()), 65535);
  c.w.requant_multiplier.assign(static_cast<std::size_t>(n), 65535);
  c.w.requant_shift.assign(static_cast<std::size_t>(n), 40);
  c.x.m = m;
  c.x.k = k;
  c.x.act_bits = act_bits;
  c.x.values.assign(static_cast<std::size_t>(m * k), static_cast<std::int16_t>(-(1 << (act_bits - 1))));
  c.out_bits = 16;
  return c;
}

}  // namespace

TEST_CASE("cpu, cycle and rtl write the same bytes for every format", "[regress][kernel]") {
  base::Rng rng(20);
  std::vector<numerics::Format> formats = numerics::one_bundle_formats();
  for (const auto& format :
       {numerics::Format::mwq(1, 3, 3), numerics::Format::mwq(2, 2, 1), numerics::Format::mwq(4, 4, 4)})
    formats.push_back(format);
  for (const numerics::Format& format : formats) {
    numerics::CaseOptions options;
    options.formats = {format};
    options.combine = false;
    check_equal(numerics::random_case(rng, options));
  }
}

TEST_CASE("cpu, cycle and rtl write the same bytes for every operation and shape", "[regress][kernel]") {
  base::Rng rng(21);
  for (const int operation : {0, 1, 2}) {
    for (int i = 0; i < 5; ++i) {
      numerics::CaseOptions options;
      options.mpgemm = operation == 0;
      options.expert = operation == 1;
      options.combine = operation == 2;
      check_equal(numerics::random_case(rng, options));
    }
  }
}

TEST_CASE("products too deep for the activation buffer are cut and still equal", "[regress][kernel]") {
  // 256 words of 8: k 2100 and 16 activation bits need 263 words a token.
  numerics::MpgemmCase deep = product(numerics::Format::integer(3), 3, 10, 2100, 8);
  deep.w.group_multiplier.assign(deep.w.group_multiplier.size(), 9);
  check_equal(deep);
  // The same in bundles: a chunk that ends inside a group closes it for base and levels.
  deep.w.format = numerics::Format::mwq(2, 2, 2);
  deep.w.level_multiplier.assign(2 * deep.w.group_multiplier.size(), 5);
  check_equal(deep);
}

TEST_CASE("sums at the 48-bit bound are equal and one step past it is refused everywhere", "[regress][kernel]") {
  // 257 * 2^15 * 255 * 65535 is the last product at or below 2^47 - 1.
  check_equal(product(numerics::Format::integer(8), 2, 9, 257, 16));
  numerics::write_case(kCase, product(numerics::Format::integer(8), 2, 9, 258, 16));
  for (const std::string backend : {"cpu", "cycle", "rtl"}) {
    const testing::Outcome run = compute(backend);
    CHECK(run.exit_code == 2);
    CHECK_FALSE(run.err.empty());
  }
}

TEST_CASE("a chip file and a build's name choose the simulated core", "[regress][kernel]") {
  base::Rng rng(22);
  numerics::CaseOptions options;
  options.max_act_bits = 8;
  check_equal(numerics::random_case(rng, options), " --build r4c4p1a8");
  check_equal(numerics::random_case(rng, options), " --chip chips/r16c8p1a8.yaml");
}

TEST_CASE("kernel refuses cores that do not exist and cases that a core cannot run", "[regress][kernel]") {
  numerics::write_case(kCase, product(numerics::Format::integer(4), 1, 4, 16, 16));
  const testing::Outcome none = compute("rtl", " --build r5c5");
  CHECK(none.exit_code == 2);
  CHECK_THAT(none.err, Contains("--build: got 'r5c5', expected one of r4c4p1a8"));
  const testing::Outcome narrow = compute("cycle", " --build r4c4p1a8");
  CHECK(narrow.exit_code == 2);
  CHECK_THAT(narrow.err, Contains("act_bits: got 16, expected at most 8"));
  const testing::Outcome no_build = compute("rtl", " --chip chips/large-64x64.yaml");
  CHECK(no_build.exit_code == 2);
  CHECK_THAT(no_build.err, Contains("chips/large-64x64.yaml: array: got 64x64"));
  const testing::Outcome on_cpu = compute("cpu", " --build r4c4p1a8");
  CHECK(on_cpu.exit_code == 2);
  CHECK_THAT(on_cpu.err, Contains("--build"));
}
