#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tests/unit/network/tiny_model.h"
#include "workloads/synth.h"
#include "workloads/tokens.h"
#include "workloads/trace.h"
#include "workloads/workload_file.h"
#include "workloads/zoo.h"

using namespace moesaic;
using namespace moesaic::tests;
using workloads::Network;
using workloads::TraceRow;

namespace {

constexpr const char* kHeader = "request,step,phase,position,layer,experts,weights\n";

Network mixtral_shape() { return workloads::zoo_network("Mixtral-8x7B", "test", "model"); }

std::vector<TraceRow> read_all(const std::string& path, const Network* network = nullptr) {
  workloads::TraceReader reader(path, network);
  std::vector<TraceRow> rows;
  TraceRow row;
  while (reader.next(row)) rows.push_back(row);
  return rows;
}

std::vector<TraceRow> synthetic(const Network& network, const workloads::SynthParameters& p) {
  std::vector<TraceRow> rows;
  workloads::synthesise(network, p, [&](const TraceRow& row) { rows.push_back(row); });
  return rows;
}

void write_all(const std::string& path, const std::vector<TraceRow>& rows) {
  workloads::TraceWriter writer(path, rows.at(0).arrival_us.has_value(), !rows.at(0).levels.empty());
  for (const TraceRow& row : rows) writer.write(row);
  writer.commit();
}

}  // namespace

TEST_CASE("a trace reads back equal from CSV and JSONL, plain, gzip and zstd", "[unit][workloads]") {
  const TemporaryFolder folder;
  workloads::SynthParameters p;
  p.requests = 3;
  p.arrival_gap_us = 100;
  std::vector<TraceRow> rows = synthetic(mixtral_shape(), p);
  for (const bool levels : {false, true}) {
    if (levels)
      for (TraceRow& row : rows) row.levels = {row.layer % 3, 0};
    for (const char* name : {"t.csv", "t.csv.gz", "t.csv.zst", "t.jsonl", "t.jsonl.gz", "t.jsonl.zst"}) {
      INFO(name);
      write_all(folder.file(name), rows);
      const Network network = mixtral_shape();
      CHECK(read_all(folder.file(name), &network) == rows);
    }
  }
  write_all(folder.file("again.csv.gz"), rows);
  CHECK(base::read_file(folder.file("again.csv.gz")) == base::read_file(folder.file("t.csv.gz")));
}

TEST_CASE("the columns of a CSV trace are exactly those of the contract", "[unit][workloads]") {
  const TemporaryFolder folder;
  TraceRow row;
  row.request = 4;
  row.step = 1;
  row.phase = workloads::Phase::kDecode;
  row.position = 17;
  row.layer = 3;
  row.experts = {5, 0};
  row.weights = {0.75, 0.25};
  write_all(folder.file("t.csv"), {row});
  CHECK(base::read_file(folder.file("t.csv")) == std::string(kHeader) + "4,1,decode,17,3,5;0,0.75;0.25\n");
  row.arrival_us = 1500;
  row.levels = {2, 1};
  write_all(folder.file("t.csv"), {row});
  CHECK(
      base::read_file(folder.file("t.csv")) ==
      "request,step,phase,position,layer,experts,weights,arrival_us,levels\n4,1,decode,17,3,5;0,0.75;0.25,1500,2;1\n");
  write_all(folder.file("t.jsonl"), {row});
  CHECK(
      base::read_file(folder.file("t.jsonl")) ==
      R"({"request":4,"step":1,"phase":"decode","position":17,"layer":3,"experts":[5,0],"weights":[0.75,0.25],"arrival_us":1500,"levels":[2,1]})"
      "\n");
}

