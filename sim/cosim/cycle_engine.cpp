#include <systemc>

#include "sim/cosim/core_engine.h"
#include "sim/cycle/core/core.h"

namespace moesaic::cosim {

namespace {

constexpr int kHalfPeriod = 5;

/// The twin with a signal on each port.
class CycleEngine final : public CoreEngine {
 public:
  explicit CycleEngine(const program::CoreParams& params) : params_(params), core_("core", params) {
    core_.clk_i.bind(clk_);
    core_.rst_ni.bind(rst_n_);
#define MOESAIC_BIND(name, bits) core_.name.bind(name##_);
#define MOESAIC_BIND_DATA(name) core_.name.bind(name##_);
    MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_BIND)
    MOESAIC_CORE_DATA_INPUTS(MOESAIC_BIND_DATA)
    MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_BIND)
    MOESAIC_CORE_DATA_OUTPUTS(MOESAIC_BIND_DATA)
#undef MOESAIC_BIND
#undef MOESAIC_BIND_DATA
  }
  ~CycleEngine() override {
    if (waves_ != nullptr) sc_core::sc_close_vcd_trace_file(waves_);
  }

  std::string name() const override { return "twin"; }
  const program::CoreParams& params() const override { return params_; }
  void set_reset(bool active) override { rst_n_.write(!active); }

  void settle(const CoreInputs& in) override {
    clk_.write(false);
#define MOESAIC_WRITE(name, bits) write(name##_, in.name);
#define MOESAIC_WRITE_DATA(name) write_data(name##_, in.name);
    MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_WRITE)
    MOESAIC_CORE_DATA_INPUTS(MOESAIC_WRITE_DATA)
#undef MOESAIC_WRITE
#undef MOESAIC_WRITE_DATA
    sc_core::sc_start(kHalfPeriod, sc_core::SC_NS);
  }

  void rise() override {
    clk_.write(true);
    sc_core::sc_start(kHalfPeriod, sc_core::SC_NS);
  }

  const CoreOutputs& outputs() override {
#define MOESAIC_READ(name, bits) out_.name = static_cast<std::uint64_t>(name##_.read());
    MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_READ)
#undef MOESAIC_READ
    const cycle::Beat& data = out_w_data_o_.read();
    for (std::size_t i = 0; i < out_.out_w_data_o.size(); ++i) out_.out_w_data_o[i] = data.at_or_zero(i);
    return out_;
  }

  std::optional<ArrayEvents> array_events() const override {
    return ArrayEvents{core_.beat_fires(), core_.beat_fires() && core_.beat_is_last(), core_.sum_fires()};
  }

  std::string open_waves(const std::string& path) override {
    sc_core::sc_report_handler::set_actions(sc_core::SC_INFO, sc_core::SC_DO_NOTHING);
    waves_ = sc_core::sc_create_vcd_trace_file(path.c_str());
    waves_->set_time_unit(1, sc_core::SC_NS);
    sc_core::sc_trace(waves_, clk_, "clk_i");
    sc_core::sc_trace(waves_, rst_n_, "rst_ni");
#define MOESAIC_TRACE(name, bits) sc_core::sc_trace(waves_, name##_, #name);
    MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_TRACE)
    MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_TRACE)
#undef MOESAIC_TRACE
    return path + ".vcd";
  }

 private:
  template <unsigned Bits>
  using Scalar = std::conditional_t<Bits == 1, bool, std::uint64_t>;

  static void write(sc_core::sc_signal<bool>& signal, std::uint64_t value) { signal.write(value != 0); }
  static void write(sc_core::sc_signal<std::uint64_t>& signal, std::uint64_t value) { signal.write(value); }
  void write_data(sc_core::sc_signal<cycle::Beat>& signal, const DataWords& words) const {
    cycle::Beat beat(params_.axi_data_bits / 64);
    for (std::size_t i = 0; i < beat.size(); ++i) beat[i] = words[i];
    signal.write(beat);
  }

  program::CoreParams params_;
  sc_core::sc_signal<bool> clk_{"clk"}, rst_n_{"rst_n"};
#define MOESAIC_SIGNAL(name, bits) sc_core::sc_signal<Scalar<bits>> name##_{#name};
#define MOESAIC_DATA_SIGNAL(name) sc_core::sc_signal<cycle::Beat> name##_{#name};
  MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_SIGNAL)
  MOESAIC_CORE_DATA_INPUTS(MOESAIC_DATA_SIGNAL)
  MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_SIGNAL)
  MOESAIC_CORE_DATA_OUTPUTS(MOESAIC_DATA_SIGNAL)
#undef MOESAIC_SIGNAL
#undef MOESAIC_DATA_SIGNAL
  cycle::Core core_;
  CoreOutputs out_;
  sc_core::sc_trace_file* waves_ = nullptr;
};

}  // namespace

std::unique_ptr<CoreEngine> make_cycle_engine(const program::CoreParams& params) {
  return std::make_unique<CycleEngine>(params);
}

}  // namespace moesaic::cosim
