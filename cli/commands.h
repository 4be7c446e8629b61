#pragma once
/// The subcommands, one file each. Each function adds its subcommand, whose callback does the work: it prints results
/// to stdout, throws base::InputError (exit 2) or base::CheckError (exit 1), and returns for exit 0.
namespace CLI {
class App;
}

namespace moesaic::cli {

void add_kernel(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_map(CLI::App& app);
void add_profile(CLI::App& app);
void add_pareto(CLI::App& app);
void add_map_benchmark(CLI::App& app);
void add_sensitivity(CLI::App& app);
void add_storage(CLI::App& app);
void add_simulate(CLI::App& app);
void add_benchmark(CLI::App& app);
void add_verify(CLI::App& app);
void add_workload(CLI::App& app);
void add_replay(CLI::App& app);

}  // namespace moesaic::cli
