#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/sha256.h"
#include "cli/commands.h"
#include "cli/map_plan.h"
#include "cli/pareto_plot.h"
#include "cli/scratch_folder.h"
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
  bool window_given = false;
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
  std::size_t equal() const { return equal_; }  ///< to one that was measured before it
  std::size_t found() const { return found_; }  ///< an earlier sweep's

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
      ++(own_.count(key) != 0 ? equal_ : found_);
      return *std::move(known);
    }
    own_.insert(key);
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
  std::set<std::string> own_;  // keys of those that were measured
  std::size_t measured_ = 0, equal_ = 0, found_ = 0;
};

struct Point {
  std::string allocator, budget;
  std::string error;      ///< why there is no plan
  bool too_slow = false;  ///< the latency was missed, as simulated
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
  double bits = 0;                                           ///< per byte
  double increase = 0;                                       ///< above float
  std::optional<double> above_optimal;                       ///< at the same budget
  std::optional<double> error, increase_error, above_error;  ///< their standard errors, the latter two paired
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

constexpr const char* kFirstLine = "# moesaic pareto 1\n";
constexpr std::array<const char*, 3> kParts{"plans", "pareto.svg", "pareto.csv"};  ///< that a sweep replaces

/// Of the plan's file.
std::string plan_name(const std::string& budget, const std::string& allocator) {
  std::string name = budget + "-" + allocator + ".yaml";
  for (std::size_t at = name.find('/'); at != std::string::npos; at = name.find('/')) name.replace(at, 1, "-per-");
  return name;
}

/// Of the plans that a table speaks of; nothing of a file that is no sweep's table.
std::set<std::string> plan_names(const fs::path& table) {
  std::error_code error;
  if (!fs::is_regular_file(table, error)) return {};
  std::istringstream text(base::read_file(table.string()));
  std::set<std::string> names;
  std::string line, budget, allocator;
  if (!std::getline(text, line) || line + "\n" != kFirstLine) return {};
  while (std::getline(text, line)) {
    std::istringstream row(line);
    if (line[0] != '#' && std::getline(row, budget, ',') && std::getline(row, allocator, ','))
      names.insert(plan_name(budget, allocator));
  }
  return names;
}

/// Refuses a folder that holds anything but what a sweep wrote: its table, the plans that the table speaks of, its
/// picture, and evaluations, which may be there without the others.
void check_folder(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return;
  if (!fs::is_directory(path, error)) throw base::ConfigError(path, "--out", "a file", kFolder);
  const auto foreign = [&path](const std::string& name) {
    return base::ConfigError(path, "--out", "a folder that holds " + name, kFolder);
  };
  const std::set<std::string> plans = plan_names(fs::path(path) / "pareto.csv");
  const auto each = [&](const fs::path& folder, const auto& visit) {
    fs::directory_iterator entry(folder, error);
    for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) visit(*entry);
    if (error) throw base::ConfigError(path, "--out", error.message(), "a folder that can be read");
  };
  each(path, [&](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(".old-", 0) == 0)
      throw base::ConfigError(path, "--out",
                              "a folder that holds " + name + ", where a sweep that was killed put an earlier one",
                              "it moved back or removed");
    std::error_code none;
    const bool is_file = entry.is_regular_file(none);
    if (is_file ? plans.empty() || (name != "pareto.csv" && name != "pareto.svg")
                : name != "plans" && name != "evaluations")
      throw foreign(name);
    if (is_file) return;
    if (!entry.is_directory(none)) throw foreign(name);
    each(entry.path(), [&](const fs::directory_entry& inner) {
      const std::string file = inner.path().filename().string();
      if (!inner.is_regular_file(none) ||
          (name == "plans" ? plans.count(file) == 0 : inner.path().extension() != ".txt"))
        throw foreign(name + "/" + file);
    });
  });
}

class Sweep {
 public:
  explicit Sweep(const ParetoCommand& command) : command_(command) {}

