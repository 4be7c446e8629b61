#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/leftovers.h"
#include "cli/commands.h"
#include "cli/option_values.h"

namespace {

enum ExitCode { kGood = 0, kCheckFailed = 1, kBadInput = 2, kInternalError = 3 };

// One line, whatever a file put into a name.
int complain(ExitCode code, std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  std::fprintf(stderr, "%s\n", text.c_str());
  return code;
}

int run(int argc, char** argv) {
  CLI::App app("Simulates Mixture-of-Experts accelerators, cycle by cycle and bit by bit.", "moesaic");
  app.set_version_flag("--version", "moesaic " MOESAIC_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 good, 1 a check failed, 2 bad input or usage, 3 internal error.");

  moesaic::cli::add_kernel(app);
  moesaic::cli::add_evaluate(app);
  moesaic::cli::add_calibrate(app);
  moesaic::cli::add_map(app);
  moesaic::cli::add_profile(app);
  moesaic::cli::add_pareto(app);
  moesaic::cli::add_map_benchmark(app);
  moesaic::cli::add_sensitivity(app);
  moesaic::cli::add_storage(app);
  moesaic::cli::add_simulate(app);
  moesaic::cli::add_benchmark(app);
  moesaic::cli::add_verify(app);
  moesaic::cli::add_workload(app);
  moesaic::cli::add_replay(app);
  for (CLI::App* const command : app.get_subcommands([](const CLI::App*) { return true; }))
    moesaic::cli::check_option_values(*command);

  const std::vector<CLI::App*> commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (argc > 1 && argv[1][0] != '-' &&
      std::none_of(commands.begin(), commands.end(), [&](const CLI::App* c) { return c->get_name() == argv[1]; })) {
    std::string names;
    for (const CLI::App* command : commands) names += (names.empty() ? "" : ", ") + command->get_name();
    return complain(kBadInput, std::string("moesaic: command: got '") + argv[1] + "', expected one of " + names);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
  } catch (const CLI::CallForAllHelp&) {
    std::fputs(app.help("", CLI::AppFormatMode::All).c_str(), stdout);
  } catch (const CLI::CallForVersion&) {
    std::puts(app.version().c_str());
  } catch (const CLI::RequiredError& error) {
    // An option that does not exist may be the required one, misspelt.
    const std::vector<std::string> unknown = app.remaining(true);
    return complain(kBadInput,
                    "moesaic: " + (unknown.empty() ? moesaic::cli::refusal_of(error)
                                                   : "arguments: got " + unknown.front() + ", expected none of that"));
  } catch (const CLI::ParseError& error) {
    return complain(kBadInput, "moesaic: " + moesaic::cli::refusal_of(error));
  }
  errno = 0;
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw moesaic::base::ConfigError("standard output", "write", errno != 0 ? std::strerror(errno) : "an error",
                                     "room for the whole output");
  return kGood;
}

}  // namespace

int main(int argc, char** argv) {
  moesaic::base::clear_leftovers_on_signals();
  try {
    return run(argc, argv);
  } catch (const moesaic::base::InputError& error) {
    return complain(kBadInput, error.what());
  } catch (const moesaic::base::CheckError& error) {
    return complain(kCheckFailed, error.what());
  } catch (const std::exception& error) {
    return complain(kInternalError, std::string("internal error: ") + error.what());
  }
}
