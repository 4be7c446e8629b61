#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/temporary_folder.h"
#include "cli/commands.h"
#include "cli/effort.h"
#include "cli/lost_inputs.h"
#include "cli/verify_workload.h"
#include "reference/cuda/availability.h"
#include "reference/cuda/run_case.h"
#include "sim/cosim/builds.h"
#include "sim/cosim/verify_case.h"
#include "sim/run/drawn_workload.h"

namespace moesaic::cli {

namespace {

std::string counted(std::uint64_t count, const char* noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

constexpr std::size_t kCasesPerProcess = 40;
constexpr std::uint64_t kCasesPerCore = 10;  // of a drawn core: one process each
constexpr std::uint64_t kInjectionCycle = 100;
constexpr const char* kTwinWaves = ".twin.vcd";  // behind the name of the RTL's

struct VerifyOptions {
  std::string chip;
  std::uint64_t cases = 0, first = 0;
  std::uint64_t workloads = 0;  ///< drawn ones, instead of cases
  std::string keep;             ///< folder for the files of the only one
  std::optional<std::uint64_t> seed;
  // Of a workload instead of cases.
  std::string workload, plan;
  bool foreign_plan = false, barriers = false, no_data = false;
  std::optional<std::uint64_t> max_cycles;
  std::vector<std::string> against, engines;
  unsigned jobs = 0;
  std::string inject, waves;
  bool json = false;
  // What the texts above mean.
  bool rtl = false, cuda = false, totals = false;
  bool shortcuts = false;  ///< of workloads: the fast engine alone, with its shortcuts and without
  std::int64_t slower = 0;
  std::string scratch;  ///< where drawn workloads lie
  std::optional<program::Chip> chip_file;
  std::optional<unsigned> inject_bit;
};

/// Cases of one build: one child, one elaboration.
struct Batch {
  cosim::Build build;
  std::vector<std::uint64_t> indices;
};

struct Totals {
  std::uint64_t cases = 0, cycles = 0, port_values = 0, loads = 0, tiles = 0;
  std::set<std::string> configurations;
  // Of drawn workloads.
  std::uint64_t whole = 0;    ///< that were compared to their end
  std::uint64_t unasked = 0;  ///< in which something was repeated without asking a DRAM
  fast::Effort plain, eager;
};

/// The first difference, or another end.
struct Failure {
  enum class Kind { kDifference, kInput, kInternal } kind = Kind::kInternal;
  std::uint64_t index = 0;
  std::string text;
};

/// A child at work. Its lines: "begin INDEX", "configuration TEXT", "case INDEX CYCLES PORT_VALUES LOADS TILES", of a
/// drawn workload "drawn WHOLE PLAIN... EAGER..." before it, "difference|input|internal INDEX TEXT", "waves FILE".
struct Child {
  pid_t pid = -1;
  int pipe = -1;
  std::string buffer;
  std::uint64_t index = 0;  // case at work
};

void send(int pipe, const std::string& line) {
  const std::string text = line + "\n";
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t n = write(pipe, text.data() + sent, text.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) _exit(3);  // nobody listens any more
    sent += static_cast<std::size_t>(n);
  }
}

void compare_with_cuda(const cosim::VerifyCase& c) {
  for (const numerics::KernelCase& kernel : c.kernels) {
    const numerics::KernelResult expected = numerics::run_case(kernel);
    const std::string difference = numerics::first_difference(kernel, cuda::run_case(kernel, "verify"), expected);
    if (!difference.empty()) throw base::CheckError("CUDA result differs from the CPU's: " + difference);
  }
}

/// A drawn workload's files lie in `folder`.
void verify_files(const VerifyOptions& options, std::uint64_t index, const run::DrawnWorkload& drawn,
                  const std::string& folder, int pipe) {
  VerifyWorkloadOptions of_workload;
  of_workload.chip = program::read_chip(folder + "/chip.yaml");
  of_workload.workload = folder + "/workload.yaml";
  of_workload.run.plan = drawn.plan;
  of_workload.run.threads = 1;
  of_workload.run.data = false;
  of_workload.run.barriers = drawn.barriers;
  of_workload.max_cycles = options.max_cycles;
  if (index == options.first) of_workload.slower = options.slower;
  std::ostringstream line;
  if (options.shortcuts) {
    const VerifyShortcutsTotals totals = verify_shortcuts(of_workload);
    line << "drawn " << totals.ended;
    for (const fast::Effort* effort : {&totals.plain, &totals.eager})
      for (const auto& field : kEffortFields) line << ' ' << effort->*field.second;
    line << "\ncase " << index << ' ' << totals.cycles << " 0 0 0";
  } else {
    const VerifyWorkloadTotals totals = verify_workload(of_workload);
    line << "drawn " << totals.ended << "\ncase " << index << ' ' << totals.cycles << " 0 " << totals.loads << ' '
         << totals.tiles;
  }
  send(pipe, "configuration " + drawn.configuration);
  send(pipe, line.str());
}

void verify_drawn(const VerifyOptions& options, std::uint64_t index, int pipe) {
  const run::DrawnWorkload drawn = run::draw_workload(*options.seed, index);
  const std::string folder = options.keep.empty() ? fmt::format("{}/{}", options.scratch, index) : options.keep;
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  if (error) throw base::ConfigError("moesaic verify", "--keep", error.message(), "a place where a folder can be made");
  run::write_files(drawn, folder);
  try {
    verify_files(options, index, drawn, folder, pipe);
  } catch (const base::CheckError& difference) {
    throw base::CheckError(drawn.text + ": " + difference.what());
  } catch (const std::exception& other) {  // what is drawn is refused by nobody
    throw std::runtime_error(drawn.text + ": " + other.what());
  }
  if (options.keep.empty()) std::filesystem::remove_all(folder, error);
}

void run_batch(const Batch& batch, const VerifyOptions& options, int pipe) {
  std::uint64_t at = batch.indices.front();
  const auto report = [&](const char* kind, const std::exception& error) {
    std::string text = error.what();
    std::replace(text.begin(), text.end(), '\n', ' ');
    send(pipe, fmt::format("{} {} {}", kind, at, text));
  };
  try {
    if (options.cuda) cuda::require_available("moesaic verify: --against cuda");
    std::unique_ptr<cosim::CoreBench> bench;
    const program::Chip* chip = options.chip_file ? &*options.chip_file : nullptr;
    if (options.workloads == 0 && (options.rtl || options.totals)) {
      bench = std::make_unique<cosim::CoreBench>(cosim::make_cycle_engine(batch.build.params),
                                                 options.rtl ? batch.build.make(batch.build.params) : nullptr);
      if (!options.waves.empty()) {
        for (const std::string& file : bench->open_waves(options.waves)) send(pipe, "waves " + file);
      }
    }
    for (const std::uint64_t index : batch.indices) {
      at = index;
      send(pipe, fmt::format("begin {}", index));
      if (options.workloads != 0) {
        verify_drawn(options, index, pipe);
        continue;
      }
      cosim::VerifyCase c = options.totals ? cosim::draw_totals_case(*options.seed, index, batch.build, chip)
                                           : cosim::draw_case(*options.seed, index, batch.build, chip);
      if (options.inject_bit && index == options.first) c.bench.injection = {*options.inject_bit, kInjectionCycle};
      cosim::TotalsOutcome outcome;
      try {
        if (options.totals) {
          outcome = cosim::run_totals_case(*bench, batch.build.params, c);
        } else if (options.rtl) {
          const cosim::VerifyOutcome ports = cosim::run_case(*bench, c);
          outcome.cycles = ports.cycles;
          outcome.port_values = ports.port_values;
          outcome.loads = ports.loads;
        }
        if (options.cuda) compare_with_cuda(c);
      } catch (const base::CheckError& error) {
        throw base::CheckError(c.text + ": " + error.what());
      }
      for (const std::string& configuration : c.configurations) send(pipe, "configuration " + configuration);
      send(pipe, fmt::format("case {} {} {} {} {}", index, outcome.cycles, outcome.port_values, outcome.loads,
                             outcome.tiles));
    }
  } catch (const base::CheckError& error) {
    report("difference", error);
  } catch (const base::InputError& error) {
    report("input", error);
  } catch (const std::exception& error) {
    report("internal", error);
  }
}

Child start(const Batch& batch, const VerifyOptions& options) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("cannot make a pipe");
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("cannot start a process");
  if (pid == 0) {
    close(ends[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(3);
    run_batch(batch, options, ends[1]);
    _exit(0);
  }
  close(ends[1]);
  Child child;
  child.pid = pid;
  child.pipe = ends[0];
  child.index = batch.indices.front();
  return child;
}

/// Takes one line of a child.
void take_line(const std::string& line, Child& child, Totals& totals, std::optional<Failure>& failure) {
  const std::size_t space = line.find(' ');
  const std::string word = line.substr(0, space), rest = space == std::string::npos ? "" : line.substr(space + 1);
  if (word == "begin") {
    child.index = std::stoull(rest);
  } else if (word == "waves") {
    std::fprintf(stderr, "waves: %s\n", rest.c_str());
  } else if (word == "case") {
    std::istringstream numbers(rest);
    std::uint64_t index = 0, cycles = 0, port_values = 0, loads = 0, tiles = 0;
    numbers >> index >> cycles >> port_values >> loads >> tiles;
    totals.cycles += cycles;
    totals.port_values += port_values;
    totals.loads += loads;
    totals.tiles += tiles;
    ++totals.cases;
  } else if (word == "drawn") {
    std::istringstream numbers(rest);
    std::uint64_t number = 0;
    const std::uint64_t before = totals.plain.unasked;
    numbers >> number;
    totals.whole += number;
    for (fast::Effort* effort : {&totals.plain, &totals.eager})
      for (const auto& field : kEffortFields)
        if (numbers >> number) effort->*field.second += number;
    totals.unasked += totals.plain.unasked > before ? 1 : 0;
  } else if (word == "configuration") {
    totals.configurations.insert(rest);
  } else if (!failure) {
    Failure found;
    found.kind = word == "difference" ? Failure::Kind::kDifference
                 : word == "input"    ? Failure::Kind::kInput
                                      : Failure::Kind::kInternal;
    std::size_t end = 0;
    found.index = std::stoull(rest, &end);
    found.text = rest.substr(end + 1);
    failure = found;
  }
}

/// Reads what there is; false at the end of the child, which has then been waited for.
bool listen(Child& child, bool rtl, Totals& totals, std::optional<Failure>& failure) {
  char bytes[65536];
  const ssize_t n = read(child.pipe, bytes, sizeof bytes);
  if (n < 0 && errno == EINTR) return true;
  if (n > 0) {
    child.buffer.append(bytes, static_cast<std::size_t>(n));
    for (std::size_t end; (end = child.buffer.find('\n')) != std::string::npos;) {
      const std::string line = child.buffer.substr(0, end);
      child.buffer.erase(0, end + 1);
      take_line(line, child, totals, failure);
    }
    return true;
  }
  close(child.pipe);
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!failure && WIFSIGNALED(status)) {
    // An assertion of the RTL stops its process.
    failure = Failure{Failure::Kind::kDifference, child.index,
                      fmt::format("the engines' process died by signal {}{}", WTERMSIG(status),
                                  rtl ? " (an assertion of the RTL?)" : "")};
  } else if (!failure && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
    failure =
        Failure{Failure::Kind::kInternal, child.index,
                fmt::format("the engines' process ended with status {} before its cases did", WEXITSTATUS(status))};
  }
  return false;
}

std::optional<Failure> run_batches(const std::vector<Batch>& batches, const VerifyOptions& options, Totals& totals) {
  base::Progress progress("verify", static_cast<std::int64_t>(options.cases));
  std::vector<Child> children;
  std::optional<Failure> failure;
  std::size_t next = 0;
  while (!children.empty() || (next < batches.size() && !failure)) {
    while (!failure && next < batches.size() && children.size() < options.jobs)
      children.push_back(start(batches[next++], options));
    std::vector<pollfd> polls;
    for (const Child& child : children) polls.push_back({child.pipe, POLLIN, 0});
    if (poll(polls.data(), static_cast<nfds_t>(polls.size()), -1) < 0) {
      if (errno == EINTR) continue;
      throw std::runtime_error("cannot wait for the engines' processes");
    }
    const std::uint64_t before = totals.cases;
    for (std::size_t i = children.size(); i-- > 0;) {
      if (polls[i].revents == 0) continue;
      if (!listen(children[i], options.rtl, totals, failure))
        children.erase(children.begin() + static_cast<std::ptrdiff_t>(i));
    }
    for (std::uint64_t done = before; done < totals.cases; ++done) progress.step();
    if (failure) {
      for (const Child& child : children) kill(child.pid, SIGKILL);
      for (Child& child : children) {
        close(child.pipe);
        while (waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
        }
      }
      children.clear();
    }
  }
  if (!failure && totals.cases != options.cases)  // a check that did not happen has not passed
    throw std::runtime_error(fmt::format("verify: {} of {} cases were compared", totals.cases, options.cases));
  return failure;
}

/// Of drawn workloads all is drawn.
void check_drawn(VerifyOptions& options) {
  for (const auto& [given, name] :
       {std::pair(options.cases != 0, "--cases"), std::pair(!options.workload.empty(), "--workload"),
        std::pair(!options.chip.empty(), "--chip"), std::pair(!options.against.empty(), "--against"),
        std::pair(!options.plan.empty(), "--plan"), std::pair(options.foreign_plan, "--foreign-plan"),
        std::pair(options.barriers, "--barriers"), std::pair(options.no_data, "--no-data"),
        std::pair(!options.waves.empty(), "--waves")})
    if (given) throw base::ConfigError("moesaic verify", name, "it with --workloads", "one of the two");
  if (!options.seed) throw base::ConfigError("moesaic verify", "--seed", "nothing", "a seed with --workloads");
  if (options.engines.empty()) options.engines = {"fast"};
  if (std::count(options.engines.begin(), options.engines.end(), "rtl") != 0)
    throw base::ConfigError("moesaic verify", "--engines", fmt::format("'{}'", fmt::join(options.engines, ",")),
                            "fast or fast,cycle with --workloads, whose arrays are no builds");
  options.cases = options.workloads;
}

/// Refuses a place for waves before any case runs there: who writes them replaces what stands there, a device too.
void check_waves(const VerifyOptions& options) {
  std::vector<std::string> inputs{options.chip, options.workload, options.plan};
  if (!options.workload.empty())
    for (const std::string& input : inputs_of(workloads::read_workload(options.workload))) inputs.push_back(input);
  for (const std::string& file : {options.waves, options.waves + kTwinWaves}) {
    std::error_code error;
    if (std::filesystem::exists(file, error) && !std::filesystem::is_regular_file(file, error))
      throw base::ConfigError("moesaic verify", "--waves", "'" + file + "', which is no file", "a file or a new name");
    refuse_lost("moesaic verify", "--waves", file, inputs);
    const base::AtomicFile probe(file);
  }
}

void interpret(VerifyOptions& options) {
  for (const std::string& name : options.against) {
    if (name == "rtl")
      options.rtl = true;
    else if (name == "cuda")
      options.cuda = true;
    else
      throw base::ConfigError("moesaic verify", "--against", "'" + name + "'", "a list of rtl, cuda");
  }
  if (options.workloads != 0) check_drawn(options);
  for (const std::string& name : options.engines)
    if (name == "rtl") options.rtl = true;
  options.totals = !options.engines.empty();
  options.shortcuts =
      options.engines == std::vector<std::string>{"fast"} && (options.workloads != 0 || !options.workload.empty());
  const auto has = [&options](const char* name) {
    return std::count(options.engines.begin(), options.engines.end(), name) == 1;
  };
  if (options.totals && !options.shortcuts &&
      (!has("fast") || !has("cycle") || options.engines.size() != (has("rtl") ? 3U : 2U)))
    throw base::ConfigError("moesaic verify", "--engines", fmt::format("'{}'", fmt::join(options.engines, ",")),
                            "fast,cycle or fast,cycle,rtl, or of workloads fast");
  if (options.totals == !options.against.empty())
    throw base::ConfigError("moesaic verify", "--against", options.totals ? "it and --engines" : "nothing",
                            "either --against or --engines");
  const bool cases = options.workload.empty();
  if (cases && (options.cases == 0 || !options.seed))
    throw base::ConfigError("moesaic verify", options.cases == 0 ? "--cases" : "--seed", "nothing",
                            "--cases and --seed, or a workload with --workload, or --workloads and --seed");
  if (!cases && (!options.totals || options.chip.empty() || options.cases != 0 || options.first != 0))
    throw base::ConfigError("moesaic verify", "--workload",
                            !options.totals        ? "it without --engines"
                            : options.chip.empty() ? "it without --chip"
                                                   : "it and cases",
                            "--engines and --chip with it, and no --cases or --first");
  for (const auto& [given, name] :
       {std::pair(!options.plan.empty(), "--plan"), std::pair(options.foreign_plan, "--foreign-plan"),
        std::pair(options.barriers, "--barriers"), std::pair(options.no_data, "--no-data"),
        std::pair(options.max_cycles && options.workloads == 0, "--max-cycles")})
    if (cases && given) throw base::ConfigError("moesaic verify", name, "it without --workload", "--workload with it");
  if (options.foreign_plan && options.plan.empty())
    throw base::ConfigError("moesaic verify", "--foreign-plan", "it without --plan", "--plan with it");
  if (!options.keep.empty() && options.workloads != 1)
    throw base::ConfigError("moesaic verify", "--keep", "'" + options.keep + "'", "--workloads 1 with it");
  std::error_code error;
  if (!options.keep.empty() && std::filesystem::exists(options.keep, error) &&
      (!std::filesystem::is_directory(options.keep, error) || !std::filesystem::is_empty(options.keep, error) || error))
    throw base::ConfigError("moesaic verify", "--keep", "'" + options.keep + "'", "a new folder or an empty one");
  if (cases && options.cases > std::numeric_limits<std::uint64_t>::max() - options.first)
    throw base::ConfigError("moesaic verify", "--first", std::to_string(options.first),
                            "at most 2^64 - 1 less the number of cases");
  if (!options.chip.empty()) options.chip_file = program::read_chip(options.chip);
  if (options.jobs == 0) options.jobs = std::max(1u, std::thread::hardware_concurrency());
  if (!options.waves.empty() && ((cases && options.cases != 1) || !options.rtl)) {
    throw base::ConfigError("moesaic verify", "--waves", "'" + options.waves + "'",
                            "--cases 1 or --workload with it, and rtl in --against or --engines");
  }
  if (!options.waves.empty()) check_waves(options);
}

cosim::Build build_of(std::uint64_t index, const VerifyOptions& options) {
  if (options.totals && !options.rtl) {
    if (!options.chip_file) return cosim::draw_core(*options.seed, index / kCasesPerCore);
    return {options.chip_file->name, options.chip_file->core, nullptr};
  }
  if (options.chip_file) return cosim::find_build(options.chip_file->core, options.chip, "array");
  return cosim::builds()[cosim::draw_build(*options.seed, index, cosim::builds().size())];
}

/// The number behind "PREFIX:", if it is one of six digits at most.
std::optional<unsigned> injected(const std::string& text, const std::string& prefix) {
  const std::string digits = text.rfind(prefix + ":", 0) == 0 ? text.substr(prefix.size() + 1) : "";
  const bool number = !digits.empty() && digits.size() < 7 && (digits[0] != '0' || digits.size() == 1) &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!number) return std::nullopt;
  return static_cast<unsigned>(std::stoul(digits));
}

void interpret_injection(VerifyOptions& options) {
  if (options.inject.empty()) return;
  if (options.shortcuts) {
    const std::optional<unsigned> clocks = injected(options.inject, "fast");
    if (!clocks || *clocks == 0)
      throw base::ConfigError("moesaic verify", "--inject", "'" + options.inject + "'",
                              "fast:CLOCKS with CLOCKS in 1..999999");
    options.slower = *clocks;
    return;
  }
  if (options.workloads != 0)
    throw base::ConfigError("moesaic verify", "--inject", "'" + options.inject + "'",
                            "--engines fast with --workloads");
  const unsigned bits = cosim::output_bits(build_of(options.first, options).params);
  const std::optional<unsigned> bit = injected(options.inject, "rtl");
  if (!bit || *bit >= bits || !options.rtl)
    throw base::ConfigError("moesaic verify", "--inject", "'" + options.inject + "'",
                            fmt::format("rtl:BIT with BIT in 0..{}, and rtl in --against or --engines", bits - 1));
  options.inject_bit = bit;
}

std::vector<Batch> make_batches(const VerifyOptions& options) {
  std::vector<Batch> batches;
  if (options.workloads != 0) {
    for (std::uint64_t i = options.first; i < options.first + options.cases; ++i) batches.push_back({{}, {i}});
    return batches;
  }
  std::map<std::string, std::size_t> open;  // batch being filled, by build
  for (std::uint64_t i = options.first; i < options.first + options.cases; ++i) {
    const cosim::Build build = build_of(i, options);
    const auto [at, is_new] = open.emplace(build.name, batches.size());
    if (is_new || batches[at->second].indices.size() == kCasesPerProcess) {
      at->second = batches.size();
      batches.push_back({build, {}});
    }
    batches[at->second].indices.push_back(i);
  }
  return batches;
}

/// As one word of a shell's line.
std::string shell_word(const std::string& text) {
  const bool plain = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::strchr("_-+=./:,@%", c) != nullptr;
  });
  if (plain && !text.empty()) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

