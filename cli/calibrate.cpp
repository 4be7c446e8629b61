#include "reference/network/calibrate.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/registry.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/lost_inputs.h"
#include "cli/quantiser_options.h"
#include "workloads/checkpoint.h"
#include "workloads/sensitivity.h"
#include "workloads/tokens.h"

namespace moesaic::cli {
namespace {

constexpr std::int64_t kByteVocabulary = 256;

struct CalibrateCommand {
  std::string model;
  std::string text;
  std::string tokens;
  std::string formats;
  std::int64_t group = 64;
  std::int64_t window = 256;
  std::vector<std::string> losses{"divergence"};
  std::int64_t loss_windows = 32;
  int act_bits = network::kNetworkActBits;
  std::string per = "expert";
  QuantiserOptions quantiser;
  std::int64_t resident_layers = 0;
  std::int64_t threads = 0;
  std::string out;
};

std::vector<network::LossKind> chosen_losses(const std::vector<std::string>& names) {
  base::Registry<network::LossKind> kinds;
  for (const network::LossKind kind : workloads::kLossKinds) kinds.add(workloads::loss_name(kind), kind);
  std::vector<network::LossKind> chosen;
  for (const std::string& name : names) {
    chosen.push_back(kinds.at(name, "moesaic calibrate", "--loss"));
    if (std::count(chosen.begin(), chosen.end(), chosen.back()) > 1)
      throw base::ConfigError("moesaic calibrate", "--loss", name + " twice", "each kind once");
  }
  return chosen;
}

base::Registry<bool> units() {
  base::Registry<bool> per_projection;
  per_projection.add("expert", false);
  per_projection.add("projection", true);
  return per_projection;
}

void run_calibrate(const CalibrateCommand& command) {
  if (command.text.empty() == command.tokens.empty())
    throw base::ConfigError("moesaic calibrate", "--text, --tokens", command.text.empty() ? "neither" : "both",
                            "one of them");
  if (command.group % 8 != 0)
    throw base::ConfigError("moesaic calibrate", "--group", std::to_string(command.group), "a positive multiple of 8");
  network::CalibrateOptions options;
  options.formats = workloads::parse_formats(command.formats, "moesaic calibrate", "--formats");
  options.losses = chosen_losses(command.losses);
  options.window = static_cast<std::size_t>(command.window);
  options.loss_windows = static_cast<std::size_t>(command.loss_windows);
  options.per_projection = units().at(command.per, "moesaic calibrate", "--per");
  options.minimum_tokens = static_cast<std::size_t>(command.quantiser.minimum_tokens);
  options.threads =
      command.threads > 0 ? static_cast<unsigned>(command.threads) : std::max(1U, std::thread::hardware_concurrency());

  const workloads::Checkpoint checkpoint(command.model);
  if (!command.text.empty() && checkpoint.network().vocab != kByteVocabulary)
    throw base::ConfigError(checkpoint.folder() + "/config.json", "vocab_size",
                            std::to_string(checkpoint.network().vocab.value_or(0)),
                            "256: --text is read as bytes (give other models --tokens)");
  const std::string& source = command.text.empty() ? command.tokens : command.text;
  const std::vector<std::uint32_t> tokens =
      command.text.empty() ? workloads::read_tokens(source) : workloads::read_text(source);
  if (static_cast<std::int64_t>(tokens.size()) < command.window)
    throw base::ConfigError(source, "length", std::to_string(tokens.size()) + " tokens",
                            "at least one window of " + std::to_string(command.window));
  const workloads::Quantiser quantiser =
      chosen_quantiser(command.quantiser, "moesaic calibrate", source, /*measures=*/true);
  refuse_lost("moesaic calibrate", "--out", command.out, inputs_of(command.model, quantiser));
  base::AtomicFile out(command.out);  // an unwritable place is found before the work, not after
  const network::Forward forward(checkpoint, static_cast<std::size_t>(command.resident_layers));
  if (!forward.is_resident())
    for (std::size_t i = 0; i < options.losses.size(); ++i)
      if (options.losses[i] != network::LossKind::kError)
        throw base::ConfigError("moesaic calibrate", "--loss", "'" + command.losses[i] + "' with --resident-layers",
                                "error: the others run every expert's change through the layers above");
  const auto store = std::make_shared<const network::ExpertStore>(forward, checkpoint, command.group, options.threads,
                                                                  command.act_bits, quantiser);
  workloads::SensitivityTable table;
  table.quantiser = quantiser;
  table.record = workloads::SensitivityRecord{checkpoint.hash(),
                                              command.group,
                                              command.act_bits,
                                              base::sha256_file(source),
                                              command.window,
                                              command.quantiser.minimum_tokens,
                                              options.losses,
                                              static_cast<std::int64_t>(network::loss_windows(tokens.size(), options)),
                                              0};
  table.other_losses = workloads::other_loss_columns(options.losses);
  {
    base::Progress progress("calibrate", static_cast<std::int64_t>(network::calibrate_steps(tokens, options)));
    table.rows = network::calibrate(forward, store, tokens, options, [&] { progress.step(); });
  }
  out.write(workloads::format_sensitivity(table, command.out));
  out.commit();
}

}  // namespace

void add_calibrate(CLI::App& app) {
  CLI::App* command = app.add_subcommand("calibrate", "Measure what each expert loses in each format");
  const auto options = std::make_shared<CalibrateCommand>();
  command->add_option("--model", options->model, "Folder with config.json and safetensors")
      ->required()
      ->type_name("DIR");
  command->add_option("--text", options->text, "A text, read as bytes")->type_name("FILE");
  command->add_option("--tokens", options->tokens, "Raw bytes, or safetensors with a tensor `tokens`")
      ->type_name("FILE");
  command->add_option("--formats", options->formats, "Such as int1..int8,binary,ternary,nested2..nested4,mwq2+1")
      ->required()
      ->type_name("LIST");
  command->add_option("--group", options->group, "Weights that share a scale, a multiple of 8")
      ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--window", options->window, "Tokens in a window")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--loss", options->losses,
                   "divergence: of the predictions, expert by expert; error: of the outputs, weighed once a layer; "
                   "fisher: of the outputs, weighed by squared gradients of the loss. Several, with commas: the first "
                   "is the column loss, fisher after it the column loss_fisher")
      ->delimiter(',')
      ->capture_default_str()
      ->type_name("LIST");
  command->add_option("--loss-windows", options->loss_windows, "Windows whose predictions are compared")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command
      ->add_option("--per", options->per,
                   "expert: one format for its three matrices; projection: gate, up and down apart, a column more")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--act-bits", options->act_bits, "Bits of every activation that feeds an expert's product")
      ->check(CLI::IsMember({4, 8, 16}))
      ->capture_default_str();
  add_quantiser_options(*command, options->quantiser);
  command
      ->add_option("--resident-layers", options->resident_layers,
                   "Layers whose weights are in memory at once; 0 keeps all. No result depends on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--threads", options->threads, "Threads; 0 takes all. The result does not depend on it")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1024}))
      ->capture_default_str();
  command->add_option("--out", options->out, "The sensitivity table, CSV")->required()->type_name("FILE");
  command->callback([options] { run_calibrate(*options); });
}

}  // namespace moesaic::cli
