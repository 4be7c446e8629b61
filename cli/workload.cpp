#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/atomic_file.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/lost_inputs.h"
#include "reference/numerics/stored_layout.h"
#include "workloads/network.h"
#include "workloads/synth.h"
#include "workloads/trace.h"
#include "workloads/zoo.h"

namespace moesaic::cli {
namespace {

// What `describe` states sizes for; printed with them.
constexpr std::int64_t kGroupSize = 64;
constexpr int kArray = 16;

struct DescribeOptions {
  std::string network;
  bool json = false;
  bool list = false;
};

/// Bytes of one expert as stored: codes, group multipliers, zero points, requantisation, padding.
std::int64_t stored_bytes(const workloads::Network& n, int bits) {
  const numerics::LayoutSpec spec{numerics::LayoutKind::kTileMajor, kArray, kArray};
  const auto shapes = numerics::expert_shapes(n.hidden, n.expert_intermediate, kGroupSize);
  return numerics::stored_layout(numerics::Format::integer(bits), shapes, spec).total_bytes();
}

template <class T>
nlohmann::ordered_json or_null(const std::optional<T>& value) {
  return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr);
}

nlohmann::ordered_json describe_json(const workloads::Network& n) {
  nlohmann::ordered_json j;
  j["name"] = n.name;
  j["architecture"] = n.architecture;
  j["source"] = n.source;
  j["hidden"] = n.hidden;
  j["expert_intermediate"] = n.expert_intermediate;
  j["experts"] = n.experts;
  j["top_k"] = n.top_k;
  j["shared_experts"] = n.shared_experts;
  j["shared_intermediate"] = n.shared_intermediate;
  j["layers"] = n.layers;
  j["moe_layers"] = n.moe_layers();
  j["has_experts"] = n.has_experts;
  j["dense_first"] = n.dense_first;
  j["dense_intermediate"] = n.dense_intermediate;
  j["heads"] = n.heads;
  j["kv_heads"] = n.kv_heads;
  j["head_dim"] = n.head_dim;
  j["gated"] = n.gated;
  j["latent_attention"] = nullptr;
  if (n.latent)
    j["latent_attention"] = {{"q_rank", n.latent->q_rank},
                             {"kv_rank", n.latent->kv_rank},
                             {"nope_dim", n.latent->nope_dim},
                             {"rope_dim", n.latent->rope_dim}};
  j["vocab"] = or_null(n.vocab);
  j["max_positions"] = or_null(n.max_positions);
  j["rope_theta"] = or_null(n.rope_theta);
  j["rope_type"] = or_null(n.rope_type);
  j["rms_eps"] = or_null(n.rms_eps);
  j["norm_topk_prob"] = or_null(n.norm_topk_prob);
  j["tie_embeddings"] = or_null(n.tie_embeddings);
  j["sliding_window"] = or_null(n.sliding_window);
  j["activation"] = or_null(n.activation);
  j["params_per_expert"] = n.params_per_expert();
  j["routed_expert_params_total"] = n.routed_params();
  nlohmann::ordered_json codes, stored;
  for (int bits = 1; bits <= 8; ++bits) {
    const std::string name = numerics::Format::integer(bits).name();
    codes[name] = n.routed_code_bytes(bits);
    if (n.gated) stored[name] = n.moe_layers() * n.experts * stored_bytes(n, bits);
  }
  j["routed_code_bytes"] = codes;
  if (n.gated)
    j["routed_stored_bytes"] = {{"group_size", kGroupSize},
                                {"layout", "tile_major"},
                                {"array_rows", kArray},
                                {"array_cols", kArray},
                                {"bytes", stored}};
  return j;
}

std::string in_gib(std::int64_t bytes) {
  return fmt::format("{} bytes ({:.3f} GiB)", bytes, static_cast<double>(bytes) / (1024.0 * 1024.0 * 1024.0));
}

void print_describe(const workloads::Network& n) {
  fmt::print("{}{}\n", n.name, n.architecture.empty() ? "" : " (" + n.architecture + ")");
  if (!n.source.empty()) fmt::print("  source               {}\n", n.source);
  fmt::print("  hidden               {}\n", n.hidden);
  fmt::print("  layers               {}, {} of them with experts\n", n.layers, n.moe_layers());
  fmt::print("  experts              {} a layer, {} a token, width {}, {}\n", n.experts, n.top_k, n.expert_intermediate,
             n.gated ? "gated (3 matrices)" : "not gated (2 matrices)");
  fmt::print("  shared experts       {}, width {} together\n", n.shared_experts, n.shared_intermediate);
  fmt::print("  dense layers         first {}, width {}\n", n.dense_first, n.dense_intermediate);
  fmt::print("  attention            {} heads, {} key-value heads of {}\n", n.heads, n.kv_heads, n.head_dim);
  if (n.latent)
    fmt::print("  latent rows          {} for queries, {} for keys and values; heads of {} + {}\n", n.latent->q_rank,
               n.latent->kv_rank, n.latent->nope_dim, n.latent->rope_dim);
  if (n.vocab) fmt::print("  vocabulary           {}\n", *n.vocab);
  fmt::print("  params per expert    {}\n", n.params_per_expert());
  fmt::print("  routed params total  {}\n", n.routed_params());
  for (const int bits : {2, 3, 4, 8})
    fmt::print("  codes at int{}        {}\n", bits, in_gib(n.routed_code_bytes(bits)));
  if (!n.gated) return;
  for (const int bits : {2, 3, 4, 8})
    fmt::print("  stored at int{}       {}\n", bits, in_gib(n.moe_layers() * n.experts * stored_bytes(n, bits)));
  fmt::print(
      "  (stored: with multipliers, zero points, requantisation and padding; groups of {}, a {}x{} array, "
      "tile_major)\n",
      kGroupSize, kArray, kArray);
}

void run_describe(const DescribeOptions& options) {
  if (options.list) {
    if (!options.network.empty())
      throw base::ConfigError("moesaic workload describe", "NETWORK", options.network, "none with --list");
    if (options.json)
      fmt::print("{}\n", nlohmann::json(workloads::zoo_names()).dump());
    else
      for (const std::string& name : workloads::zoo_names()) fmt::print("{}\n", name);
    return;
  }
  if (options.network.empty())
    throw base::InputError("moesaic workload describe: NETWORK: got nothing, expected a name, or --list");
  const workloads::Network n = workloads::find_network(options.network, "moesaic workload describe", "NETWORK");
  if (options.json)
    fmt::print("{}\n", base::dump_json(describe_json(n), 2));
  else
    print_describe(n);
}

struct SynthOptions {
  std::string network;
  std::string out;
  workloads::SynthParameters parameters;
  std::string level_of = "choice";
};

void run_synth(const SynthOptions& options) {
  const workloads::Network network = workloads::find_network(options.network, "moesaic workload synth", "--network");
  workloads::check_parameters(options.parameters);
  refuse_lost("moesaic workload synth", "--out", options.out + ".json", {options.network});
  workloads::TraceWriter trace(options.out, options.parameters.arrival_gap_us > 0, !options.parameters.levels.empty());
  base::AtomicFile facts(options.out + ".json");
  facts.write(workloads::describe_parameters(network, options.parameters));
  workloads::synthesise(network, options.parameters, [&](const workloads::TraceRow& row) { trace.write(row); });
  trace.commit();
  facts.commit();
}

struct ImportOptions {
  std::string in;
  std::string out;
  std::string network;
};

void run_import(const ImportOptions& options) {
  std::unique_ptr<workloads::Network> network;
  if (!options.network.empty())
    network = std::make_unique<workloads::Network>(
        workloads::find_network(options.network, "moesaic workload import", "--network"));
  workloads::TraceReader reader(options.in, network.get());
  std::unique_ptr<workloads::TraceWriter> writer;
  workloads::TraceRow row;
  std::uint64_t rows = 0;
  // A JSONL trace shows its optional columns in its first row only.
  bool more = reader.next(row);
  if (!more) throw base::ConfigError(options.in, "rows", "none", "at least one");
  if (!options.out.empty())
    writer = std::make_unique<workloads::TraceWriter>(options.out, reader.has_arrival(), reader.has_levels());
  for (; more; more = reader.next(row)) {
    if (writer) writer->write(row);
    ++rows;
  }
  if (writer) writer->commit();
  fmt::print("{} rows{}\n", rows, writer ? " written to " + options.out : ", each valid");
}

}  // namespace