std::string replay(const VerifyOptions& options, std::uint64_t index) {
  if (options.workloads != 0) {
    std::string text = fmt::format("moesaic verify --workloads 1 --seed {} --first {}", *options.seed, index);
    if (!options.shortcuts) text += fmt::format(" --engines {}", fmt::join(options.engines, ","));
    if (options.max_cycles) text += fmt::format(" --max-cycles {}", *options.max_cycles);
    if (!options.inject.empty()) text += " --inject " + options.inject;
    return text;
  }
  std::string text = fmt::format("moesaic verify --seed {} --first {} --cases 1 --{} {}", *options.seed, index,
                                 options.totals ? "engines" : "against",
                                 fmt::join(options.totals ? options.engines : options.against, ","));
  if (!options.chip.empty()) text += " --chip " + shell_word(options.chip);
  if (!options.inject.empty()) text += " --inject " + options.inject;
  if (options.rtl) text += fmt::format(" --waves case{}.fst", index);
  return text;
}

std::string replay_workload(const VerifyOptions& options) {
  std::string text = fmt::format("moesaic verify --engines {} --chip {} --workload {}", fmt::join(options.engines, ","),
                                 shell_word(options.chip), shell_word(options.workload));
  if (!options.plan.empty()) text += " --plan " + shell_word(options.plan);
  if (options.seed) text += fmt::format(" --seed {}", *options.seed);
  if (options.max_cycles) text += fmt::format(" --max-cycles {}", *options.max_cycles);
  for (const auto& [given, name] :
       {std::pair(options.foreign_plan, " --foreign-plan"), std::pair(options.barriers, " --barriers"),
        std::pair(options.no_data, " --no-data")})
    if (given) text += name;
  if (!options.inject.empty()) text += " --inject " + options.inject;
  if (options.rtl) text += " --waves workload.fst";
  return text;
}