  void run() {
    MapCommand& map = command_.map;
    const std::vector<std::string> names = chosen_allocators(command_.allocators);
    const std::vector<Budgets> sweep = points_of(command_);
    if (command_.evaluate.empty() && (command_.windows > 0 || command_.window_given))
      throw base::ConfigError(kWhere, command_.windows > 0 ? "--windows" : "--window", "it without --evaluate",
                              "--evaluate beside it");
    if (map.seed_given && std::none_of(names.begin(), names.end(), [](const std::string& name) {
          return allocators().at(name, kWhere, "--allocators").takes_seed;
        }))
      throw base::ConfigError(kWhere, "--seed", std::to_string(map.seed), "none: no allocator of these draws");
    check_folder(command_.out);
    std::error_code error;
    fs::create_directories(command_.out, error);
    if (error || !fs::is_directory(command_.out))
      throw base::ConfigError(kWhere, "--out", "'" + command_.out + "'", "a folder, or the name of a new one");
    { const ScratchFolder probe(fs::path(command_.out) / (".probe-" + std::to_string(getpid())), command_.out); }

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
        throw base::ConfigError(map.workload, "model", in.workload->model + " (a shape without weights)",
                                "a folder with weights: plans are bound to a checkpoint");
      if (routing_.tokens.empty()) routing_ = workload_routing(*in.workload, in.group_size);
      if (!work)
        work = in.work ? in.work : std::make_shared<const run::RunInputs>(latency_inputs(*in.workload, in.group_size));
      if (!command_.evaluate.empty() && !evaluator) {
        evaluator = std::make_unique<Evaluator>(command_, *in.workload, in.quantiser);
        float_ = evaluator->windows(nullptr);
      }
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
          point.too_slow = true;
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
    refuse_without_plan();
    replace_files();
    print(evaluator.get());
  }

 private:
  /// Where no point has a plan the first one says why, as map would.
  void refuse_without_plan() const {
    if (std::any_of(points_.begin(), points_.end(), [](const Point& p) { return p.error.empty(); })) return;
    const Point& first = points_.front();
    const std::string text =
        first.error + (points_.size() == 1 ? "" : fmt::format("; none of {} points has a plan", points_.size()));
    if (first.too_slow) throw base::CheckError(text);
    throw base::InputError(text);
  }

  /// Puts this sweep's files where an earlier one's are, which stay if that fails.
  void replace_files() const {
    const base::SignalsWait signals_wait;
    const fs::path out = command_.out;
    const std::string mine = "-" + std::to_string(getpid());
    const ScratchFolder made(out / (".partial" + mine), command_.out);
    ScratchFolder old(out / (".old" + mine), command_.out);
    std::error_code error;
    fs::create_directory(made.path() / "plans", error);
    if (error) throw base::ConfigError(command_.out, "--out", error.message(), "a folder that can be written to");
    for (const Point& point : points_) {
      const std::string name = plan_name(point.budget, point.allocator);
      if (point.error.empty())
        base::write_file((made.path() / "plans" / name).string(),
                         workloads::plan_text(point.plan, (out / "plans" / name).string()));
    }
    base::write_file((made.path() / "pareto.csv").string(), csv());
    base::write_file((made.path() / "pareto.svg").string(), svg());
    move_parts(out, old.path(), error);
    if (!error) move_parts(made.path(), out, error);
    if (!error) return;
    std::error_code ignored, back;  // the first one is told
    for (const char* part : kParts)
      if (fs::exists(old.path() / part, ignored) || !fs::exists(made.path() / part, ignored))
        fs::remove_all(out / part, ignored);
    move_parts(old.path(), out, back);
    if (back) old.keep();
    throw base::ConfigError(command_.out, "--out",
                            error.message() + (back ? "; the earlier sweep is in " + old.path().string() : ""),
                            "a folder whose files can be replaced");
  }

