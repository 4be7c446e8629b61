#include "workloads/sensitivity.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/commands.h"
#include "workloads/published_tables.h"

namespace moesaic::cli {
namespace {

struct ImportCommand {
  std::string from;
  std::string in;
  std::string network;
  std::string out;
  std::string costs_out;
};

void run_import(const ImportCommand& command) {
  constexpr const char* kWhere = "moesaic sensitivity import";
  const std::string text = base::read_file(command.in);
  std::vector<workloads::SensitivityRow> rows;
  std::string cost_table;
  if (command.from == "mc-moe") {
    for (const auto& [given, name] :
         {std::pair(command.network, "--network"), std::pair(command.costs_out, "--costs-out")})
      if (!given.empty()) throw base::ConfigError(kWhere, name, given, "it with --from hawq-v3 only");
    rows = workloads::import_mc_moe(text, command.in);
  } else {
    if (command.costs_out.empty())
      throw base::ConfigError(kWhere, "--costs-out", "nothing", "a file for the cost table");
    workloads::HawqTables tables = workloads::import_hawq_v3(text, command.in, command.network);
    rows = tables.rows;
    cost_table = tables.costs;
  }
  base::AtomicFile out(command.out);
  std::optional<base::AtomicFile> costs;
  if (!command.costs_out.empty()) costs.emplace(command.costs_out);
  out.write(workloads::format_sensitivity(rows));
  if (costs) costs->write(cost_table);
  out.flush();
  if (costs) costs->commit();
  out.commit();
  fmt::print("{} rows\n", rows.size());
}

}  // namespace

void add_sensitivity(CLI::App& app) {
  CLI::App* group = app.add_subcommand("sensitivity", "Sensitivity tables of other projects");
  group->require_subcommand(1);
  CLI::App* command = group->add_subcommand("import", "Write a published table as a sensitivity table");
  const auto options = std::make_shared<ImportCommand>();
  command->add_option("--from", options->from, "mc-moe: CSV; hawq-v3: JSON, with costs")
      ->required()
      ->check(CLI::IsMember({"mc-moe", "hawq-v3"}));
  command->add_option("--in", options->in, "The published table")->required()->type_name("FILE");
  command->add_option("--network", options->network, "hawq-v3: the network, a key of the file")->type_name("NAME");
  command->add_option("--out", options->out, "The sensitivity table, CSV")->required()->type_name("FILE");
  command->add_option("--costs-out", options->costs_out, "hawq-v3: the cost table, CSV")->type_name("FILE");
  command->callback([options] { run_import(*options); });
}

}  // namespace moesaic::cli
