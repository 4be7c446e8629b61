#pragma once

/// \file
/// Lock step: a SystemC twin and a Verilated module driven with the same stimuli, every output port compared in every
/// cycle.
///
/// Time: a period is 10 ns; rising edges at 10k ns, stimulus changes at falling edges only (10k+5), outputs are
/// compared just before each rising edge, after all deltas have settled. Reset is released after three cycles, and when
/// Options::mid_reset is set pulled again once in the middle of the run. Random stalls: Source drives a valid/ready
/// channel as its producer, Sink as its consumer; both change their pace as they go. The first difference ends the run
/// and is reported with cycle, port, both values and a command that replays it with waves. SystemC elaborates once per
/// process: run_forked() gives every case its own.

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <systemc>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "sim/cycle/common/lanes.h"

using sc_core::sc_time_stamp;  // verilated.h calls it unqualified when it finds SystemC

#include "verilated.h"
#include "verilated_fst_c.h"

namespace moesaic::cosim {

/// Flips one bit of one RTL output in one cycle, as the harness reads it: shows that the comparison can fail.
struct Injection {
  std::string port;  // empty: none
  unsigned bit = 0;
  std::uint64_t cycle = 0;  // the first comparison at or after this cycle
};

struct Options {
  std::string title;  // of the test case; part of the replay command
  std::uint64_t seed = 1;
  std::uint64_t cycles = 10000;
  bool mid_reset = true;
  std::string waves;  // FST file to write; empty: none
  Injection injection;
  /// Seed, cycles, waves and injection from LOCKSTEP_SEED, LOCKSTEP_CYCLES, LOCKSTEP_WAVES,
  /// LOCKSTEP_INJECT=port:bit@cycle where set, else the defaults given.
  static Options from_environment(std::string title, std::uint64_t seed, std::uint64_t cycles);
};

struct Report {
  std::uint64_t cycles = 0;
  std::uint64_t port_values_compared = 0;
  std::uint64_t differences = 0;
  std::uint64_t transfers = 0;  // on all channels driven by Source and Sink
  std::string message;          // the first difference, or why the run could not end
  bool ok() const { return differences == 0 && message.empty(); }
};

/// A port's value as a vector of bits, in 32-bit words, least significant first.
struct PortBits {
  static constexpr std::size_t kWords = 128;
  std::array<std::uint32_t, kWords> word;
  unsigned width = 0;
  bool overflow = false;  // the twin's value does not fit the port
  void reset(unsigned bits) {
    width = bits;
    overflow = false;
    std::memset(word.data(), 0, ((bits + 31) / 32) * 4);
  }
  void put(unsigned at, std::uint64_t value, unsigned bits);
  std::string hex() const;
};
bool operator==(const PortBits& a, const PortBits& b);

namespace detail {

template <class T>
struct IsLanes : std::false_type {};
template <class T, std::size_t N>
struct IsLanes<cycle::Lanes<T, N>> : std::true_type {};
/// A record with pack(), which gives its 32-bit words (program::Command).
template <class T, class = void>
struct HasPack : std::false_type {};
template <class T>
struct HasPack<T, std::void_t<decltype(std::declval<const T&>().pack())>> : std::true_type {};

/// Whether the low `bits` of v hold it, sign or zero extended according to its type.
template <class T>
bool fits_port(T v, unsigned bits) {
  if constexpr (std::is_same_v<T, bool>) {
    return true;
  } else if (bits >= 64) {
    return true;
  } else if constexpr (std::is_signed_v<T>) {
    const std::int64_t top = static_cast<std::int64_t>(v) >> (bits - 1);
    return top == 0 || top == -1;
  } else {
    return (static_cast<std::uint64_t>(v) >> bits) == 0;
  }
}

/// `bits` is the width of a scalar, or of one lane; `total` the width of the port.
template <class T>
void pack(const T& value, unsigned bits, unsigned total, PortBits& out) {
  out.reset(total);
  if constexpr (IsLanes<T>::value) {
    unsigned at = 0;
    for (const auto lane : value) {
      if (at + bits > total) {
        out.overflow |= lane != 0;
        continue;
      }
      out.overflow |= !fits_port(lane, bits);
      out.put(at, static_cast<std::uint64_t>(lane), bits);
      at += bits;
    }
  } else if constexpr (HasPack<T>::value) {
    unsigned at = 0;
    for (const std::uint32_t word : value.pack()) {
      out.put(at, word, 32);
      at += 32;
    }
  } else {
    out.overflow = !fits_port(value, bits);
    out.put(0, static_cast<std::uint64_t>(value), bits);
  }
}

template <class R>
void read_rtl(const R& port, PortBits& out, unsigned total) {
  out.reset(total);
  if constexpr (std::is_integral_v<R>) {
    out.put(0, static_cast<std::uint64_t>(port), total);
  } else {
    for (unsigned at = 0; at < total; at += 32) out.put(at, port.data()[at / 32], total - at < 32 ? total - at : 32);
  }
}

template <class R>
void write_rtl(const PortBits& value, R& port) {
  if constexpr (std::is_integral_v<R>) {
    std::uint64_t v = value.word[0];
    if (value.width > 32) v |= static_cast<std::uint64_t>(value.word[1]) << 32;
    port = static_cast<R>(v);
  } else {
    for (unsigned at = 0; at < value.width; at += 32) port.data()[at / 32] = value.word[at / 32];
  }
}

}  // namespace detail

/// The Verilated module behind its C++ class.
class RtlModel {
 public:
  virtual ~RtlModel() = default;
  virtual void eval() = 0;
  virtual void open_waves(const std::string& path) = 0;
  virtual void dump(std::uint64_t time) = 0;
};

/// Owns one Verilated model of class V and its context.
template <class V>
class Verilated final : public RtlModel {
 public:
  Verilated() : top_(std::make_unique<V>(&context_)) { context_.traceEverOn(true); }
  ~Verilated() override {
    if (waves_) waves_->close();
    top_->final();
  }
  V* operator->() { return top_.get(); }
  V& operator*() { return *top_; }
  void eval() override { top_->eval(); }
  void open_waves(const std::string& path) override {
    if constexpr (kTraced<V>(0)) {
      waves_ = std::make_unique<VerilatedFstC>();
      top_->trace(waves_.get(), 99);
      waves_->open(path.c_str());
    } else {
      throw std::runtime_error("this model was verilated without WAVES");
    }
  }
  void dump(std::uint64_t time) override {
    context_.time(time);
    if (waves_) waves_->dump(time);
  }