TEST_CASE("a row that breaks a rule is refused with file, line and column", "[unit][workloads]") {
  const TemporaryFolder folder;
  const Network network = mixtral_shape();
  const auto refused = [&](const std::string& rows, const std::string& expected) {
    const std::string path = folder.write("t.csv", kHeader + rows);
    CHECK_THROWS_WITH(read_all(path, &network), Catch::Contains("t.csv:" + expected));
  };
  const std::string good = "0,0,prefill,0,0,1;2,0.5;0.5\n";
  CHECK(read_all(folder.write("t.csv", kHeader + good), &network).size() == 1);
  refused(good + "0,0,prefill,0,1,9;2,0.5;0.5\n",
          "3: experts: got 9, expected less than 8, the experts of Mixtral-8x7B");
  refused("0,0,prefill,0,0,8;2,0.5;0.5\n", "2: experts: got 8, expected less than 8");
  refused("0,0,prefill,0,0,2;2,0.5;0.5\n", "2: experts: got expert 2 twice, expected distinct experts");
  refused("0,0,prefill,0,0,2,0.5\n", "2: experts: got 1 experts, expected 2, the top_k of Mixtral-8x7B");
  refused("0,0,prefill,0,0,1;2,0.5\n", "2: weights: got 1, expected 2, one per expert");
  refused("0,0,prefill,0,0,1;2,nan;0.5\n", "2: weights: got 'nan', expected a finite number, at least 0");
  refused("0,0,prefill,0,0,1;2,inf;0.5\n", "2: weights: got 'inf'");
  refused("0,0,prefill,0,0,1;2,-0.5;0.5\n", "2: weights: got '-0.5'");
  refused("0,0,prefill,0,32,1;2,0.5;0.5\n", "2: layer: got 32, expected less than 32");
  refused("0,0,prefil,0,0,1;2,0.5;0.5\n", "2: phase: got 'prefil', expected prefill or decode");
  refused("0,0,prefill,-1,0,1;2,0.5;0.5\n", "2: position: got '-1', expected an integer");
  refused("0,0,prefill,0,0,1;2,0.5;0.5 \n", "2: weights: got '0.5 '");
  refused("0,0,prefill,0,0,1;2,0.5;0.5\r\n", "2: weights: got '0.5\\r'");
  refused("0,0,prefill,0,0,1;2,0.5;0.5,7\n", "2: row: got 8 columns, expected 7");
  refused("0,0,prefill,0,0,1;,0.5;0.5\n", "2: experts: got ''");
  refused(good + "\n", "3: row: got 1 columns, expected 7");
  refused("0,0,prefill,0,0,1;2,0.5;0.5", "2: line: got the end of the file inside it");
  refused("99999999999999999999,0,prefill,0,0,1;2,0.5;0.5\n", "2: request: got '99999999999999999999'");
  CHECK_THROWS_WITH(read_all(folder.write("t.csv", "request,step\n")), Catch::Contains("t.csv:1: header: got"));
  CHECK_THROWS_WITH(read_all(folder.write("t.csv", "")), Catch::Contains("t.csv:1: header: got an empty file"));
  CHECK_THROWS_WITH(read_all(folder.write("t.txt", "")), Catch::Contains("expected a name ending in .csv or .jsonl"));
  CHECK_THROWS_AS(read_all("/nowhere/t.csv"), base::InputError);
  CHECK_THROWS_WITH(read_all(folder.path() + "/../" + folder.path().substr(folder.path().rfind('/') + 1) + "/none.csv"),
                    Catch::Contains("none.csv: read: got No such file or directory, expected a readable file"));
  CHECK_THROWS_WITH(read_all(folder.write("t.csv", kHeader + std::string(2000000, 'x'))),
                    Catch::Contains("t.csv:2: line: got more than 1 MiB"));
  const Network sparse = workloads::zoo_network("DeepSeek-V3", "test", "model");
  CHECK_THROWS_WITH(read_all(folder.write("t.csv", kHeader + std::string("0,0,prefill,0,2,1,1\n")), &sparse),
                    Catch::Contains("t.csv:2: layer: got 2, a layer without experts"));
}