/// A line of shares.
std::string effort_text(const char* name, const fast::Effort& effort) {
  const std::uint64_t all = effort.stepped + effort.skipped + effort.repeated;
  const auto percent = [all](std::uint64_t cycles) {
    return 100.0 * static_cast<double>(cycles) / static_cast<double>(std::max<std::uint64_t>(all, 1));
  };
  return fmt::format(
      "  {}: {:.1f} % of cycles stepped, {:.1f} % skipped, {:.1f} % repeated ({:.1f} % whenever a DRAM answered, "
      "{:.1f} % without asking it, {:.1f} % many stretches at once); {} refreshes repeated so, {} states, {} moments\n",
      name, percent(effort.stepped), percent(effort.skipped), percent(effort.repeated), percent(effort.stocked),
      percent(effort.unasked), percent(effort.linked), effort.refreshes, effort.states, effort.moments);
}

void run_verify_workload(const VerifyOptions& options) {
  VerifyWorkloadOptions of_workload;
  of_workload.chip = *options.chip_file;
  of_workload.workload = options.workload;
  of_workload.run.plan = options.plan;
  of_workload.run.foreign_plan = options.foreign_plan;
  of_workload.run.seed = options.seed.value_or(1);
  of_workload.run.data = !options.no_data && !options.shortcuts;
  of_workload.run.barriers = options.barriers;
  of_workload.rtl = options.rtl;
  of_workload.max_cycles = options.max_cycles;
  if (options.inject_bit) of_workload.injection = {*options.inject_bit, kInjectionCycle};
  of_workload.slower = options.slower;
  of_workload.waves = options.waves;
  VerifyWorkloadTotals totals;
  VerifyShortcutsTotals shortcuts;
  try {
    if (options.shortcuts)
      shortcuts = verify_shortcuts(of_workload);
    else
      totals = verify_workload(of_workload);
  } catch (const base::CheckError& error) {
    throw base::CheckError(std::string(error.what()) + "; replay: " + replay_workload(options));
  }
  if (options.shortcuts) {
    nlohmann::ordered_json json{{"cycles_compared", shortcuts.cycles}, {"whole_run", shortcuts.ended}};
    put_effort(shortcuts.plain, json["shortcuts"]);
    put_effort(shortcuts.eager, json["eager_shortcuts"]);
    json["differences"] = 0;
    if (options.json)
      fmt::print("{}\n", json.dump(2));
    else
      fmt::print("{} cycles{}: 0 differences\n{}{}", shortcuts.cycles, shortcuts.ended ? ", the whole run" : "",
                 effort_text("shortcuts", shortcuts.plain), effort_text("eager shortcuts", shortcuts.eager));
  } else if (options.json) {
    const nlohmann::ordered_json json{{"cycles_compared", totals.cycles},
                                      {"whole_run", totals.ended},
                                      {"commands_compared", totals.commands},
                                      {"tiles_compared", totals.tiles},
                                      {"planes_loaded", totals.loads},
                                      {"port_values_compared", totals.port_values},
                                      {"differences", 0}};
    fmt::print("{}\n", json.dump(2));
  } else {
    fmt::print("{} cycles{}: {} commands, {} tiles, {} loads and {} port values compared, 0 differences\n",
               totals.cycles, totals.ended ? ", the whole run" : "", totals.commands, totals.tiles, totals.loads,
               totals.port_values);
  }
}

