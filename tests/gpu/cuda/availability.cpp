#include "reference/cuda/availability.h"

#include <catch2/catch.hpp>

#include "base/error.h"
#include "base/rng.h"
#include "reference/cuda/run_case.h"

using namespace moesaic;

TEST_CASE("without a GPU every entry point throws one line that says why, and with one the device has a name",
          "[gpu][cuda]") {
  const auto& gpu = cuda::availability();
  if (gpu.is_available) {
    CHECK(gpu.reason.empty());
    CHECK(!cuda::device_facts().name.empty());
    CHECK_NOTHROW(cuda::require_available("here"));
    return;
  }
  CHECK_THAT(gpu.reason, Catch::StartsWith("no CUDA: ") || Catch::StartsWith("no GPU: "));
  CHECK(gpu.reason.find('\n') == std::string::npos);
  CHECK(cuda::device_facts().name.empty());
  base::Rng rng(1);
  const numerics::KernelCase kernel_case = numerics::random_case(rng);
  CHECK_THROWS_WITH(cuda::run_case(kernel_case, "here"), "here: " + gpu.reason);
  CHECK_THROWS_AS(cuda::run_case(kernel_case, "here"), base::InputError);
  CHECK_THROWS_AS(cuda::DeviceExpert(numerics::ExpertWeights{}), base::InputError);
}
