// sim/program: every lowered case, executed by the rules of docs/core.md, gives what reference/numerics gives.
#include <catch2/catch.hpp>
#include <set>

#include "base/error.h"
#include "base/rng.h"
#include "sim/program/interpreter.h"
#include "sim/program/kernel_program.h"

using namespace moesaic;
using namespace moesaic::program;
using numerics::LayoutKind;

namespace {

CoreParams random_core(base::Rng& rng) {
  CoreParams core;
  core.rows = 4U << rng.below(4);
  core.cols = 4U << rng.below(4);
  core.planes_per_cycle = 1;
  core.max_act_bits = 16;
  core.axi_data_bits = 64;
  core.max_tokens = 1U << rng.below(5);
  core.act_depth = core.max_tokens << rng.below(5);
  core.hidden_depth = 4U << rng.below(7);
  return core;
}

struct Outcome {
  std::string difference;
  std::uint64_t chunks = 0, spills = 0, weight_bytes = 0;
};

Outcome run(const numerics::KernelCase& kernel_case, const CoreParams& core, const KernelPlacement& placement) {
  KernelProgram program = kernel_program(kernel_case, core, placement, "case");
  Interpreter interpreter(core, program.loaded.image);
  interpreter.run(program.loaded.commands);
  CHECK_FALSE(interpreter.shift_error());
  const numerics::KernelResult got = kernel_result(kernel_case, program, program.loaded.image);
  return {numerics::first_difference(kernel_case, got, numerics::run_case(kernel_case)),
          interpreter.commands_with_k_chunks, interpreter.loads_of_spilled_rows, interpreter.weight_bytes};
}

}  // namespace

TEST_CASE("a lowered case computes what the reference computes, whatever the core's buffers hold", "[unit][program]") {
  base::Rng rng(20260101);
  numerics::CaseOptions options;
  std::uint64_t chunks = 0, spills = 0;
  std::set<std::string> formats;
  for (int i = 0; i < 600; ++i) {
    options.max_n = i % 4 == 0 ? 90 : 40;
    options.mixed_experts = i % 2 == 0;
    const numerics::KernelCase kernel_case = numerics::random_case(rng, options);
    const CoreParams core = random_core(rng);
    KernelPlacement placement;
    placement.layout = rng.pick(numerics::layout_kinds());
    placement.base = 64 * rng.below(1000);
    placement.scatter = rng.below(2) == 0;
    placement.seed = rng.next();
    INFO("case " << i << ": " << numerics::describe(kernel_case) << " on " << core.rows << "x" << core.cols << ", "
                 << core.max_tokens << " tokens, " << core.act_depth << " activation words, " << core.hidden_depth
                 << " hidden words, " << numerics::layout_kind_name(placement.layout));
    const Outcome outcome = run(kernel_case, core, placement);
    REQUIRE(outcome.difference == "");
    chunks += outcome.chunks;
    spills += outcome.spills;
  }
  CHECK(chunks > 1000);
  CHECK(spills > 100);
}

TEST_CASE("a group larger than 32 bits is lowered as one group", "[unit][program]") {
  base::Rng rng(3);
  numerics::CaseOptions options;
  options.expert = options.combine = false;
  auto kernel_case = std::get<numerics::MpgemmCase>(numerics::random_case(rng, options));
  const std::int64_t groups = kernel_case.w.groups();
  const auto first_group = [&](auto& values) {
    if (values.empty()) return;
    auto kept = values;
    kept.clear();
    for (std::int64_t n = 0; n < kernel_case.w.n; ++n) kept.push_back(values[static_cast<std::size_t>(n * groups)]);
    values = kept;
  };
  first_group(kernel_case.w.zero_point);
  first_group(kernel_case.w.group_multiplier);
  kernel_case.w.level_multiplier.resize(
      static_cast<std::size_t>(kernel_case.w.format.stored_levels() * kernel_case.w.n));
  kernel_case.w.group_size = std::int64_t{1} << 40;
  CoreParams core;
  core.act_depth = 32;
  CHECK(run(kernel_case, core, {}).difference == "");
}

TEST_CASE("activations wider than the array's are refused with the case's name", "[unit][program]") {
  base::Rng rng(4);
  numerics::CaseOptions options;
  options.expert = options.combine = options.extremes = false;
  numerics::KernelCase kernel_case = numerics::random_case(rng, options);
  while (std::get<numerics::MpgemmCase>(kernel_case).x.act_bits != 16)
    kernel_case = numerics::random_case(rng, options);
  CoreParams core;
  core.max_act_bits = 8;
  CHECK_THROWS_WITH(kernel_program(kernel_case, core, {}, "wide.safetensors"),
                    "wide.safetensors: act_bits: got 16, expected at most 8, this array's max_act_bits");
}

TEST_CASE("a combination over more experts than 48 bits can sum is refused", "[unit][program]") {
  numerics::CombineCase c;
  c.experts = 65537;
  c.m = c.hidden = 1;
  c.down.assign(65537, -32768);
  c.r.assign(65537, 65535);
  CHECK_THROWS_WITH(kernel_program(c, CoreParams{}, {}, "many.safetensors"),
                    "many.safetensors: experts: got 65537, expected at most 65536, the sums that 48 bits hold");
}