nlohmann::ordered_json drawn_json(const VerifyOptions& options, const Totals& totals) {
  nlohmann::ordered_json json{{"workloads", totals.cases},
                              {"configurations", totals.configurations.size()},
                              {"cycles_compared", totals.cycles},
                              {"whole_runs", totals.whole}};
  if (options.shortcuts) {
    json["workloads_repeated_unasked"] = totals.unasked;
    put_effort(totals.plain, json["shortcuts"]);
    put_effort(totals.eager, json["eager_shortcuts"]);
  } else {
    json["tiles_compared"] = totals.tiles;
    json["planes_loaded"] = totals.loads;
  }
  return json;
}

void run_verify_drawn(VerifyOptions options) {
  const base::TemporaryFolder scratch("moesaic-verify-");
  options.scratch = scratch.path();
  Totals totals;
  const std::optional<Failure> failure = run_batches(make_batches(options), options, totals);
  if (failure && failure->kind == Failure::Kind::kInput) throw base::InputError(failure->text);
  const std::string text = failure ? fmt::format("workload {}: {}; replay: {}", failure->index, failure->text,
                                                 replay(options, failure->index))
                                   : "";
  if (failure && failure->kind == Failure::Kind::kInternal) throw std::runtime_error(text);
  if (options.json) {
    nlohmann::ordered_json json = drawn_json(options, totals);
    json["differences"] = failure ? 1 : 0;
    if (failure) {
      json["first_difference"] = fmt::format("workload {}: {}", failure->index, failure->text);
      json["replay"] = replay(options, failure->index);
    }
    fmt::print("{}\n", base::dump_json(json, 2));
  } else if (!failure) {
    fmt::print("{} in {}: {} cycles compared, {}, 0 differences\n", counted(totals.cases, "workload"),
               counted(totals.configurations.size(), "configuration"), totals.cycles,
               counted(totals.whole, "whole run"));
    if (options.shortcuts)
      fmt::print("{}{}  without asking a DRAM in {}\n", effort_text("shortcuts", totals.plain),
                 effort_text("eager shortcuts", totals.eager), counted(totals.unasked, "workload"));
  }
  if (failure) throw base::CheckError(text);
}

