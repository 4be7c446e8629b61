#include "cli/quantiser_options.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/registry.h"

namespace moesaic::cli {
namespace {

base::Registry<workloads::QuantiserKind> quantiser_kinds() {
  base::Registry<workloads::QuantiserKind> kinds;
  kinds.add("rtn", workloads::QuantiserKind::kRoundToNearest);
  kinds.add("gptq", workloads::QuantiserKind::kGptq);
  return kinds;
}

}  // namespace

void add_quantiser_options(CLI::App& command, QuantiserOptions& options) {
  options.kind_option = command
                            .add_option("--quantiser", options.kind,
                                        "rtn: each weight to its nearest; gptq: rounding errors made up for, on "
                                        "calibration tokens")
                            ->capture_default_str()
                            ->type_name("NAME");
  options.tokens_option =
      command.add_option("--calibration-tokens", options.tokens, "Of gptq: raw bytes, or safetensors with `tokens`")
          ->type_name("FILE");
  options.minimum_option =
      command
          .add_option("--minimum-tokens", options.minimum_tokens,
                      "Rows that every expert is calibrated on at least, borrowed where the router "
                      "sends it fewer")
          ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
          ->capture_default_str();
  options.damping_option =
      command.add_option("--damping", options.damping, "Of gptq: share of the Hessian's mean diagonal added to it")
          ->check(CLI::Range(1e-9, 1e9))
          ->capture_default_str();
}

workloads::Quantiser chosen_quantiser(const QuantiserOptions& options, const std::string& command,
                                      const std::string& tokens, bool measures) {
  const workloads::QuantiserKind kind = quantiser_kinds().at(options.kind, command, "--quantiser");
  if (kind == workloads::QuantiserKind::kRoundToNearest) {
    for (const CLI::Option* option : {options.tokens_option, options.damping_option, options.minimum_option})
      if (option->count() > 0 && !(measures && option == options.minimum_option))
        throw base::ConfigError(command, option->get_name(), "it with --quantiser rtn", "--quantiser gptq");
    return {};
  }
  const std::string& text = options.tokens_option->count() > 0 ? options.tokens : tokens;
  if (text.empty())
    throw base::ConfigError(command, "--calibration-tokens", "nothing",
                            "the tokens that --quantiser gptq calibrates on");
  return workloads::gptq_quantiser(text, options.minimum_tokens, options.damping);
}

workloads::Quantiser table_quantiser(const QuantiserOptions& options, const std::string& command,
                                     const std::optional<workloads::Quantiser>& table, const std::string& path) {
  if (!table) return chosen_quantiser(options, command);
  workloads::Quantiser quantiser = *table;
  const auto same = [&](const CLI::Option* option, bool equal, const std::string& got, const std::string& expected) {
    if (option->count() > 0 && !equal)
      throw base::ConfigError(command, option->get_name(), got, expected + ", as " + path + " was measured with");
  };
  const workloads::QuantiserKind kind = quantiser_kinds().at(options.kind, command, "--quantiser");
  const bool is_gptq = quantiser.kind == workloads::QuantiserKind::kGptq;
  same(options.kind_option, kind == quantiser.kind, options.kind, is_gptq ? "gptq" : "rtn");
  for (const CLI::Option* option : {options.tokens_option, options.damping_option, options.minimum_option})
    same(option, is_gptq, "it", "--quantiser rtn, which has none");
  same(options.damping_option, options.damping == quantiser.damping, fmt::format("{}", options.damping),
       fmt::format("{}", quantiser.damping));
  same(options.minimum_option, options.minimum_tokens == quantiser.minimum_tokens,
       fmt::format("{}", options.minimum_tokens), fmt::format("{}", quantiser.minimum_tokens));
  if (options.tokens_option->count() == 0) return quantiser;
  const std::string hash = workloads::gptq_quantiser(options.tokens).tokens_hash;
  same(options.tokens_option, hash == quantiser.tokens_hash, options.tokens + " of hash " + hash,
       quantiser.tokens_hash);
  quantiser.tokens = options.tokens;  // the same text may lie elsewhere now
  return quantiser;
}

void refuse_quantiser_options(const QuantiserOptions& options, const std::string& command, const std::string& plan) {
  for (const CLI::Option* option :
       {options.kind_option, options.tokens_option, options.minimum_option, options.damping_option})
    if (option->count() > 0)
      throw base::ConfigError(command, option->get_name(), "it with the plan " + plan,
                              "none: the plan says how its experts are quantised");
}

}  // namespace moesaic::cli
