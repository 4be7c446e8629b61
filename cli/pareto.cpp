#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/map_plan.h"
#include "cli/pareto_plot.h"
#include "models/memory/memory_model.h"
#include "models/storage/storage_model.h"
#include "reference/network/evaluate.h"
#include "reference/network/quantised_experts.h"
#include "workloads/checkpoint.h"
#include "workloads/tokens.h"

namespace moesaic::cli {
namespace {

namespace fs = std::filesystem;
constexpr const char* kWhere = "moesaic pareto";
constexpr const char* kOptimal = "optimal";

struct ParetoCommand {
  MapCommand map;
  std::vector<std::string> memory_budgets, latency_budgets, io_budgets, resident_budgets;  ///< one of each is a point
  std::string allocators = "all";
  std::string evaluate;  ///< tokens
  std::int64_t window = 256, windows = 0;
  std::string out;
  bool json = false;
};

/// Bits per byte of plans over one text, each measured once: kept in a folder under a hash of all that decides them.
class Evaluator {
 public:
  Evaluator(const ParetoCommand& command, const workloads::WorkloadFile& workload,
            const workloads::Quantiser& quantiser)
      : folder_((fs::path(command.out) / "evaluations").string()),
        window_(static_cast<std::size_t>(command.window)),
        threads_(command.map.cache.threads > 0 ? static_cast<unsigned>(command.map.cache.threads)
                                               : std::max(1U, std::thread::hardware_concurrency())),
        quantiser_(quantiser),
        act_bits_(workload.act_bits),
        checkpoint_(workload.model),
        forward_(checkpoint_),
        tokens_(workloads::read_tokens(command.evaluate)) {
    const std::int64_t found = static_cast<std::int64_t>(tokens_.size()) / command.window;
    if (found < std::max<std::int64_t>(command.windows, 1))
      throw base::ConfigError(command.evaluate, "length", fmt::format("{} tokens", tokens_.size()),
                              fmt::format("at least {}", std::max<std::int64_t>(command.windows, 1) * command.window));
    if (command.windows > 0) tokens_.resize(static_cast<std::size_t>(command.windows * command.window));
    base::Sha256 sum;
    sum.add(checkpoint_.hash());
    for (const std::uint32_t token : tokens_) sum.add(&token, sizeof token);
    sum.add(fmt::format(";{};{};{};{};{};{}", command.window, static_cast<int>(quantiser.kind), quantiser.tokens_hash,
                        quantiser.window, quantiser.damping, quantiser.minimum_tokens));
    if (act_bits_ != network::kNetworkActBits) sum.add(fmt::format(";{} activation bits", act_bits_));
    identity_ = sum.hex();
  }

  std::size_t measured() const { return measured_; }
  std::size_t found() const { return found_; }

  /// Of each window; the float model's for null.
  std::vector<double> windows(const workloads::Plan* plan) {
    std::string text = identity_;
    if (plan != nullptr) {
      text += fmt::format(";{}", plan->group_size);
      for (const workloads::PlanEntry& e : plan->experts)
        text += fmt::format(";{}.{}={}", e.layer, e.expert, e.format.name());
    }
    const std::string key = base::sha256_hex(text);
    const fs::path path = fs::path(folder_) / (key + ".txt");
    if (auto known = read(path)) {
      ++found_;
      return *std::move(known);
    }
    std::unique_ptr<network::ExpertBackend> experts;
    if (plan != nullptr) {
      if (!store_)
        store_ = std::make_shared<const network::ExpertStore>(forward_, checkpoint_, plan->group_size, threads_,
                                                              act_bits_, quantiser_);
      experts = std::make_unique<network::QuantisedExperts>(store_, *plan, threads_);
    }
    const network::ExpertBackend& used =
        experts ? *experts : static_cast<const network::ExpertBackend&>(forward_.float_experts());
    const network::Evaluation result = network::evaluate(forward_, used, tokens_, window_, threads_);
    std::string lines;
    for (const double bits : result.window_bits) lines += fmt::format("{}\n", bits);
    fs::create_directories(folder_);
    base::write_file(path.string(), lines);
    ++measured_;
    return result.window_bits;
  }