/// Throws base::CheckError for a difference.
void compare(VerifyOptions options) {
  if (options.workloads != 0) {
    run_verify_drawn(std::move(options));
    return;
  }
  if (!options.workload.empty()) {
    run_verify_workload(options);
    return;
  }
  Totals totals;
  const std::optional<Failure> failure = run_batches(make_batches(options), options, totals);
  if (failure && failure->kind == Failure::Kind::kInput) throw base::InputError(failure->text);
  if (failure && failure->kind == Failure::Kind::kInternal) throw std::runtime_error(failure->text);
  const std::string difference = failure ? fmt::format("case {}: {}", failure->index, failure->text) : "";
  if (options.json) {
    nlohmann::ordered_json json{{"cases", totals.cases},
                                {"configurations", totals.configurations.size()},
                                {"cycles_compared", totals.cycles},
                                {"port_values_compared", totals.port_values},
                                {"planes_loaded", totals.loads},
                                {"differences", failure ? 1 : 0}};
    if (options.totals) json["tiles_compared"] = totals.tiles;
    if (failure) {
      json["first_difference"] = difference;
      json["replay"] = replay(options, failure->index);
    }
    fmt::print("{}\n", base::dump_json(json, 2));
  } else if (!failure && options.totals) {
    fmt::print("{} in {}: {} cycles, {} tiles and {} port values compared, 0 differences\n",
               counted(totals.cases, "case"), counted(totals.configurations.size(), "configuration"), totals.cycles,
               totals.tiles, totals.port_values);
  } else if (!failure) {
    fmt::print("{} in {}: {} cycles and {} port values compared, 0 differences\n", counted(totals.cases, "case"),
               counted(totals.configurations.size(), "configuration"), totals.cycles, totals.port_values);
  }
  if (failure) throw base::CheckError(difference + "; replay: " + replay(options, failure->index));
}