TEST_CASE("a JSONL row that breaks a rule is refused with file, line and key", "[unit][workloads]") {
  const TemporaryFolder folder;
  const std::string good =
      R"({"request":0,"step":0,"phase":"prefill","position":0,"layer":0,"experts":[1,2],"weights":[0.5,0.5]})";
  const auto refused = [&](const std::string& from, const std::string& to, const std::string& expected) {
    std::string bad = good;
    bad.replace(bad.find(from), from.size(), to);
    const std::string path = folder.write("t.jsonl", good + "\n" + bad + "\n");
    CHECK_THROWS_WITH(read_all(path), Catch::Contains("t.jsonl:2: " + expected));
  };
  refused("\"step\":0", "\"stpe\":0", "stpe: got an unknown key");
  refused("\"step\":0", "\"step\":0,\"step\":0", "step: got the key twice");
  refused("\"step\":0,", "", "step: got nothing, expected a value");
  refused("\"layer\":0", "\"layer\":0.5", "layer: got 0.5, expected an integer");
  refused("\"layer\":0", "\"layer\":-1", "layer: got -1, expected an integer");
  refused("[0.5,0.5]", "[0.5,\"a\"]", "weights: got \"a\", expected a finite number");
  refused("[0.5,0.5]", "0.5", "weights: got 0.5, expected an array");
  refused("[0.5,0.5]", "[0.5,0.5],\"levels\":[1,1]", "levels: got a value, expected as in the first row");
  refused("}", "} x", "row: got no JSON");
  refused("[0.5,0.5]", "[0.5,1e999]", "row: got no JSON");
  refused("{", "[{", "row: got no JSON");
}

TEST_CASE("a truncated or damaged archive is refused, wherever it is cut", "[unit][workloads]") {
  const TemporaryFolder folder;
  const std::vector<TraceRow> rows = synthetic(mixtral_shape(), workloads::SynthParameters());
  for (const char* name : {"t.csv.gz", "t.csv.zst"}) {
    INFO(name);
    write_all(folder.file(name), rows);
    const std::string whole = base::read_file(folder.file(name));
    for (const std::size_t kept :
         {std::size_t{1}, std::size_t{9}, whole.size() / 2, whole.size() - 5, whole.size() - 1}) {
      INFO(kept << " of " << whole.size());
      CHECK_THROWS_AS(read_all(folder.write(name, whole.substr(0, kept))), base::InputError);
    }
    std::string damaged = whole;
    damaged[whole.size() / 2] = static_cast<char>(damaged[whole.size() / 2] ^ 0x40);
    CHECK_THROWS_AS(read_all(folder.write(name, damaged)), base::InputError);
    CHECK_THROWS_AS(read_all(folder.write(name, whole + "rubbish")), base::InputError);
    CHECK_THROWS_AS(read_all(folder.write(name, kHeader)), base::InputError);
  }
}

TEST_CASE("a writer that was not committed leaves nothing, and a full disk is an error", "[unit][workloads]") {
  const TemporaryFolder folder;
  { workloads::TraceWriter writer(folder.file("t.csv.gz"), false, false); }
  CHECK(std::filesystem::is_empty(folder.path()));
  for (const char* name : {"full.csv", "full.csv.gz", "full.csv.zst"}) {
    std::filesystem::create_symlink("/dev/full", folder.file(name));
    CHECK_THROWS_AS(write_all(folder.file(name), synthetic(mixtral_shape(), workloads::SynthParameters())),
                    base::InputError);
  }
}

