#pragma once
/// Something that behaves as one core, clocked from outside: the SystemC twin, a Verilated build, or the fast engine's
/// control.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/cosim/core_ports.h"
#include "sim/program/core_params.h"

namespace moesaic::cosim {

/// One cycle is settle() (falling edge: inputs change, everything combinational settles, outputs() may be compared) and
/// rise() (rising edge, settles again). Reset by set_reset(true), some cycles, set_reset(false) before a settle().
class CoreEngine {
 public:
  virtual ~CoreEngine() = default;
  /// What messages call it.
  virtual std::string name() const = 0;
  /// Whether the data ports carry data; those of an engine without it are not compared.
  virtual bool has_data() const { return true; }
  virtual const program::CoreParams& params() const = 0;
  virtual void set_reset(bool active) = 0;
  virtual void settle(const CoreInputs& inputs) = 0;
  virtual void rise() = 0;
  virtual const CoreOutputs& outputs() = 0;
  /// After settle(): what crosses the array's ports at the next edge. Nothing from an engine that does not show it.
  struct ArrayEvents {
    bool beat = false;       ///< a beat is taken
    bool beat_last = false;  ///< and is its tile's last
    bool sum = false;        ///< the sums of a beat are taken
  };
  virtual std::optional<ArrayEvents> array_events() const { return std::nullopt; }
  /// Records waves into `path`; once, before the first settle(). Returns the file really written.
  virtual std::string open_waves(const std::string& path) = 0;
};

/// The twin, any parameters. SystemC elaborates once per process, so only one of these can ever be made and run.
std::unique_ptr<CoreEngine> make_cycle_engine(const program::CoreParams& params);

/// The control of the fast engine behind the same ports, without data. Any parameters, as many as you like.
std::unique_ptr<CoreEngine> make_fast_engine(const program::CoreParams& params);

/// One array of rtl/builds.yaml.
struct Build {
  std::string name;
  program::CoreParams params;
  std::unique_ptr<CoreEngine> (*make)(const program::CoreParams&);
};

}  // namespace moesaic::cosim
