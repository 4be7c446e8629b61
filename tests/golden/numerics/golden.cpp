#include <catch2/catch.hpp>
#include <filesystem>

#include "base/atomic_file.h"
#include "reference/numerics/case_file.h"
#include "tests/golden/numerics/vectors.h"
#include "tests/temporary_folder.h"

namespace fs = std::filesystem;
using namespace moesaic;

TEST_CASE("the golden vectors regenerate byte for byte", "[golden][numerics]") {
  const tests::TemporaryFolder scratch;
  const auto files = golden::golden_files(scratch.path());
  CHECK(files.size() == 23);
  for (const auto& [name, content] : files) {
    CAPTURE(name);
    CHECK(base::read_file("tests/golden/numerics/" + name) == content);
  }
}

TEST_CASE("the vectorised path reproduces every golden result file", "[golden][numerics]") {
  const tests::TemporaryFolder scratch;
  int seen = 0;
  const std::string suffix = ".case.safetensors";
  for (const auto& entry : fs::directory_iterator("tests/golden/numerics")) {
    const std::string path = entry.path().string();
    if (path.size() < suffix.size() || path.compare(path.size() - suffix.size(), suffix.size(), suffix) != 0) continue;
    CAPTURE(path);
    const auto kernel_case = numerics::read_case(path);
    numerics::write_result(scratch.file("out"), kernel_case, numerics::run_case(kernel_case));
    const std::string expected = path.substr(0, path.size() - suffix.size()) + ".out.safetensors";
    CHECK(base::read_file(scratch.file("out")) == base::read_file(expected));
    ++seen;
  }
  CHECK(seen == 11);
}