 private:
  std::optional<std::vector<double>> read(const fs::path& path) const {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) return std::nullopt;
    const std::string text = base::read_file(path.string());
    std::vector<double> values;
    for (const char *at = text.data(), *const last = at + text.size(); at != last;) {
      double value = 0;
      const auto [end, failed] = std::from_chars(at, last, value);
      if (failed != std::errc() || end == last || *end != '\n' || !std::isfinite(value)) return std::nullopt;
      values.push_back(value);
      at = end + 1;
    }
    if (values.size() != tokens_.size() / window_) return std::nullopt;
    return values;
  }

  std::string folder_, identity_;
  std::size_t window_;
  unsigned threads_;
  workloads::Quantiser quantiser_;
  int act_bits_;
  workloads::Checkpoint checkpoint_;
  network::Forward forward_;
  std::shared_ptr<const network::ExpertStore> store_;  // of all plans: they share group size and quantiser
  std::vector<std::uint32_t> tokens_;
  std::size_t measured_ = 0, found_ = 0;
};

struct Point {
  std::string allocator, budget;
  std::string error;  ///< why there is no plan
  workloads::Plan plan;
  std::int64_t io_uses = 0;  ///< bytes a token times tokens
  std::int64_t cycles = 0;   ///< simulated
  std::vector<double> windows;
};

std::vector<std::string> chosen_allocators(const std::string& list) {
  const std::vector<std::string> names = allocators().names();
  if (list == "all") return names;
  std::vector<std::string> chosen;
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t comma = std::min(list.find(',', at), list.size());
    const std::string name = list.substr(at, comma - at);
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw base::ConfigError(kWhere, "--allocators", "'" + name + "'",
                              "a list of " + allocators().choices() + ", or all");
    if (std::find(chosen.begin(), chosen.end(), name) != chosen.end())
      throw base::ConfigError(kWhere, "--allocators", name + " twice", "each once");
    chosen.push_back(name);
    at = comma + 1;
  }
  return chosen;
}

std::string csv_text(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c == '\n' ? ' ' : c;
  }
  return out + "\"";
}

struct Evaluated {
  double bits = 0, error = 0;                        ///< per byte, and its standard error
  double increase = 0, increase_error = 0;           ///< above float, paired
  std::optional<double> above_optimal, above_error;  ///< paired, at the same budget
};

/// One of each list that was given.
struct Budgets {
  std::string name;  ///< "2bits", "2bits+12000cycles"
  std::vector<std::string> memory, latency, io, resident;
};

void add_list(std::vector<Budgets>& sweep, const std::vector<std::string>& list, const std::string& option,
              std::vector<std::string> Budgets::*of) {
  std::set<std::string> seen;
  for (const std::string& budget : list)
    if (!seen.insert(budget).second) throw base::ConfigError(kWhere, option, "'" + budget + "' twice", "each once");
  if (list.empty()) return;
  std::vector<Budgets> wider;
  for (const Budgets& before : sweep)
    for (const std::string& budget : list) {
      wider.push_back(before);
      wider.back().name += (before.name.empty() ? "" : "+") + budget;
      wider.back().*of = {budget};
    }
  sweep = std::move(wider);
}

std::vector<Budgets> points_of(const ParetoCommand& command) {
  std::vector<Budgets> sweep(1);
  add_list(sweep, command.memory_budgets, "--memory-budgets", &Budgets::memory);
  add_list(sweep, command.latency_budgets, "--latency-budgets", &Budgets::latency);
  add_list(sweep, command.io_budgets, "--io-budgets", &Budgets::io);
  add_list(sweep, command.resident_budgets, "--resident-budgets", &Budgets::resident);
  if (sweep.front().name.empty())
    throw base::ConfigError(kWhere, "--memory-budgets", "no budgets",
                            "a list here (2bits,2.5bits,96KiB), of --latency-budgets, --io-budgets or "
                            "--resident-budgets");
  if (!command.latency_budgets.empty() && !command.map.latency_budgets.empty())
    throw base::ConfigError(kWhere, "--latency-budget", "it with --latency-budgets", "one of them");
  return sweep;
}