TEST_CASE("generated popularity follows the stated Zipf law at every layer, with another order each",
          "[unit][workloads]") {
  Network network = workloads::zoo_network("OLMoE-1B-7B", "test", "model");
  network.layers = 3;
  network.has_experts.resize(3);
  network.top_k = 1;  // leaves the popularity exactly Zipf, whatever the reuse
  workloads::SynthParameters p;
  p.requests = 2000;
  p.prompt_tokens = 50;
  p.decode_tokens = 0;
  p.zipf = 0.9;
  p.reuse = 0.3;
  p.seed = 5;
  std::vector<std::vector<double>> count(3, std::vector<double>(64, 0.0));
  for (const TraceRow& row : synthetic(network, p)) count[row.layer][row.experts[0]] += 1;
  const std::vector<double> share = workloads::zipf_shares(64, 0.9);
  const double tokens = 2000.0 * 50.0;
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    const std::vector<std::uint32_t> expert = workloads::rank_to_expert(64, layer, 5);
    // Kept experts come in runs: (1 + r) / (1 - r) times the variance of independent draws.
    for (std::size_t rank = 0; rank < 64; ++rank) {
      const double deviation = std::sqrt(share[rank] * (1 - share[rank]) / tokens * 1.3 / 0.7);
      CHECK(std::abs(count[layer][expert[rank]] / tokens - share[rank]) < 5 * deviation);
    }
  }
  CHECK(workloads::rank_to_expert(64, 0, 5) != workloads::rank_to_expert(64, 1, 5));
}

TEST_CASE("generated tokens reuse the previous token's experts as often as stated", "[unit][workloads]") {
  Network network = mixtral_shape();
  network.layers = 2;
  network.has_experts.resize(2);
  for (const double reuse : {0.0, 0.2, 0.7, 1.0}) {
    workloads::SynthParameters p;
    p.requests = 100;
    p.prompt_tokens = 100;
    p.decode_tokens = 100;
    p.zipf = 0;  // a drawn expert is then any of the others alike, so that the chance overlap is known
    p.reuse = reuse;
    double shared = 0, pairs = 0;
    std::vector<std::vector<std::uint32_t>> previous(2);
    for (const TraceRow& row : synthetic(network, p)) {
      if (row.position > 0) {
        pairs += 1;
        for (const std::uint32_t expert : row.experts)
          shared += std::count(previous[row.layer].begin(), previous[row.layer].end(), expert) > 0 ? 1.0 : 0.0;
      }
      previous[row.layer] = row.experts;
    }
    // Two kept: 2 shared. One kept: the other is drawn from 7, one of which was there. None: two of 8, two of which
    // were.
    const double expected =
        reuse * reuse * 2 + 2 * reuse * (1 - reuse) * (1 + 1.0 / 7) + (1 - reuse) * (1 - reuse) * 0.5;
    CHECK(shared / pairs == Approx(expected).margin(0.02));
  }
}

TEST_CASE("the default trace is skewed and local, never uniform, and the seed decides every byte",
          "[unit][workloads]") {
  const Network network = mixtral_shape();
  workloads::SynthParameters p;
  p.requests = 50;
  const std::vector<TraceRow> rows = synthetic(network, p);
  CHECK(rows.size() == 50 * (64 + 32) * 32);
  std::vector<double> count(8, 0.0);
  for (const TraceRow& row : rows)
    if (row.layer == 7)
      for (const std::uint32_t expert : row.experts) count[expert] += 1;
  CHECK(*std::max_element(count.begin(), count.end()) > 1.4 * (50.0 * 96.0 * 2.0 / 8.0));
  for (const TraceRow& row : rows) {
    REQUIRE(row.weights[0] >= row.weights[1]);
    REQUIRE(std::abs(row.weights[0] + row.weights[1] - 1) < 1.1e-6);
    REQUIRE((row.phase == workloads::Phase::kPrefill) == (row.step == 0));
    REQUIRE((row.step == 0 || row.step == row.position - 63));
  }
  CHECK(synthetic(network, p) == rows);
  p.seed = 2;
  CHECK_FALSE(synthetic(network, p) == rows);
  const std::string facts = workloads::describe_parameters(network, p);
  for (const char* key : {"\"seed\": 2", "\"exponent\": 0.5", "\"reuse\": 0.2", "\"requests\": 50"})
    CHECK_THAT(facts, Catch::Contains(key));
  p.reuse = 1.5;
  CHECK_THROWS_WITH(workloads::check_parameters(p), "workload synth: --reuse: got 1.5, expected 0 to 1");
  p.reuse = std::nan("");
  CHECK_THROWS_AS(workloads::check_parameters(p), base::InputError);
}

