#pragma once
/// A Verilated build of moe_core as a CoreEngine. Include after <verilated.h> and the model's header.
#include <verilated.h>
#include <verilated_fst_c.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "sim/cosim/core_engine.h"

namespace moesaic::cosim {

template <class Model>
class RtlEngine final : public CoreEngine {
 public:
  explicit RtlEngine(const program::CoreParams& params)
      : params_(params), model_(std::make_unique<Model>(&context_, "core")) {}
  ~RtlEngine() override {
    if (waves_) waves_->close();
    model_->final();
  }

  std::string name() const override { return "rtl"; }
  const program::CoreParams& params() const override { return params_; }
  void set_reset(bool active) override { model_->rst_ni = !active; }

  void settle(const CoreInputs& in) override {
    model_->clk_i = 0;
#define MOESAIC_WRITE(name, bits) model_->name = static_cast<std::remove_reference_t<decltype(model_->name)>>(in.name);
#define MOESAIC_WRITE_DATA(name) put(model_->name, in.name);
    MOESAIC_CORE_SCALAR_INPUTS(MOESAIC_WRITE)
    MOESAIC_CORE_DATA_INPUTS(MOESAIC_WRITE_DATA)
#undef MOESAIC_WRITE
#undef MOESAIC_WRITE_DATA
    step();
  }

  void rise() override {
    model_->clk_i = 1;
    step();
  }

  const CoreOutputs& outputs() override {
#define MOESAIC_READ(name, bits) out_.name = model_->name;
#define MOESAIC_READ_DATA(name) take(model_->name, out_.name);
    MOESAIC_CORE_SCALAR_OUTPUTS(MOESAIC_READ)
    MOESAIC_CORE_DATA_OUTPUTS(MOESAIC_READ_DATA)
#undef MOESAIC_READ
#undef MOESAIC_READ_DATA
    return out_;
  }

  std::string open_waves(const std::string& path) override {
    if constexpr (has_waves<Model>(0)) {
      context_.traceEverOn(true);
      waves_ = std::make_unique<VerilatedFstC>();
      model_->trace(waves_.get(), 99);
      waves_->open(path.c_str());
      return path;
    } else {
      throw base::InputError("--waves: got an RTL build without waves, expected one configured with MOESAIC_WAVES=ON");
    }
  }

 private:
  template <class M>
  static constexpr auto has_waves(int)
      -> decltype(std::declval<M&>().trace(static_cast<VerilatedFstC*>(nullptr), 0), true) {
    return true;
  }
  template <class M>
  static constexpr bool has_waves(long) {
    return false;
  }
  static void put(QData& port, const DataWords& words) { port = words[0]; }
  template <std::size_t N>
  static void put(VlWide<N>& port, const DataWords& words) {
    for (std::size_t i = 0; i < N; ++i) port[i] = static_cast<EData>(words[i / 2] >> (32 * (i % 2)));
  }
  static void take(const QData& port, DataWords& words) { words[0] = port; }
  template <std::size_t N>
  static void take(const VlWide<N>& port, DataWords& words) {
    for (std::size_t i = 0; i < N; i += 2) words[i / 2] = port[i] | std::uint64_t{port[i + 1]} << 32;
  }

  void step() {
    model_->eval();
    if (waves_) waves_->dump(time_);
    time_ += 5;
  }

  program::CoreParams params_;
  VerilatedContext context_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<VerilatedFstC> waves_;
  std::uint64_t time_ = 0;
  CoreOutputs out_;
};

}  // namespace moesaic::cosim