 private:
  template <class M>
  static constexpr auto kTraced(int) -> decltype(std::declval<M&>().trace(std::declval<VerilatedFstC*>(), 99), bool()) {
    return true;
  }
  template <class M>
  static constexpr bool kTraced(long) {
    return false;
  }
  VerilatedContext context_;
  std::unique_ptr<V> top_;
  std::unique_ptr<VerilatedFstC> waves_;
};

/// An input of both, written together.
template <class T>
class In {
 public:
  using Poke = std::function<void(const PortBits&)>;
  In(const std::string& name, unsigned bits, unsigned total, Poke poke)
      : signal_(name.c_str()), bits_(bits), total_(total), poke_(std::move(poke)) {}
  void write(const T& value) {
    value_ = value;
    signal_.write(value);
    detail::pack(value, bits_, total_, scratch_);
    if (scratch_.overflow) throw std::logic_error(std::string("stimulus does not fit port ") + signal_.name());
    poke_(scratch_);
  }
  const T& value() const { return value_; }
  sc_core::sc_signal<T>& signal() { return signal_; }

 private:
  sc_core::sc_signal<T> signal_;
  T value_{};
  unsigned bits_;
  unsigned total_;
  Poke poke_;
  PortBits scratch_;
};

/// An output of both; read() is the twin's value, proved equal to the RTL's in every cycle.
template <class T>
class Out {
 public:
  explicit Out(const std::string& name) : signal_(name.c_str()) {}
  const T& read() const { return signal_.read(); }
  sc_core::sc_signal<T>& signal() { return signal_; }

 private:
  sc_core::sc_signal<T> signal_;
};

/// When to move: bursts, trickles and full stops in turn, all from one seed.
class Pace {
 public:
  explicit Pace(base::Rng rng) : rng_(rng) {}
  bool go();

 private:
  base::Rng rng_;
  std::uint64_t left_ = 0;
  std::uint64_t numerator_ = 1;
};

class Lockstep {
 public:
  Lockstep(Options options, RtlModel& rtl);
  ~Lockstep();
  Lockstep(const Lockstep&) = delete;
  Lockstep& operator=(const Lockstep&) = delete;

  /// Binds the clock of a part that has no reset. (A part without a clock binds nothing.)
  template <class R>
  void clock(sc_core::sc_in<bool>& clk, R& rtl_clk) {
    clk(clk_);
    drive_clock_ = [&rtl_clk](bool v) { rtl_clk = v; };
  }
  /// Binds clock and reset.
  template <class R>
  void clock(sc_core::sc_in<bool>& clk, R& rtl_clk, sc_core::sc_in<bool>& rst, R& rtl_rst) {
    clk(clk_);
    rst(rst_);
    drive_clock_ = [&rtl_clk](bool v) { rtl_clk = v; };
    drive_reset_ = [&rtl_rst](bool v) { rtl_rst = v; };
  }