/// The sweep's options are map's, and so is what is said of them, but for the command's name and the lists'.
std::string as_pareto(std::string text) {
  const std::string map = "moesaic map: ";
  if (text.compare(0, map.size(), map) != 0) return text;
  text = std::string(kWhere) + ": " + text.substr(map.size());
  for (const char* budget : {"--memory-budget", "--io-budget", "--resident-budget"})
    if (const std::size_t at = text.find(std::string(budget) + ":"); at != std::string::npos)
      text.insert(at + std::string(budget).size(), "s");
  return text;
}

constexpr const char* kFolder = "a new folder, an empty one or an earlier sweep's";

/// Refuses a folder that holds anything that no sweep writes.
void check_folder(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return;
  if (!fs::is_directory(path, error)) throw base::ConfigError(path, "--out", "a file", kFolder);
  const auto foreign = [&path](const std::string& name) {
    return base::ConfigError(path, "--out", "a folder that holds " + name, kFolder);
  };
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    const bool is_file = entry.is_regular_file();
    if (is_file && (name == "pareto.csv" || name == "pareto.svg")) continue;
    if (is_file || (name != "plans" && name != "evaluations")) throw foreign(name);
    for (const auto& inner : fs::directory_iterator(entry.path()))
      if (!inner.is_regular_file() || inner.path().extension() != (name == "plans" ? ".yaml" : ".txt"))
        throw foreign(name + "/" + inner.path().filename().string());
  }
}

class Sweep {
 public:
  explicit Sweep(const ParetoCommand& command) : command_(command) {}

  void run() {
    MapCommand& map = command_.map;
    const std::vector<std::string> names = chosen_allocators(command_.allocators);
    const std::vector<Budgets> sweep = points_of(command_);
    if (command_.evaluate.empty() && command_.windows > 0)
      throw base::ConfigError(kWhere, "--windows", "it without --evaluate", "--evaluate beside it");
    check_folder(command_.out);
    std::error_code error;
    fs::create_directories(command_.out, error);
    if (error || !fs::is_directory(command_.out))
      throw base::ConfigError(kWhere, "--out", "'" + command_.out + "'", "a folder, or the name of a new one");

    std::shared_ptr<const run::RunInputs> work;
    mapping::AllocatorOptions options{map.seed, map.search};
    base::Progress progress("pareto", static_cast<std::int64_t>(names.size() * sweep.size()));
    std::unique_ptr<Evaluator> evaluator;
    for (const Budgets& budgets : sweep) {
      map.memory_budgets = budgets.memory;
      if (!budgets.latency.empty()) map.latency_budgets = budgets.latency;
      map.io_budgets = budgets.io;
      map.resident_budgets = budgets.resident;
      const Inputs in = read_inputs(map);
      if (!in.workload->has_weights)
        throw base::ConfigError(map.workload, "model", in.workload->model + " (a shape of the zoo)",
                                "a folder with weights: plans are bound to a checkpoint");
      if (!work)
        work = in.work ? in.work : std::make_shared<const run::RunInputs>(latency_inputs(*in.workload, in.group_size));
      if (!command_.evaluate.empty() && !evaluator) {
        evaluator = std::make_unique<Evaluator>(command_, *in.workload, in.quantiser);
        float_ = evaluator->windows(nullptr);
      }
      if (routing_.tokens.empty()) routing_ = workload_routing(*in.workload);
      chip_ = *in.chip;
      for (const std::string& name : names) {
        Point point;
        point.allocator = name;
        point.budget = budgets.name;
        try {
          const mapping::Allocator allocator = allocators().at(name, kWhere, "--allocators");
          point.plan = solve_plan(in, map, name, allocator, options);
        } catch (const base::InputError& failed) {
          point.error = as_pareto(failed.what());
        } catch (const LatencyMissed& failed) {
          point.error = as_pareto(failed.what());
        }
        if (point.error.empty()) {
          for (const workloads::PlanEntry& e : point.plan.experts)
            point.io_uses += routing_.at(e.layer, e.expert) * in.memory->read_bytes(e.format);
          point.cycles = simulated(in, *work, point.plan).cycles;
          point.plan.made_from.checkpoint = workloads::Checkpoint(in.workload->model).hash();
          point.plan.made_from.trace = base::sha256_file(in.workload->trace);
          point.plan.made_from.work = workloads::selection_hash(*in.workload);
          if (evaluator) point.windows = evaluator->windows(&point.plan);
        }
        points_.push_back(std::move(point));
        progress.step();
      }
    }
    replace_plans();
    base::write_file((fs::path(command_.out) / "pareto.csv").string(), csv());
    base::write_file((fs::path(command_.out) / "pareto.svg").string(), svg());
    print(evaluator.get());
  }

