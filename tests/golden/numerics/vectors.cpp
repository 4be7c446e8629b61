#include "tests/golden/numerics/vectors.h"

#include "base/atomic_file.h"
#include "base/rng.h"
#include "base/sha256.h"
#include "reference/numerics/case_file.h"

namespace moesaic::golden {

namespace {

constexpr std::uint64_t kSeed = 20240917;
constexpr int kHashed = 200, kHashedMwq = 60;
constexpr const char* kGenerator =
    "numerics::random_case, base::Rng(seed).stream('golden', index), formats of one bundle; from index 200 on "
    "stream('golden mwq', index), MWQ";

struct Bytes {
  std::string in, out;
};

Bytes bytes_of(const numerics::KernelCase& c, const std::string& scratch) {
  const std::string path = scratch + "/golden.safetensors";
  Bytes bytes;
  numerics::write_case(path, c);
  bytes.in = base::read_file(path);
  // The slow path: what the formulas say.
  numerics::write_result(path, c, numerics::run_case(c, numerics::Path::kReference));
  bytes.out = base::read_file(path);
  return bytes;
}

}  // namespace

std::map<std::string, std::string> golden_files(const std::string& scratch) {
  std::map<std::string, std::string> files;
  const base::Rng root(kSeed);
  std::string json = "{\n  \"generator\": \"" + std::string(kGenerator) + "\",\n  \"seed\": " + std::to_string(kSeed) +
                     ",\n  \"vectors\": [\n";
  for (int i = 0; i < kHashed + kHashedMwq; ++i) {
    base::Rng rng = root.stream(i < kHashed ? "golden" : "golden mwq", static_cast<std::uint64_t>(i));
    numerics::CaseOptions options;
    options.formats = i < kHashed ? numerics::one_bundle_formats() : numerics::mwq_formats();
    options.combine = i < kHashed;
    const numerics::KernelCase c = numerics::random_case(rng, options);
    const Bytes bytes = bytes_of(c, scratch);
    json += "    {\"index\": " + std::to_string(i) + ", \"case\": \"" + numerics::describe(c) +
            "\", \"case_sha256\": \"" + base::sha256_hex(bytes.in) + "\", \"out_sha256\": \"" +
            base::sha256_hex(bytes.out) + "\"}" + (i + 1 < kHashed + kHashedMwq ? ",\n" : "\n");
  }
  files["vectors.json"] = json + "  ]\n}\n";

  numerics::CaseOptions small;
  small.max_m = 3;
  small.max_n = 7;
  small.max_k = 21;
  small.extremes = false;
  const auto add = [&](const std::string& name, const numerics::CaseOptions& options) {
    base::Rng rng = root.stream("small " + name);
    const Bytes bytes = bytes_of(numerics::random_case(rng, options), scratch);
    files[name + ".case.safetensors"] = bytes.in;
    files[name + ".out.safetensors"] = bytes.out;
  };
  for (const char* name : {"int3", "nested5", "binary", "ternary", "mwq2+1of2"}) {
    numerics::CaseOptions options = small;
    options.formats = {numerics::Format::parse(name, "golden", "format")};
    options.expert = options.combine = false;
    add("mpgemm_" + std::string(name), options);
    options.mpgemm = false;
    options.expert = true;
    add("expert_" + std::string(name), options);
  }
  numerics::CaseOptions combine = small;
  combine.mpgemm = combine.expert = false;
  combine.formats = numerics::one_bundle_formats();  // none is used, but one is drawn
  add("combine", combine);
  return files;
}

}  // namespace moesaic::golden
