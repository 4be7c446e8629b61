#include "sim/cosim/lockstep.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

namespace moesaic::cosim {
namespace {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

[[noreturn]] void refuse(const std::string& name, const std::string& got, const std::string& expected) {
  throw std::invalid_argument(name + ": got " + got + ", expected " + expected);
}

/// Decimal digits and nothing else.
std::uint64_t number(const std::string& name, const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) refuse(name, text, "a number");
  return value;
}

/// One argument of a shell that has Catch2 run exactly this test case: its list of names ends a name at a comma, and
/// takes brackets for tags.
std::string test_argument(const std::string& title) {
  std::string argument = "'";
  for (const char c : title) {
    if (c == ',' || c == '[' || c == ']' || c == '\\' || c == '"' || c == '~') argument += '\\';
    argument += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return argument + "'";
}

std::string program_path() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "<program>";
}

std::string read_all(std::FILE* file) {
  std::string text;
  std::rewind(file);
  std::array<char, 4096> chunk{};
  for (std::size_t n; (n = std::fread(chunk.data(), 1, chunk.size(), file)) > 0;) text.append(chunk.data(), n);
  return text;
}

}  // namespace

Options Options::from_environment(std::string title, std::uint64_t seed, std::uint64_t cycles) {
  Options options;
  options.title = std::move(title);
  const char* text = environment("LOCKSTEP_SEED");
  options.seed = text != nullptr ? number("LOCKSTEP_SEED", text) : seed;
  text = environment("LOCKSTEP_CYCLES");
  options.cycles = text != nullptr ? number("LOCKSTEP_CYCLES", text) : cycles;
  text = environment("LOCKSTEP_WAVES");
  if (text != nullptr) options.waves = text;
  text = environment("LOCKSTEP_INJECT");
  if (text != nullptr) {
    const std::string spec = text;
    const std::size_t colon = spec.find(':');
    const std::size_t at = spec.find('@');
    if (colon == std::string::npos || at == std::string::npos || at < colon)
      refuse("LOCKSTEP_INJECT", spec, "port:bit@cycle");
    const std::uint64_t bit = number("LOCKSTEP_INJECT", spec.substr(colon + 1, at - colon - 1));
    constexpr std::uint64_t kBits = 32 * PortBits::kWords;
    options.injection = {spec.substr(0, colon), static_cast<unsigned>(std::min(bit, kBits)),
                         number("LOCKSTEP_INJECT", spec.substr(at + 1))};
  }
  return options;
}

void PortBits::put(unsigned at, std::uint64_t value, unsigned bits) {
  if (bits < 64) value &= (std::uint64_t{1} << bits) - 1;
  const unsigned offset = at % 32;
  std::size_t index = at / 32;
  word[index] |= static_cast<std::uint32_t>(value << offset);
  for (unsigned done = 32 - offset; done < bits; done += 32) {
    word[++index] |= static_cast<std::uint32_t>(value >> done);
  }
}

std::string PortBits::hex() const {
  std::string text;
  for (unsigned digit = (width + 3) / 4; digit-- > 0;) {
    const std::uint32_t nibble = (word[digit / 8] >> (digit % 8 * 4)) & 0xf;
    text += "0123456789abcdef"[nibble];
  }
  return text;
}

bool operator==(const PortBits& a, const PortBits& b) {
  return a.width == b.width && !a.overflow && !b.overflow &&
         std::memcmp(a.word.data(), b.word.data(), ((a.width + 31) / 32) * 4) == 0;
}

bool Pace::go() {
  if (left_ == 0) {
    left_ = rng_.below(96) + 8;
    constexpr std::array<std::uint64_t, 6> kRates = {16, 16, 12, 8, 2, 1};  // of 16
    numerator_ = kRates[rng_.below(kRates.size())];
  }
  --left_;
  return rng_.chance(numerator_, 16);
}

Lockstep::Lockstep(Options options, RtlModel& rtl) : options_(std::move(options)), rtl_(rtl) {}
Lockstep::~Lockstep() = default;

base::Rng Lockstep::rng(const char* purpose) const { return base::Rng(options_.seed).stream(purpose); }

void Lockstep::fail(const std::string& why) {
  if (!report_.message.empty()) return;
  report_.differences = 1;
  report_.message = "cycle " + std::to_string(report_.cycles) + ": " + why + "\n" + replay();
  stop_ = true;
}

std::string Lockstep::replay() const {
  std::string injection;
  if (!options_.injection.port.empty()) {
    injection = "LOCKSTEP_INJECT=" + options_.injection.port + ":" + std::to_string(options_.injection.bit) + "@" +
                std::to_string(options_.injection.cycle) + " ";
  }
  return "replay with waves: " + injection + "LOCKSTEP_SEED=" + std::to_string(options_.seed) +
         " LOCKSTEP_CYCLES=" + std::to_string(options_.cycles) + " LOCKSTEP_WAVES=lockstep.fst " + program_path() +
         " --abort " + test_argument(options_.title);
}

void Lockstep::compare() {
  PortBits twin;
  PortBits rtl;
  for (const Compared& port : compared_) {
    port.twin(twin);
    port.rtl(rtl);
    if (!injected_ && port.name == options_.injection.port && report_.cycles >= options_.injection.cycle) {
      injected_ = true;
      rtl.word[options_.injection.bit / 32] ^= std::uint32_t{1} << (options_.injection.bit % 32);
    }
    ++report_.port_values_compared;
    if (!(twin == rtl)) {
      fail("port " + port.name + " [" + std::to_string(port.width) + " bits]: twin " + twin.hex() +
           (twin.overflow ? " (does not fit)" : "") + ", rtl " + rtl.hex());
      return;
    }
  }
}

