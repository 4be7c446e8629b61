#pragma once
/// The options that choose a quantiser, the same for every command that makes or names a quantised network.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "workloads/quantiser.h"

namespace moesaic::cli {

struct QuantiserOptions {
  std::string kind = "rtn";
  std::string tokens;
  std::int64_t minimum_tokens = 0;
  double damping = workloads::kQuantiserDamping;
  CLI::Option* kind_option = nullptr;
  CLI::Option* tokens_option = nullptr;
  CLI::Option* minimum_option = nullptr;
  CLI::Option* damping_option = nullptr;
};

/// Adds --quantiser, --calibration-tokens, --minimum-tokens, --damping. `options` must outlive the command.
void add_quantiser_options(CLI::App& command, QuantiserOptions& options);

/// What they name. `tokens` is the calibration text where --calibration-tokens is absent, empty for none. InputError
/// for an unknown kind, GPTQ without a text, and options of GPTQ without it; --minimum-tokens is not one of them where
/// `measures`: calibrate has its own use for it.
workloads::Quantiser chosen_quantiser(const QuantiserOptions& options, const std::string& command,
                                      const std::string& tokens = "", bool measures = false);

/// The quantiser whose integers a sensitivity table measured: what a plan from that table names. Where the table does
/// not say it, what the options name. InputError when an option that was given contradicts the table.
workloads::Quantiser table_quantiser(const QuantiserOptions& options, const std::string& command,
                                     const std::optional<workloads::Quantiser>& table, const std::string& path);

/// InputError when any of the options was given: where a plan file already says it.
void refuse_quantiser_options(const QuantiserOptions& options, const std::string& command, const std::string& plan);

}  // namespace moesaic::cli