TEST_CASE("levels are drawn with the stated shares, for each choice or each request, and change nothing else",
          "[unit][workloads]") {
  const Network network = mixtral_shape();
  workloads::SynthParameters p;
  p.requests = 40;
  p.concurrent = 4;
  p.prompt_tokens = 2;
  p.decode_tokens = 10;
  const std::vector<TraceRow> without = synthetic(network, p);
  p.levels = {0.5, 0.3, 0.2};
  const std::vector<TraceRow> of_choices = synthetic(network, p);
  CHECK(synthetic(network, p) == of_choices);
  std::vector<TraceRow> cut = of_choices;
  std::vector<double> count(3, 0.0);
  for (TraceRow& row : cut) {
    REQUIRE(row.levels.size() == 2);
    for (const std::uint32_t level : row.levels) count.at(level) += 1;
    row.levels.clear();
  }
  CHECK(cut == without);
  const double all = count[0] + count[1] + count[2];
  for (std::size_t level = 0; level < 3; ++level)
    CHECK(count[level] / all == Approx(p.levels[level]).margin(4 * std::sqrt(0.25 / all)));

  p.level_of_request = true;
  std::map<std::uint64_t, std::set<std::uint32_t>> of_request;
  std::set<std::uint32_t> seen;
  for (const TraceRow& row : synthetic(network, p))
    for (const std::uint32_t level : row.levels) {
      of_request[row.request].insert(level);
      seen.insert(level);
    }
  CHECK(seen.size() == 3);
  for (const auto& [request, levels] : of_request) CHECK(levels.size() == 1);
  CHECK_THAT(workloads::describe_parameters(network, p), Catch::Contains("\"of\": \"request\""));

  p.levels = {0.5, 0.3};
  CHECK_THROWS_WITH(workloads::check_parameters(p),
                    "workload synth: --levels: got shares that add up to 0.8, expected a sum of 1");
  p.levels = {1.5};
  CHECK_THROWS_WITH(workloads::check_parameters(p), "workload synth: --levels: got 1.5, expected 0 to 1");
  p.levels.clear();
  CHECK_THROWS_WITH(workloads::check_parameters(p),
                    "workload synth: --level-of: got request, expected --levels beside it");
}

TEST_CASE("concurrent requests take turns token by token, and each still reuses its own last experts",
          "[unit][workloads]") {
  Network network = mixtral_shape();
  network.layers = 2;
  network.has_experts.resize(2);
  workloads::SynthParameters p;
  p.requests = 5;
  p.prompt_tokens = 2;
  p.decode_tokens = 3;
  p.reuse = 1;  // so that a request keeps its first token's experts
  p.concurrent = 3;
  const std::vector<TraceRow> rows = synthetic(network, p);
  REQUIRE(rows.size() == 5 * 5 * 2);
  std::size_t at = 0;
  std::vector<std::vector<std::uint32_t>> first(10);
  for (const std::uint64_t begin : {0, 3})
    for (std::uint64_t position = 0; position < 5; ++position)
      for (std::uint64_t request = begin; request < std::min<std::uint64_t>(begin + 3, 5); ++request)
        for (std::uint32_t layer = 0; layer < 2; ++layer) {
          const TraceRow& row = rows[at++];
          REQUIRE(row.request == request);
          REQUIRE(row.position == position);
          REQUIRE(row.layer == layer);
          REQUIRE(row.step == (position < 2 ? 0 : position - 1));
          std::vector<std::uint32_t>& of = first[request * 2 + layer];
          if (position == 0) of = row.experts;
          REQUIRE(row.experts == of);
        }
  CHECK(std::set<std::vector<std::uint32_t>>(first.begin(), first.end()).size() > 4);
  p.concurrent = 0;
  CHECK_THROWS_WITH(workloads::check_parameters(p), "workload synth: --concurrent: got 0, expected 1 to 1000000");
}

