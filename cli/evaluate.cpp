#include "reference/network/evaluate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/registry.h"
#include "cli/commands.h"
#include "cli/lost_inputs.h"
#include "cli/quantiser_options.h"
#include "reference/cuda/availability.h"
#include "reference/network/cuda_experts.h"
#include "reference/network/forward.h"
#include "reference/network/quantised_experts.h"
#include "workloads/checkpoint.h"
#include "workloads/plan.h"
#include "workloads/tokens.h"

namespace moesaic::cli {
namespace {

constexpr std::int64_t kByteVocabulary = 256;

struct EvaluateOptions {
  std::string model;
  std::string text;
  std::string tokens;
  std::int64_t window = 256;
  std::string plan;
  std::string backend = "cpu";
  std::string per_window;
  int act_bits = network::kNetworkActBits;
  bool act_bits_given = false;
  bool against_float = false;
  QuantiserOptions quantiser;
  std::int64_t resident_layers = 0;
  std::string class_of;
  std::uint64_t class_seed = 1;
  bool class_seed_given = false;
  std::int64_t threads = 0;
  bool json = false;
};

/// Builds the experts of a plan; the forward pass and the checkpoint outlive them.
using EvaluateBackend = std::function<std::unique_ptr<network::ExpertBackend>(
    const network::Forward& forward, const workloads::Checkpoint& checkpoint, const workloads::Plan& plan,
    unsigned threads, const network::ClassDraw& draw, int act_bits)>;

base::Registry<EvaluateBackend> evaluate_backends() {
  base::Registry<EvaluateBackend> backends;
  backends.add(
      "cpu",
      [](const network::Forward& forward, const workloads::Checkpoint& checkpoint, const workloads::Plan& plan,
         unsigned threads, const network::ClassDraw& draw, int act_bits) -> std::unique_ptr<network::ExpertBackend> {
        const auto store = std::make_shared<const network::ExpertStore>(forward, checkpoint, plan.group_size, threads,
                                                                        act_bits, plan.quantiser);
        return std::make_unique<network::QuantisedExperts>(store, plan, threads, draw);
      });
  backends.add(
      "cuda",
      [](const network::Forward& forward, const workloads::Checkpoint& checkpoint, const workloads::Plan& plan,
         unsigned threads, const network::ClassDraw& draw, int act_bits) -> std::unique_ptr<network::ExpertBackend> {
        cuda::require_available("moesaic evaluate: --backend cuda");
        const auto store = std::make_shared<const network::ExpertStore>(forward, checkpoint, plan.group_size, threads,
                                                                        act_bits, plan.quantiser);
        return std::make_unique<network::CudaExperts>(store, plan, threads, draw);
      });
  return backends;
}

network::ClassDraw class_draw(const EvaluateOptions& options) {
  return {options.class_of == "choice", options.class_seed};
}

void write_windows(const std::string& path, const network::Evaluation& result) {
  const bool against = !result.divergence.empty();
  std::string text = against ? "window,bits_per_byte,float_bits_per_byte,divergence\n" : "window,bits_per_byte\n";
  for (std::size_t w = 0; w < result.window_bits.size(); ++w) {
    text += fmt::format("{},{}", w, result.window_bits[w]);
    if (against) text += fmt::format(",{},{}", result.reference_bits[w], result.divergence[w]);
    text += '\n';
  }
  base::write_file(path, text);
}

/// Under a plan with classes of whole requests: each class's windows.
struct ClassResult {
  double share = 0;
  std::vector<double> bits;  // of its windows
};

std::vector<ClassResult> results_by_class(const network::Evaluation& result, const std::vector<double>& shares,
                                          const network::ClassDraw& draw) {
  std::vector<ClassResult> classes;
  if (draw.of_choice) return classes;
  for (const double share : shares) classes.push_back({share, {}});
  for (std::size_t w = 0; w < result.window_bits.size() && !shares.empty(); ++w)
    classes[draw.at(shares, w, 0, 0, 0)].bits.push_back(result.window_bits[w]);
  return classes;
}

void print(const network::Evaluation& result, const EvaluateOptions& options, const std::vector<ClassResult>& classes) {
  const bool against = !result.divergence.empty();
  const std::vector<double> increase =
      against ? network::differences(result.window_bits, result.reference_bits) : std::vector<double>();
  if (options.json) {
    const auto error = [](const std::optional<double>& one) {
      return one ? nlohmann::ordered_json(*one) : nlohmann::ordered_json();
    };
    nlohmann::ordered_json j;
    j["bits_per_byte"] = result.bits_per_byte;
    j["windows"] = result.windows;
    j["predicted"] = result.predicted;
    j["stderr"] = error(result.standard_error);
    j["perplexity"] = result.perplexity();
    j["perplexity_stderr"] = error(result.perplexity_error());
    if (against) {
      j["float_bits_per_byte"] = network::mean(result.reference_bits);
      j["increase"] = network::mean(increase);
      j["increase_stderr"] = error(network::standard_error(increase));
      j["divergence"] = network::mean(result.divergence);
      j["divergence_stderr"] = error(network::standard_error(result.divergence));
    }
    for (const ClassResult& one : classes) {
      nlohmann::ordered_json& c = j["classes"].emplace_back();
      c["share"] = one.share;
      c["windows"] = one.bits.size();
      c["bits_per_byte"] = nullptr;
      if (!one.bits.empty()) c["bits_per_byte"] = network::mean(one.bits);
      c["stderr"] = error(network::standard_error(one.bits));
    }
    fmt::print("{}\n", j.dump());
    return;
  }
  const auto error = [](const std::optional<double>& one) {
    return one ? fmt::format("standard error {:.6f}", *one) : std::string("standard error unknown");
  };
  fmt::print("{:.6f} bits per byte, {} over {} of {} bytes, {} bytes predicted\n", result.bits_per_byte,
             error(result.standard_error),
             result.windows == 1 ? "one window" : fmt::format("{} windows", result.windows), options.window,
             result.predicted);
  fmt::print("{:.6f} perplexity, {}\n", result.perplexity(), error(result.perplexity_error()));
  for (std::size_t c = 0; c < classes.size(); ++c)
    if (!classes[c].bits.empty())
      fmt::print("{:.6f} bits per byte over the {} windows of class {}, share {}\n", network::mean(classes[c].bits),
                 classes[c].bits.size(), c, classes[c].share);
  if (!against) return;
  fmt::print("{:+.6f} bits per byte above float, {:.6f}; paired {}\n", network::mean(increase),
             network::mean(result.reference_bits), error(network::standard_error(increase)));
  fmt::print("{:.6f} bits per byte of divergence from float, {}\n", network::mean(result.divergence),
             error(network::standard_error(result.divergence)));
}

void run_evaluate(const EvaluateOptions& options) {
  const auto backends = evaluate_backends();
  const EvaluateBackend& backend = backends.at(options.backend, "moesaic evaluate", "--backend");
  if (options.text.empty() == options.tokens.empty())
    throw base::InputError("moesaic evaluate: --text, --tokens: got " +
                           std::string(options.text.empty() ? "neither" : "both") + ", expected one of them");
  const workloads::Checkpoint checkpoint(options.model);
  if (checkpoint.network().vocab != kByteVocabulary)
    throw base::ConfigError(checkpoint.folder() + "/config.json", "vocab_size",
                            std::to_string(checkpoint.network().vocab.value_or(0)),
                            "256: bits per byte need a byte-level model");
  const std::vector<std::uint32_t> tokens =
      options.text.empty() ? workloads::read_tokens(options.tokens) : workloads::read_text(options.text);
  const std::string& source = options.text.empty() ? options.tokens : options.text;
  if (static_cast<std::int64_t>(tokens.size()) < options.window)
    throw base::ConfigError(source, "length", std::to_string(tokens.size()) + " bytes",
                            "at least one window of " + std::to_string(options.window));
  workloads::Plan plan;
  const bool quantised = options.plan != "none";
  if (!quantised) refuse_quantiser_options(options.quantiser, "moesaic evaluate", "none");
  if (!quantised && options.act_bits_given)
    throw base::ConfigError("moesaic evaluate", "--act-bits", "it with the plan none", "a plan that quantises");
  if (!quantised && options.against_float)
    throw base::ConfigError("moesaic evaluate", "--against-float", "it with the plan none", "a plan that quantises");
  if (quantised) {
    if (auto named = workloads::named_plan(options.plan, checkpoint.network(), checkpoint.hash())) {
      plan = *std::move(named);
      plan.quantiser = chosen_quantiser(options.quantiser, "moesaic evaluate");
    } else {
      refuse_quantiser_options(options.quantiser, "moesaic evaluate", options.plan);
      plan = workloads::read_plan(options.plan);
    }
    workloads::check_plan(plan, options.plan, checkpoint.network(), checkpoint.hash());
  }
  refuse_lost("moesaic evaluate", "--per-window", options.per_window, inputs_of(options.model, plan.quantiser));
  if (!plan.has_classes() && (!options.class_of.empty() || options.class_seed_given))
    throw base::ConfigError("moesaic evaluate", options.class_of.empty() ? "--class-seed" : "--class-of",
                            "it with the plan " + options.plan, "a plan with class_shares");
  const unsigned threads =
      options.threads > 0 ? static_cast<unsigned>(options.threads) : std::max(1U, std::thread::hardware_concurrency());
  const network::Forward forward(checkpoint, static_cast<std::size_t>(options.resident_layers));
  const std::unique_ptr<network::ExpertBackend> experts =
      quantised ? backend(forward, checkpoint, plan, threads, class_draw(options), options.act_bits) : nullptr;
  const network::ExpertBackend& used =
      experts ? *experts : static_cast<const network::ExpertBackend&>(forward.float_experts());
  network::Evaluation result;
  {
    base::Progress progress("evaluate", static_cast<std::int64_t>(tokens.size()) / options.window);
    result = network::evaluate(
        forward, used, tokens, static_cast<std::size_t>(options.window), threads, [&](std::size_t) { progress.step(); },
        options.against_float ? &forward.float_experts() : nullptr);
  }
  if (!options.per_window.empty()) write_windows(options.per_window, result);
  print(result, options, results_by_class(result, plan.class_shares, class_draw(options)));
}

}  // namespace

void add_evaluate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("evaluate", "Loss of a model over a text, in float or under a plan");
  const auto options = std::make_shared<EvaluateOptions>();
  command->add_option("--model", options->model, "Folder with config.json and safetensors")
      ->required()
      ->type_name("DIR");
  command->add_option("--text", options->text, "A text, read as bytes")->type_name("FILE");
  command->add_option("--tokens", options->tokens, "Raw bytes, or safetensors with a tensor `tokens`")
      ->type_name("FILE");
  command->add_option("--window", options->window, "Bytes in a window; the first of each is not predicted")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--plan", options->plan, "none (float), a format for every expert (int8), or a plan file")
      ->required()
      ->type_name("none|FORMAT|PLAN");
  CLI::Option* act_bits =
      command->add_option("--act-bits", options->act_bits, "Bits of every activation that feeds an expert's product")
          ->check(CLI::IsMember({4, 8, 16}))
          ->capture_default_str();
  command->add_option("--backend", options->backend, "Who computes quantised experts: " + evaluate_backends().choices())
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--per-window", options->per_window, "Also write each window's bits per byte, CSV")
      ->type_name("FILE");
  command->add_flag("--against-float", options->against_float,
                    "Run the float model on the same windows too: increase of the loss and divergence");
  add_quantiser_options(*command, options->quantiser);
  command
      ->add_option("--resident-layers", options->resident_layers,
                   "Layers whose weights are in memory at once; 0 keeps all. No result depends on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 20))
      ->capture_default_str();
  command
      ->add_option(
          "--class-of", options->class_of,
          "Under a plan with classes: who draws a class with the plan's shares, each request, which is a window "
          "(without the option), or each choice of an expert")
      ->check(CLI::IsMember({"request", "choice"}));
  const CLI::Option* class_seed =
      command->add_option("--class-seed", options->class_seed, "Seed of the classes drawn")->capture_default_str();
  command->add_option("--threads", options->threads, "Threads; 0 takes all. The result does not depend on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1024}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, class_seed, act_bits] {
    options->act_bits_given = act_bits->count() > 0;
    options->class_seed_given = class_seed->count() > 0;
    run_evaluate(*options);
  });
}

}  // namespace moesaic::cli