void Lockstep::cycle_once(bool in_reset) {
  // Falling half: the stimuli are on the ports, let them settle up to the rising edge.
  drive_clock_(false);
  clk_.write(false);
  rtl_.eval();
  rtl_.dump(time_);
  time_ += 5;
  sc_core::sc_start(5, sc_core::SC_NS);
  compare();
  if (!in_reset && !stop_) {
    for (const auto& f : sample_) f(report_.cycles);
  }
  // Rising half.
  drive_clock_(true);
  clk_.write(true);
  rtl_.eval();
  rtl_.dump(time_);
  time_ += 5;
  sc_core::sc_start(5, sc_core::SC_NS);
}

Report Lockstep::run() {
  if (!options_.waves.empty()) rtl_.open_waves(options_.waves);
  if (!options_.injection.port.empty()) {
    std::string ports;
    const Compared* known = nullptr;
    for (const Compared& port : compared_) {
      ports += (ports.empty() ? "" : ", ") + port.name;
      if (port.name == options_.injection.port) known = &port;
    }
    if (known == nullptr) refuse("injection", options_.injection.port, "one of " + ports);
    if (options_.injection.bit >= known->width)
      refuse("injection", "bit " + std::to_string(options_.injection.bit) + " of " + known->name,
             "one below " + std::to_string(known->width));
  }
  const std::uint64_t mid =
      options_.mid_reset ? options_.cycles / 2 + rng("mid_reset").below(options_.cycles / 8 + 1) : options_.cycles;
  bool reset_now = true;
  std::uint64_t reset_left = 0;
  while (!stop_ && report_.cycles < options_.cycles) {
    if (reset_now) {
      reset_now = false;
      reset_left = 3;
      rst_.write(false);
      drive_reset_(false);
      for (const auto& f : reset_) f();
    }
    if (reset_left > 0) {
      --reset_left;
      cycle_once(true);
      continue;
    }
    rst_.write(true);
    drive_reset_(true);
    for (const auto& f : falling_) f(report_.cycles);
    cycle_once(false);
    ++report_.cycles;
    reset_now = report_.cycles == mid;
  }
  if (!options_.injection.port.empty() && !injected_)
    fail("the run ended before the injection in cycle " + std::to_string(options_.injection.cycle));
  return report_;
}

Source::Source(Lockstep& bench, const char* name, In<bool>& valid, Out<bool>& ready, std::function<bool()> next,
               std::function<void()> clear, std::function<void()> on_transfer)
    : pace_(bench.rng(name)) {
  bench.on_reset([this, &valid, clear] {
    pending_ = false;
    valid.write(false);
    clear();
  });
  bench.on_falling([this, &valid, next, clear](std::uint64_t) {
    if (pending_) return;
    pending_ = pace_.go() && next();
    valid.write(pending_);
    if (!pending_) clear();
  });
  bench.on_sample([this, &bench, &ready, on_transfer](std::uint64_t) {
    if (!pending_ || !ready.read()) return;
    pending_ = false;
    bench.count_transfer();
    if (on_transfer) on_transfer();
  });
}

Sink::Sink(Lockstep& bench, const char* name, In<bool>& ready, Out<bool>& valid, std::function<void()> on_transfer)
    : pace_(bench.rng(name)) {
  bench.on_reset([&ready] { ready.write(false); });
  bench.on_falling([this, &ready](std::uint64_t) { ready.write(pace_.go()); });
  bench.on_sample([&bench, &ready, &valid, on_transfer](std::uint64_t) {
    if (!ready.value() || !valid.read()) return;
    bench.count_transfer();
    if (on_transfer) on_transfer();
  });
}

Report run_forked(const std::function<Report()>& body) {
  std::FILE* result = std::tmpfile();
  std::FILE* output = std::tmpfile();
  if (result == nullptr || output == nullptr) throw std::runtime_error("run_forked: no temporary file");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("run_forked: fork failed");
  if (child == 0) {
    dup2(fileno(output), STDOUT_FILENO);
    dup2(fileno(output), STDERR_FILENO);
    Report report;
    try {
      report = body();
    } catch (const std::exception& error) {
      report.message = std::string("exception: ") + error.what();
    }
    std::fprintf(result, "%llu %llu %llu %llu\n%s", static_cast<unsigned long long>(report.cycles),
                 static_cast<unsigned long long>(report.port_values_compared),
                 static_cast<unsigned long long>(report.differences), static_cast<unsigned long long>(report.transfers),
                 report.message.c_str());
    std::fflush(nullptr);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const std::string text = read_all(result);
  const std::string log = read_all(output);
  std::fclose(result);
  std::fclose(output);
  Report report;
  unsigned long long cycles = 0;
  unsigned long long compared = 0;
  unsigned long long differences = 0;
  unsigned long long transfers = 0;
  const std::size_t line = text.find('\n');
  if (line == std::string::npos ||
      std::sscanf(text.c_str(), "%llu %llu %llu %llu", &cycles, &compared, &differences, &transfers) != 4) {
    report.message = "the run died (wait status " + std::to_string(status) + "): " + log;
    return report;
  }
  report.cycles = cycles;
  report.port_values_compared = compared;
  report.differences = differences;
  report.transfers = transfers;
  report.message = text.substr(line + 1);
  if (!report.ok()) report.message += "\n" + log;
  return report;
}

}  // namespace moesaic::cosim