void add_workload(CLI::App& app) {
  CLI::App* workload = app.add_subcommand("workload", "Describe networks; generate, check and convert routing traces");
  workload->require_subcommand(1);

  CLI::App* describe = workload->add_subcommand("describe", "Print a network's shapes and sizes");
  const auto what = std::make_shared<DescribeOptions>();
  describe
      ->add_option("network", what->network, "A model folder, a config.json, a shape file (.yaml) or a name of the zoo")
      ->type_name("NETWORK");
  describe->add_flag("--list", what->list, "List the zoo");
  describe->add_flag("--json", what->json, "Print JSON");
  describe->callback([what] { run_describe(*what); });

  CLI::App* synth = workload->add_subcommand(
      "synth", "Generate a routing trace: Zipf popularity, Markov locality, seeded; parameters go to FILE.json");
  const auto made = std::make_shared<SynthOptions>();
  workloads::SynthParameters& p = made->parameters;
  synth
      ->add_option("--network", made->network,
                   "A model folder, a config.json, a shape file (.yaml) or a name of the zoo")
      ->required()
      ->type_name("NETWORK");
  synth->add_option("--out", made->out, "The trace: .csv or .jsonl, optionally .gz or .zst")
      ->required()
      ->type_name("FILE");
  synth->add_option("--seed", p.seed, "Seed")->capture_default_str();
  synth->add_option("--requests", p.requests, "Requests")->capture_default_str();
  synth->add_option("--prompt-tokens", p.prompt_tokens, "Tokens of each request's prefill")->capture_default_str();
  synth->add_option("--decode-tokens", p.decode_tokens, "Tokens that each request decodes")->capture_default_str();
  synth->add_option("--zipf", p.zipf, "Exponent of the experts' popularity; 0 is uniform")->capture_default_str();
  synth->add_option("--reuse", p.reuse, "Probability that a token keeps each of the previous token's experts")
      ->capture_default_str();
  synth->add_option("--weight-spread", p.weight_spread, "Standard deviation of the router's logits, nats")
      ->capture_default_str();
  synth->add_option("--concurrent", p.concurrent, "Requests that advance together, one token each in turn")
      ->capture_default_str();
  synth->add_option("--arrival-gap-us", p.arrival_gap_us, "Mean gap between requests, microseconds; 0 writes none")
      ->capture_default_str();
  synth->add_option("--levels", p.levels, "Shares of levels 0, 1, ...: 0.5,0.3,0.2; without it there is no such column")
      ->delimiter(',')
      ->type_name("SHARE,...");
  synth->add_option("--level-of", made->level_of, "Who draws a level: each choice of an expert, or each request")
      ->check(CLI::IsMember({"choice", "request"}))
      ->capture_default_str();
  synth->callback([made] {
    made->parameters.level_of_request = made->level_of == "request";
    run_synth(*made);
  });

  CLI::App* import = workload->add_subcommand("import", "Check a routing trace and convert it between its forms");
  const auto taken = std::make_shared<ImportOptions>();
  import->add_option("--in", taken->in, "The trace: .csv or .jsonl, optionally .gz or .zst")
      ->required()
      ->type_name("FILE");
  import->add_option("--out", taken->out, "Where to write it; without this it is only checked")->type_name("FILE");
  import
      ->add_option("--network", taken->network,
                   "Hold every row to this network: a folder, a config.json, a shape file, a zoo name")
      ->type_name("NETWORK");
  import->callback([taken] { run_import(*taken);
});
}  // namespace moesaic::cli

}  // namespace moesaic::cli