TEST_CASE("a workload file selects a slice of the trace", "[unit][workloads]") {
  const TemporaryFolder folder;
  write_tiny_model(folder, "model", tiny_tensors(1));
  workloads::SynthParameters p;
  p.requests = 3;
  p.prompt_tokens = 5;
  p.decode_tokens = 2;
  Network network = workloads::find_network(folder.file("model"), "test", "model");
  const std::vector<TraceRow> rows = synthetic(network, p);
  write_all(folder.file("routing.csv.gz"), rows);
  const auto slice = [&](const std::string& more) {
    const std::string path = folder.write("w/workload.yaml", "model: ../model\ntrace: ../routing.csv.gz\n" + more);
    return workloads::read_slice(workloads::read_workload(path));
  };
  CHECK(slice("").tokens.size() == 21);
  CHECK(slice("").layers == std::vector<std::uint32_t>{0, 1});
  CHECK(slice("phase: decode\n").tokens.size() == 6);
  CHECK(slice("requests: [2, 0]\nsteps: [0]\n").tokens.size() == 10);
  const workloads::WorkloadSlice some = slice("layers: [1]\nmax_tokens: 4\nrequests: [1]\n");
  REQUIRE(some.tokens.size() == 4);
  REQUIRE(some.rows.size() == 1);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(some.tokens[i].request == 1);
    CHECK(some.tokens[i].position == i);
    CHECK(some.rows[0][i].token == i);
    CHECK(some.rows[0][i].experts == rows[7 * 2 + i * 2 + 1].experts);
  }
  CHECK_THROWS_WITH(slice("layer: [1]\n"), Catch::Contains("workload.yaml:3: layer: "));
  CHECK_THROWS_WITH(slice("layers: [2]\n"), Catch::Contains("workload.yaml:3: layers[0]: got 2"));
  CHECK_THROWS_WITH(slice("layers: []\n"), Catch::Contains("workload.yaml:3: layers: got an empty list"));
  CHECK_THROWS_WITH(slice("phase: both\n"), Catch::Contains("workload.yaml:3: phase: got"));
  CHECK_THROWS_WITH(slice("requests: [9]\n"), Catch::Contains("expected at least one token"));
  CHECK_THROWS_WITH(slice("max_tokens: 0\n"), Catch::Contains("workload.yaml:3: max_tokens: got 0"));
  CHECK_THROWS_WITH(slice("tokens: none.bin\n"), Catch::Contains("workload.yaml:3: tokens: got"));

  // One row twice, and one row missing.
  std::vector<TraceRow> twice = rows;
  twice.push_back(rows[3]);
  write_all(folder.file("routing.csv.gz"), twice);
  CHECK_THROWS_WITH(slice(""), Catch::Contains("layer: got request 0 position 1 layer 1 a second time"));
  twice = rows;
  twice.erase(twice.begin() + 3);
  write_all(folder.file("routing.csv.gz"), twice);
  CHECK_THROWS_WITH(slice(""), Catch::Contains("got no row for request 0 position 1 at layer 1"));
}

TEST_CASE("tokens are the bytes of a file, or a tensor named tokens", "[unit][workloads]") {
  const TemporaryFolder folder;
  CHECK(workloads::read_tokens(folder.write("t.bin", std::string("a\xff\0z", 4))) ==
        std::vector<std::uint32_t>{97, 255, 0, 122});
  const std::vector<std::int32_t> ids = {5, 70000, 0};
  base::write_safetensors(folder.file("t.safetensors"), {{"tokens", base::tensor_view(ids, {1, 3})}});
  CHECK(workloads::read_tokens(folder.file("t.safetensors")) == std::vector<std::uint32_t>{5, 70000, 0});
  const std::vector<std::int32_t> negative = {5, -1};
  base::write_safetensors(folder.file("t.safetensors"), {{"tokens", base::tensor_view(negative, {2})}});
  CHECK_THROWS_WITH(workloads::read_tokens(folder.file("t.safetensors")), Catch::Contains("tokens[1]: got -1"));
  base::write_safetensors(folder.file("t.safetensors"), {{"other", base::tensor_view(ids, {3})}});
  CHECK_THROWS_WITH(workloads::read_tokens(folder.file("t.safetensors")), Catch::Contains("other: got a tensor"));
  CHECK_THROWS_AS(workloads::read_tokens(folder.path()), base::InputError);
}