  static void move_parts(const fs::path& from, const fs::path& to, std::error_code& error) {
    for (const char* part : kParts)
      if (std::error_code none; !error && fs::exists(from / part, none)) fs::rename(from / part, to / part, error);
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
    std::string text = fmt::format("{}# chip: {}\n# memory: {}\n# storage: {}\n", kFirstLine, chip_.hash,
                                   chip_.memory_name(), chip_.storage_name());
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
                          p.plan.memory_bytes,
                          p.plan.memory_budget_bytes ? std::to_string(*p.plan.memory_budget_bytes) : "",
                          static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale), p.cycles,
                          static_cast<double>(p.cycles) / static_cast<double>(routing_.scale));
      if (with) {
        const Evaluated e = evaluated(p);
        const auto field = [](const std::optional<double>& one) { return one ? fmt::format("{}", *one) : ""; };
        text += fmt::format(",{},{},{},{},{},{}", e.bits, field(e.error), e.increase, field(e.increase_error),
                            field(e.above_optimal), field(e.above_error));
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
            if (e.increase_error) one["increase_stderr"] = *e.increase_error;
            if (e.above_optimal) one["above_optimal"] = *e.above_optimal;
            if (e.above_error) one["above_optimal_stderr"] = *e.above_error;
          }
        } else {
          one["error"] = p.error;
        }
        j["points"].push_back(one);
      }
      if (evaluator != nullptr)
        j["evaluations"] = {
            {"measured", evaluator->measured()}, {"equal", evaluator->equal()}, {"found", evaluator->found()}};
      fmt::print("{}\n", base::dump_json(j, 2));
      return;
    }
    std::size_t wide = 10;
    for (const Point& p : points_) wide = std::max(wide, p.budget.size());
    fmt::print("{:<{}} {:<10} {:>12} {:>12} {:>15} {:>12}{}\n", "budget", wide, "allocator", "table loss", "bytes",
               "I/O bytes/token", "cycles/token",
               evaluator == nullptr ? "" : fmt::format(" {:>22} {:>22}", "above float", "above optimal"));
    for (const Point& p : points_) {
      if (!p.error.empty()) {
        fmt::print("{:<{}} {:<10} none: {}\n", p.budget, wide, p.allocator, p.error);
        continue;
      }
      std::string line =
          fmt::format("{:<{}} {:<10} {:>12.6g} {:>12} {:>15.0f} {:>12.1f}", p.budget, wide, p.allocator, p.plan.loss,
                      p.plan.memory_bytes, static_cast<double>(p.io_uses) / static_cast<double>(routing_.scale),
                      static_cast<double>(p.cycles) / static_cast<double>(routing_.scale));
      if (evaluator != nullptr) {
        const Evaluated e = evaluated(p);
        const auto beside = [](const std::string& value, const std::optional<double>& error) {
          return fmt::format(" {:>22}", error ? fmt::format("{} ± {:.6f}", value, *error) : value);
        };
        line += beside(fmt::format("{:.6f}", e.increase), e.increase_error);
        if (e.above_optimal) line += beside(fmt::format("{:+.6f}", *e.above_optimal), e.above_error);
      }
      fmt::print("{}\n", line);
    }
    fmt::print("pareto.csv, pareto.svg and plans in {}\n", command_.out);
    if (evaluator != nullptr)
      fmt::print("{} evaluated, the float model counted; {} equal to one of these; {} found in {}\n",
                 evaluator->measured(), evaluator->equal(), evaluator->found(), command_.out + "/evaluations");
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
  CLI::Option* window = command->add_option("--window", options->window, "Tokens of a window of --evaluate")
                            ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 24))
                            ->capture_default_str();
  command->add_option("--windows", options->windows, "Only the first N of them; 0 takes all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->capture_default_str();
  CLI::Option* seed = command->add_option("--seed", map.seed, "Of allocator random");
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
  command->callback([options, group, seed, window] {
    options->map.seed_given = seed->count() > 0;
    options->window_given = window->count() > 0;
    options->map.group_given = group->count() > 0;
    try {
      Sweep(*options).run();
    } catch (const base::InputError& error) {
      throw base::InputError(as_pareto(error.what()));
    }
  });
}

}  // namespace moesaic::cli
