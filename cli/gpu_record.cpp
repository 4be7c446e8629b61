/// moesaic_gpu_record: compares the CUDA kernels with reference/numerics on random cases, measures the group epilogue,
/// and writes what it found as a record that anyone with a GPU can make again. Exit codes as the moesaic program's.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/rng.h"
#include "moesaic_commit.h"
#include "reference/cuda/availability.h"
#include "reference/cuda/benchmark/group_epilogue.h"
#include "reference/cuda/partial_sums.h"
#include "reference/cuda/run_case.h"
#include "reference/numerics/case_file.h"

namespace {

using namespace moesaic;
using Json = nlohmann::ordered_json;

struct Options {
  std::int64_t cases = 2000;
  std::int64_t first = 0;
  std::uint64_t seed = 1;
  std::string out;
  int rounds = 60;
  bool no_benchmark = false;
  std::vector<std::string> problems = {"4096x4096x4096", "8192x4096x7168"};
  std::vector<std::string> sanitizer_logs;
};

std::string now_utc() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

class Seconds {
 public:
  template <class Work>
  auto time(const Work& work) {
    const auto begin = std::chrono::steady_clock::now();
    auto result = work();
    total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return result;
  }
  double total() const { return total_; }

 private:
  double total_ = 0;
};

double rounded(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return std::stod(text);
}

/// Three cases in four are small and ragged and go against the slow definition; the fourth spans many tiles.
numerics::CaseOptions case_options(bool large) {
  numerics::CaseOptions options;
  if (large) {
    options.max_m = 70;
    options.max_n = 200;
    options.max_k = 900;
  }
  return options;
}

std::string product_class(const numerics::KernelCase& kernel_case) {
  const auto name = [](const numerics::WeightMatrix& w, int act_bits) {
    return cuda::check_partial_sums(cuda::weight_bounds(w), act_bits) > 0 ? "int32 partial sums" : "int64 sums";
  };
  if (const auto* c = std::get_if<numerics::MpgemmCase>(&kernel_case)) return name(c->w, c->x.act_bits);
  if (const auto* c = std::get_if<numerics::ExpertCase>(&kernel_case)) return name(c->w.gate, c->x.act_bits);
  return "";
}

Json compare_cases(const Options& options) {
  static const char* const kOperations[] = {"mpgemm", "expert", "combine"};
  std::map<std::string, std::int64_t> operations, classes, formats;
  std::int64_t mismatches = 0;
  std::string first_difference;
  Seconds cpu, gpu;
  base::Progress progress("cases", options.cases);
  const base::Rng seed(options.seed);
  for (std::int64_t i = options.first; i < options.first + options.cases; ++i, progress.step()) {
    base::Rng rng = seed.stream("gpu_record", static_cast<std::uint64_t>(i));
    const bool large = i % 4 == 3;
    const numerics::KernelCase kernel_case = numerics::random_case(rng, case_options(large));
    const auto path = large ? numerics::Path::kVectorised : numerics::Path::kReference;
    const auto expected = cpu.time([&] { return numerics::run_case(kernel_case, path); });
    ++operations[kOperations[kernel_case.index()]];
    if (const std::string name = product_class(kernel_case); !name.empty()) ++classes[name];
    if (const auto* c = std::get_if<numerics::MpgemmCase>(&kernel_case)) ++formats[c->w.format.name()];
    if (const auto* c = std::get_if<numerics::ExpertCase>(&kernel_case)) ++formats[c->w.gate.format.name()];
    for (const auto matmul_class : {cuda::MatmulClass::kChecked, cuda::MatmulClass::kExact}) {
      const auto got = gpu.time([&] { return cuda::run_case(kernel_case, "case", matmul_class); });
      const std::string difference = numerics::first_difference(kernel_case, got, expected);
      if (difference.empty()) continue;
      ++mismatches;
      if (first_difference.empty())
        first_difference = "case " + std::to_string(i) + " (" + numerics::describe(kernel_case) + "): " + difference +
                           "; again: moesaic_gpu_record --no-benchmark --seed " + std::to_string(options.seed) +
                           " --first " + std::to_string(i) + " --cases 1 --out FILE";
    }
  }
  Json json;
  json["cases"] = options.cases;
  json["first"] = options.first;
  json["seed"] = options.seed;
  json["runs"] = "each case with the checked class and with 64-bit sums throughout";
  json["compared_with"] = "reference/numerics, the definition (every fourth, larger case: the vectorised path)";
  json["operations"] = operations;
  json["checked_class_used"] = classes;
  json["formats"] = formats;
  json["mismatches"] = mismatches;
  if (!first_difference.empty()) json["first_difference"] = first_difference;
  json["gpu_seconds"] = rounded(gpu.total(), 3);
  json["cpu_seconds"] = rounded(cpu.total(), 3);
  return json;
}

cuda::EpilogueProblem parse_problem(const std::string& text) {
  cuda::EpilogueProblem problem;
  long long m = 0, n = 0, k = 0;
  int end = 0;
  if (std::sscanf(text.c_str(), "%lldx%lldx%lld%n", &m, &n, &k, &end) != 3 ||
      static_cast<std::size_t>(end) != text.size() || m < 128 || n < 128 || k < 128 || m > 65536 || n > 65536 ||
      k > 65536 || m % 128 != 0 || n % 128 != 0 || k % 128 != 0)
    throw base::ConfigError("moesaic_gpu_record", "--problem", "'" + text + "'",
                            "MxNxK, multiples of 128 from 128 to 65536");
  problem.m = m;
  problem.n = n;
  problem.k = k;
  return problem;
}

Json timings_json(const std::vector<cuda::EpilogueTiming>& timings, double reference_ms) {
  Json list = Json::array();
  for (const auto& t : timings) {
    Json json;
    json["name"] = t.name;
    json["what"] = t.what;
    json["median_ms"] = rounded(t.median_ms, 5);
    json["fastest_ms"] = rounded(t.fastest_ms, 5);
    json["slowest_ms"] = rounded(t.slowest_ms, 5);
    json["tops"] = rounded(t.tops, 1);
    if (reference_ms > 0) json["speed_against_cublaslt"] = rounded(reference_ms / t.median_ms, 3);
    if (t.is_compared) json["mismatches"] = t.mismatches;
    list.push_back(json);
  }
  return list;
}

Json measure(const Options& options, std::uint64_t& mismatches) {
  const std::string obstacle = cuda::epilogue_benchmark_obstacle();
  if (!obstacle.empty()) return {{"not_measured", obstacle}};
  Json list = Json::array();
  for (const std::string& text : options.problems) {
    const auto report = cuda::measure_group_epilogue(
        parse_problem(text), options.rounds, options.seed,
        [&](const std::string& doing) { std::fprintf(stderr, "%s: %s\n", text.c_str(), doing.c_str()); });
    double library_ms = 0;
    for (const auto& t : report.products) {
      mismatches += t.mismatches;
      if (t.name == "cublaslt_s8_s8_s32") library_ms = t.median_ms;
    }
    std::printf("\n%s, group 128, %d rounds, %d operand sets (%.0f MiB)\n", text.c_str(), report.rounds,
                report.operand_sets, report.operand_mib);
    std::printf("%-32s %10s %8s %10s %10s\n", "product", "ms", "TOPS", "x cuBLASLt", "mismatches");
    for (const auto& t : report.products)
      std::printf("%-32s %10.4f %8.1f %10.3f %10llu\n", t.name.c_str(), t.median_ms, t.tops,
                  library_ms > 0 ? library_ms / t.median_ms : 0.0, static_cast<unsigned long long>(t.mismatches));
    for (const auto& t : report.alone)
      std::printf("%-32s %10s %8.1f   the epilogue alone\n", t.name.c_str(), "", t.tops);
    std::printf("activation sums %.4f ms, copy %.2f TB/s, %s\n", report.activation_sums_ms, report.copy_tb_per_s,
                report.cublaslt.c_str());
    Json json;
    json["m"] = report.problem.m;
    json["n"] = report.problem.n;
    json["k"] = report.problem.k;
    json["group_size"] = 128;
    json["rounds"] = report.rounds;
    json["operand_sets"] = report.operand_sets;
    json["operand_mib"] = rounded(report.operand_mib, 1);
    json["groups_per_widening"] = report.groups_per_widening;
    json["cublaslt"] = report.cublaslt;
    json["products"] = timings_json(report.products, library_ms);
    json["epilogue_alone"] = timings_json(report.alone, 0);
    json["activation_sums_ms"] = rounded(report.activation_sums_ms, 5);
    json["copy_tb_per_s"] = rounded(report.copy_tb_per_s, 3);
    list.push_back(json);
  }
  return list;
}

/// TOOL=FILE: the last line of the log that sums it up, as the tool wrote it.
Json sanitizer_summaries(const std::vector<std::string>& logs) {
  Json json = Json::object();
  for (const std::string& entry : logs) {
    const auto split = entry.find('=');
    if (split == std::string::npos)
      throw base::ConfigError("moesaic_gpu_record", "--sanitizer-log", "'" + entry + "'", "TOOL=FILE");
    const std::string file = entry.substr(split + 1);
    std::string summary;
    const std::string text = base::read_file(file);
    for (std::size_t at = text.find("SUMMARY"); at != std::string::npos; at = text.find("SUMMARY", at + 1)) {
      const auto begin = text.rfind('\n', at) + 1;
      summary = text.substr(begin, text.find('\n', at) - begin);
    }
    while (!summary.empty() && (summary.front() == '=' || summary.front() == ' ')) summary.erase(0, 1);
    if (summary.empty()) throw base::ConfigError(file, "SUMMARY", "no such line", "a log of compute-sanitizer");
    json[entry.substr(0, split)] = summary;
  }
  return json;
}

int run(int argc, char** argv) {
  CLI::App app("Compares the CUDA kernels with the CPU reference on this machine's GPU and writes the record.",
               "moesaic_gpu_record");
  Options options;
  app.add_option("--cases", options.cases, "Random cases")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--first", options.first, "Index of the first case")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of cases and operands")->capture_default_str();
  app.add_option("--out", options.out, "The record, JSON")->required()->type_name("FILE");
  app.add_option("--rounds", options.rounds, "Timed rounds of the benchmark")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--problem", options.problems, "Benchmark sizes, MxNxK")->capture_default_str();
  app.add_flag("--no-benchmark", options.no_benchmark, "Compare only");
  app.add_option("--sanitizer-log", options.sanitizer_logs,
                 "TOOL=FILE: a log of compute-sanitizer to sum up in the record");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "moesaic_gpu_record: %s\n", error.what());
    return 2;
  }
  for (const std::string& text : options.problems) parse_problem(text);
  cuda::require_available("moesaic_gpu_record");

  const cuda::DeviceFacts facts = cuda::device_facts();
  Json record;
  record["gpu"] = facts.name;
  record["compute_capability"] = facts.compute_capability;
  record["multiprocessors"] = facts.multiprocessors;
  record["memory_gib"] = rounded(facts.memory_gib, 1);
  record["l2_mib"] = rounded(facts.l2_mib, 1);
  record["driver"] = facts.driver;
  record["driver_cuda"] = facts.driver_version;
  record["runtime_cuda"] = facts.runtime_version;
  record["date"] = now_utc();
  record["commit"] = MOESAIC_COMMIT;
  record["comparison"] = compare_cases(options);
  std::uint64_t benchmark_mismatches = 0;
  if (!options.no_benchmark) record["group_epilogue"] = measure(options, benchmark_mismatches);
  if (!options.sanitizer_logs.empty()) record["compute_sanitizer"] = sanitizer_summaries(options.sanitizer_logs);
  base::write_file(options.out, record.dump(2) + "\n");

  const std::int64_t mismatches = record["comparison"]["mismatches"];
  std::printf("%s: %lld cases, %lld mismatches; benchmark sums that differ: %llu\n", facts.name.c_str(),
              static_cast<long long>(options.cases), static_cast<long long>(mismatches),
              static_cast<unsigned long long>(benchmark_mismatches));
  if (mismatches != 0) throw base::CheckError(record["comparison"]["first_difference"].get<std::string>());
  if (benchmark_mismatches != 0) throw base::CheckError("a benchmarked product differs from the exact kernel");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const base::InputError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const base::CheckError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "internal error: %s\n", error.what());
    return 3;
  }
}