 private:
  /// The plans of this sweep and of no earlier one; meanwhile there is no pareto.csv that speaks of them.
  void replace_plans() const {
    const fs::path folder = fs::path(command_.out) / "plans";
    std::error_code error;
    for (const char* name : {"pareto.csv", "pareto.svg"}) fs::remove(fs::path(command_.out) / name, error);
    fs::remove_all(folder, error);
    if (!error) fs::create_directories(folder, error);
    if (error) throw base::ConfigError(folder.string(), "--out", error.message(), "a folder that can be made");
    for (const Point& point : points_) {
      std::string name = point.budget + "-" + point.allocator + ".yaml";
      for (std::size_t at = name.find('/'); at != std::string::npos; at = name.find('/')) name.replace(at, 1, "-per-");
      if (point.error.empty()) workloads::write_plan(point.plan, (folder / name).string());
    }
  }

  const Point* optimal_at(const std::string& budget) const {
    for (const Point& p : points_)
      if (p.allocator == kOptimal && p.budget == budget && p.error.empty()) return &p;
    return nullptr;
  }

  Evaluated evaluated(const Point& point) const {
    Evaluated e;
    e.bits = network::mean(point.windows);
    e.error = network::standard_error(point.windows);
    const std::vector<double> increase = network::differences(point.windows, float_);
    e.increase = network::mean(increase);
    e.increase_error = network::standard_error(increase);
    const Point* best = optimal_at(point.budget);
    if (best != nullptr) {
      const std::vector<double> above = network::differences(point.windows, best->windows);
      e.above_optimal = network::mean(above);
      e.above_error = network::standard_error(above);
    }
    return e;
  }