void run_verify(VerifyOptions options) {
  interpret(options);
  interpret_injection(options);
  const std::string inject = options.inject;
  compare(std::move(options));
  if (!inject.empty())
    throw base::CheckError("--inject " + inject +
                           " changed nothing that was compared: the run ended before, or nothing was read");
}

}  // namespace

void add_verify(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("verify", "Compare the implementations on random cases, bit by bit and cycle by cycle");
  const auto options = std::make_shared<VerifyOptions>();
  command->add_option("--chip", options->chip, "Only this chip's build, memory and layout")->type_name("FILE");
  command->add_option("--cases", options->cases, "How many cases")->check(CLI::Range(1u, 100000000u));
  command
      ->add_option("--workloads", options->workloads,
                   "Instead of cases: so many drawn workloads on drawn chips, on the fast engine with its shortcuts "
                   "and without, or on the engines of --engines")
      ->check(CLI::Range(1u, 100000000u));
  command->add_option("--keep", options->keep, "Of a single drawn workload: write its files into this folder")
      ->type_name("DIR");
  command->add_option("--seed", options->seed,
                      "What the cases are drawn from; with --workload for what it does not state, 1 unless given");
  command->add_option("--first", options->first, "Number of the first case or drawn workload");
  command->add_option("--against", options->against, "Whom to check: rtl, cuda")->delimiter(',')->type_name("LIST");
  command
      ->add_option("--engines", options->engines,
                   "Engines whose totals and tiles to compare: fast,cycle on any array, fast,cycle,rtl on the builds; "
                   "fast alone: a workload with its shortcuts and without")
      ->delimiter(',')
      ->type_name("LIST");
  command
      ->add_option("--workload", options->workload,
                   "Instead of cases: this workload on --chip, on the engines of --engines")
      ->type_name("FILE");
  command->add_option("--max-cycles", options->max_cycles, "Only so many cycles from a workload's beginning")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40));
  command->add_option("--plan", options->plan, "Of the workload: a plan file or one format; int8 when absent")
      ->type_name("PLAN|FORMAT");
  command->add_flag("--foreign-plan", options->foreign_plan, "Take a plan file that was made for something else");
  command->add_flag("--barriers", options->barriers, "One expert of the workload at a time");
  command->add_flag("--no-data", options->no_data, "The workload from its shapes: weights and activations are zero");
  command->add_option("--jobs", options->jobs, "Processes at a time; all processors unless given")
      ->check(CLI::Range(1u, 1024u));
  command
      ->add_option("--inject", options->inject,
                   "Must fail: flip one output bit of the RTL in the first case, rtl:BIT, or have reads "
                   "take so many clocks longer where no shortcut is taken, fast:CLOCKS")
      ->type_name("rtl:BIT|fast:CLOCKS");
  command->add_option("--waves", options->waves, "Write the waves of a single case: RTL in FST, twin in VCD")
      ->type_name("FILE");
  command->add_flag("--json", options->json, "Print the totals as JSON");
  command->callback([options] { run_verify(*options); });
}

}  // namespace moesaic::cli