  /// Binds an input. `bits`: width of the port, or of one lane. `lanes`: how many (1 for a scalar).
  template <class T, class R>
  In<T>& in(const char* name, sc_core::sc_in<T>& twin, R& rtl, unsigned bits = 1, unsigned lanes = 1) {
    auto port = std::make_shared<In<T>>("lockstep_" + std::string(name), bits, bits * lanes,
                                        [&rtl](const PortBits& value) { detail::write_rtl(value, rtl); });
    twin(port->signal());
    owned_.push_back(port);
    return *port;
  }

  /// Binds an output and compares it in every cycle.
  template <class T, class R>
  Out<T>& out(const char* name, sc_core::sc_out<T>& twin, R& rtl, unsigned bits = 1, unsigned lanes = 1) {
    auto port = std::make_shared<Out<T>>("lockstep_" + std::string(name));
    twin(port->signal());
    owned_.push_back(port);
    Out<T>* raw = port.get();
    const unsigned total = bits * lanes;
    compared_.push_back({name, total, [raw, bits, total](PortBits& b) { detail::pack(raw->read(), bits, total, b); },
                         [&rtl, total](PortBits& b) { detail::read_rtl(rtl, b, total); }});
    return *port;
  }

  /// Called at every falling edge out of reset, in the order added: the place to write inputs. Cycle 0 is the first out
  /// of reset.
  void on_falling(std::function<void(std::uint64_t cycle)> f) { falling_.push_back(std::move(f)); }
  /// Called just before every rising edge out of reset, after the comparison: what is seen here is what the edge acts
  /// on.
  void on_sample(std::function<void(std::uint64_t cycle)> f) { sample_.push_back(std::move(f)); }
  /// Called when reset is asserted: forget what is under way and drive every input idle.
  void on_reset(std::function<void()> f) { reset_.push_back(std::move(f)); }

  /// An independent random stream of this run.
  base::Rng rng(const char* purpose) const;
  std::uint64_t cycle() const { return report_.cycles; }
  void count_transfer() { ++report_.transfers; }
  /// Ends the run with a failure (a check of the test's own, against numerics say).
  void fail(const std::string& why);
  /// Ends the run at the next falling edge, as a success.
  void stop() { stop_ = true; }

  /// Elaborates and runs. Call once.
  Report run();

 private:
  struct Compared {
    std::string name;
    unsigned width;
    std::function<void(PortBits&)> twin;
    std::function<void(PortBits&)> rtl;
  };
  void compare();
  void cycle_once(bool in_reset);
  std::string replay() const;

  Options options_;
  RtlModel& rtl_;
  sc_core::sc_signal<bool> clk_{"lockstep_clk"};
  sc_core::sc_signal<bool> rst_{"lockstep_rst"};
  std::function<void(bool)> drive_clock_ = [](bool) {};
  std::function<void(bool)> drive_reset_ = [](bool) {};
  std::vector<std::shared_ptr<void>> owned_;
  std::vector<Compared> compared_;
  std::vector<std::function<void(std::uint64_t)>> falling_;
  std::vector<std::function<void(std::uint64_t)>> sample_;
  std::vector<std::function<void()>> reset_;
  std::uint64_t time_ = 0;
  bool stop_ = false;
  bool injected_ = false;
  Report report_;
};

/// The producer of a valid/ready channel: valid stays until the transfer, payload stable, 0 while there is none.
class Source {
 public:
  /// `next` writes the next payload's ports and returns true, or returns false when there is none now; `clear` writes
  /// zeros.
  Source(Lockstep& bench, const char* name, In<bool>& valid, Out<bool>& ready, std::function<bool()> next,
         std::function<void()> clear, std::function<void()> on_transfer = {});

 private:
  bool pending_ = false;
  Pace pace_;
};

/// The consumer of a valid/ready channel.
class Sink {
 public:
  /// `on_transfer` is called just before the edge that transfers, with the payload still on the ports.
  Sink(Lockstep& bench, const char* name, In<bool>& ready, Out<bool>& valid, std::function<void()> on_transfer = {});

 private:
  Pace pace_;
};

/// Runs `body` in a child process and returns its report; an abort, an exception or an assertion of the RTL becomes the
/// message.
Report run_forked(const std::function<Report()>& body);

}  // namespace moesaic::cosim