  std::string csv() const {
    std::string text = fmt::format(
        "# moesaic pareto 1\n# chip: {}\n# memory: {}\n# storage: {}\n", chip_.hash,
        memory::make_memory(chip_.memory, chip_.clock_period())->name(),
        chip_.storage ? storage::describe_storage(*chip_.storage) : "none: every expert lies in the memory");
    text +=
        "budget,allocator,status,table_loss,memory_bytes,memory_budget_bytes,io_bytes_per_token,cycles,cycles_per_"
        "token";
    const bool with = !command_.evaluate.empty();
    if (with) text += ",bits_per_byte,bits_per_byte_stderr,increase,increase_stderr,above_optimal,above_optimal_stderr";
    text += ",experts,error\n";
    for (const Point& p : points_) {
      if (!p.error.empty()) {
        text += fmt::format("{},{},none,,,,,,{},,{}\n", p.budget, p.allocator, with ? ",,,,,," : "", csv_text(p.error));
        continue;
      }
      std::string status;
      for (const auto& [key, value] : p.plan.solver)
        if (key == "status") status = value;
      text += fmt::format("{},{},{},{},{},{},{},{},{}", p.budget, p.allocator, csv_text(status), p.plan.loss,
                          p.plan.memory_bytes, p.plan.memory_budget_bytes.value_or(0),
                          static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale), p.cycles,
                          static_cast<double>(p.cycles) / static_cast<double>(routing_.scale));
      if (with) {
        const Evaluated e = evaluated(p);
        text += fmt::format(",{},{},{},{},{},{}", e.bits, e.error, e.increase, e.increase_error,
                            e.above_optimal ? fmt::format("{}", *e.above_optimal) : "",
                            e.above_error ? fmt::format("{}", *e.above_error) : "");
      }
      text += "," + csv_text(counts_text(p.plan)) + ",\n";
    }
    return text;
  }

  std::string svg() const {
    const bool with = !command_.evaluate.empty();
    std::vector<ParetoSeries> series;
    for (const Point& p : points_) {
      if (!p.error.empty()) continue;
      auto own =
          std::find_if(series.begin(), series.end(), [&](const ParetoSeries& s) { return s.name == p.allocator; });
      if (own == series.end()) {
        series.push_back({p.allocator, {{}, {}, {}}, {}, {}});
        own = series.end() - 1;
      }
      const double loss = with ? evaluated(p).increase : p.plan.loss;
      own->costs[0].push_back(static_cast<double>(p.plan.memory_bytes) / 1024);
      own->costs[1].push_back(static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale) / 1024);
      own->costs[2].push_back(static_cast<double>(p.cycles) / static_cast<double>(routing_.scale));
      own->loss.push_back(loss);
      own->notes.push_back(fmt::format("{}, loss {:.6g}, {} bytes, {} cycles; {}", p.budget, loss, p.plan.memory_bytes,
                                       p.cycles, counts_text(p.plan)));
    }
    return pareto_svg(
        "Loss against memory, I/O and latency, by allocator",
        with ? "evaluated increase above float, bits per byte" : "loss of the sensitivity table",
        {"stored bytes of all experts, KiB", "bytes a token reads of its experts, KiB", "simulated cycles a token"},
        series);
  }

  void print(const Evaluator* evaluator) const {
    if (command_.json) {
      nlohmann::ordered_json j;
      for (const Point& p : points_) {
        nlohmann::ordered_json one;
        one["budget"] = p.budget;
        one["allocator"] = p.allocator;
        if (p.error.empty()) {
          one["table_loss"] = p.plan.loss;
          one["memory_bytes"] = p.plan.memory_bytes;
          one["io_bytes_per_token"] = static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale);
          one["cycles"] = p.cycles;
          if (evaluator != nullptr) {
            const Evaluated e = evaluated(p);
            one["bits_per_byte"] = e.bits;
            one["increase"] = e.increase;
            one["increase_stderr"] = e.increase_error;
            if (e.above_optimal) one["above_optimal"] = *e.above_optimal;
            if (e.above_error) one["above_optimal_stderr"] = *e.above_error;
          }
        } else {
          one["error"] = p.error;
        }
        j["points"].push_back(one);
      }
      if (evaluator != nullptr) j["evaluations"] = {{"measured", evaluator->measured()}, {"found", evaluator->found()}};
      fmt::print("{}\n", j.dump(2));
      return;
    }
    fmt::print("{:<10} {:<10} {:>12} {:>12} {:>14} {:>12}{}\n", "budget", "allocator", "table loss", "bytes",
               "I/O bytes/token", "cycles/token",
               evaluator == nullptr ? "" : fmt::format(" {:>22} {:>22}", "above float", "above optimal"));
    for (const Point& p : points_) {
      if (!p.error.empty()) {
        fmt::print("{:<10} {:<10} none: {}\n", p.budget, p.allocator, p.error);
        continue;
      }
      std::string line =
          fmt::format("{:<10} {:<10} {:>12.6g} {:>12} {:>14.0f} {:>12.1f}", p.budget, p.allocator, p.plan.loss,
                      p.plan.memory_bytes, static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale),
                      static_cast<double>(p.cycles) / static_cast<double>(routing_.scale));
      if (evaluator != nullptr) {
        const Evaluated e = evaluated(p);
        line += fmt::format(" {:>22}", fmt::format("{:.6f} ± {:.6f}", e.increase, e.increase_error));
        if (e.above_optimal)
          line += fmt::format(" {:>22}", fmt::format("{:+.6f} ± {:.6f}", *e.above_optimal, *e.above_error));
      }
      fmt::print("{}\n", line);
    }
    fmt::print("pareto.csv, pareto.svg and plans in {}\n", command_.out);
    if (evaluator != nullptr)
      fmt::print("{} plans evaluated, {} found in {}/evaluations\n", evaluator->measured(), evaluator->found(),
                 command_.out);
  }

  ParetoCommand command_;
  std::vector<Point> points_;
  std::vector<double> float_;
  program::Chip chip_;
  Routing routing_;
};

}  // namespace