TEST_CASE("steps before a slice are the last ones whose first row stands before its first, each layer by layer",
          "[unit][workloads]") {
  const TemporaryFolder folder;
  const std::string shape =
      "name: tiny\nsource: made up\nhidden: 32\nexpert_intermediate: 24\nexperts: 4\ntop_k: 2\nshared_experts: 0\n"
      "shared_intermediate: 0\nlayers: 3\ndense_first: 1\nmoe_every: 1\ndense_intermediate: 40\nheads: 4\nkv_heads: 2\n"
      "head_dim: 16\ngated: true\n";
  folder.write("tiny.yaml", shape);
  folder.write("t.csv",
               "request,step,phase,position,layer,experts,weights,levels\n"
               "0,0,prefill,0,1,0;1,0.5;0.5,0;1\n"
               "0,0,prefill,1,1,1;2,0.5;0.5,1;0\n"
               "1,0,prefill,0,1,2;3,0.5;0.5,0;0\n"
               "0,0,prefill,0,2,3;0,0.5;0.5,0;0\n"
               "0,0,prefill,1,2,3;0,0.5;0.5,0;0\n"
               "0,1,decode,2,1,0;3,0.5;0.5,2;0\n"
               "0,1,decode,2,2,0;2,0.5;0.5,0;0\n"
               "0,2,decode,3,1,1;3,0.5;0.5,0;0\n"
               "1,0,prefill,0,2,1;2,0.5;0.5,0;0\n"
               "0,2,decode,3,2,1;2,0.5;0.5,0;0\n"
               "1,1,decode,1,1,1;3,0.5;0.5,0;0\n"
               "1,1,decode,1,2,1;3,0.5;0.5,0;0\n");
  const auto steps = [&](const std::string& lines, std::size_t most) {
    const std::string path = folder.write("w.yaml", "model: tiny.yaml\ntrace: t.csv\n" + lines);
    return workloads::read_earlier_steps(workloads::read_workload(path), most);
  };
  const auto name = [](const workloads::EarlierStep& step) { return 10 * step.request + step.step; };
  const auto all = steps("requests: [0]\nsteps: [2]\n", 9);
  REQUIRE(all.size() == 3);
  CHECK(name(all[0]) == 0);
  CHECK(name(all[1]) == 10);
  CHECK(name(all[2]) == 1);
  // Rows of one expert and level together; what of a step stands behind the slice's first row still belongs to it.
  using Rows = std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint32_t>;
  CHECK(all[0].rows.at(1) == Rows{{{0, 0}, 1}, {{1, 1}, 2}, {{2, 0}, 1}});
  CHECK(all[0].rows.at(2) == Rows{{{0, 0}, 2}, {{3, 0}, 2}});
  CHECK(all[1].rows.at(2) == Rows{{{1, 0}, 1}, {{2, 0}, 1}});
  CHECK(all[2].rows.at(1) == Rows{{{0, 2}, 1}, {{3, 0}, 1}});
  // The last ones, of the selected layers, whatever else is selected.
  const auto last = steps("phase: decode\nsteps: [2]\nlayers: [2]\n", 2);
  REQUIRE(last.size() == 2);
  CHECK(name(last[0]) == 1);  // of layer 2 its row stands first
  CHECK(name(last[1]) == 10);
  CHECK(last[0].rows.size() == 1);
  CHECK(last[0].rows.at(2) == Rows{{{0, 0}, 1}, {{2, 0}, 1}});
  CHECK(steps("steps: [0]\n", 5).empty());
}