void add_pareto(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "pareto", "Sweep budgets and allocators: loss, bytes, I/O and simulated latency of every plan");
  const auto options = std::make_shared<ParetoCommand>();
  MapCommand& map = options->map;
  command->add_option("--workload", map.workload, "Workload file, YAML")->required()->type_name("FILE");
  command->add_option("--chip", map.chip, "Chip file, YAML")->required()->type_name("FILE");
  command->add_option("--sensitivity", map.sensitivity, "Sensitivity table, CSV")->required()->type_name("FILE");
  command->add_option("--memory-budgets", options->memory_budgets, "As map's --memory-budget: 2bits,2.5bits,3bits")
      ->delimiter(',')
      ->type_name("LIST");
  command
      ->add_option(
          "--latency-budgets", options->latency_budgets,
          "As map's --latency-budget: 10000cycles,12000cycles. Several lists: every combination of one of each")
      ->delimiter(',')
      ->type_name("LIST");
  command->add_option("--io-budgets", options->io_budgets, "As map's --io-budget")->delimiter(',')->type_name("LIST");
  command->add_option("--resident-budgets", options->resident_budgets, "As map's --resident-budget")
      ->delimiter(',')
      ->type_name("LIST");
  command->add_option("--latency-budget", map.latency_budgets, "As map's: of every plan")->type_name("CYCLES");
  command->add_option("--allocators", options->allocators, "A list, or all: " + allocators().choices())
      ->capture_default_str()
      ->type_name("LIST");
  command->add_option("--formats", map.formats, "Formats that the hardware has; all of the table's unless given")
      ->type_name("LIST");
  command
      ->add_option("--evaluate", options->evaluate,
                   "Also run every plan on the model over these tokens: increase above float, and above optimal's")
      ->type_name("TOKENS");
  command->add_option("--window", options->window, "Tokens of a window of --evaluate")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--windows", options->windows, "Only the first N of them; 0 takes all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--seed", map.seed, "Of allocator random")->type_name("N");
  CLI::Option* group =
      command
          ->add_option("--group", map.group, "Weights that share a scale, as calibrated: of a table that says it, its")
          ->check(CLI::Range(std::int64_t{8}, std::int64_t{1} << 24))
          ->capture_default_str();
  command->add_option("--loss-column", map.loss_column, "As map's")->capture_default_str()->type_name("NAME");
  add_quantiser_options(*command, map.quantiser);
  add_cache_options(*command, map.cache);
  command
      ->add_option("--out", options->out,
                   "Folder for pareto.csv, pareto.svg, plans and evaluations; a run goes on with those it finds there")
      ->required()
      ->type_name("DIR");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, group] {
    options->map.group_given = group->count() > 0;
    try {
      Sweep(*options).run();
    } catch (const base::InputError& error) {
      throw base::InputError(as_pareto(error.what()));
    }
  });
}

}  // namespace moesaic::cli
