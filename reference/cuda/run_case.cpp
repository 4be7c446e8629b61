#include "reference/cuda/run_case.h"

#include <algorithm>
#include <utility>

#include "reference/cuda/availability.h"
#include "reference/cuda/combine.h"
#include "reference/cuda/device_buffer.h"
#include "reference/cuda/mpgemm.h"
#include "reference/cuda/partial_sums.h"
#include "reference/cuda/requantise.h"
#include "reference/cuda/swiglu.h"

namespace moesaic::cuda {
namespace {

using numerics::Activations;
using numerics::WeightMatrix;

std::size_t count(std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); }

std::vector<std::int16_t> offsets(const WeightMatrix& w) {
  std::vector<std::int16_t> z;
  z.reserve(count(w.n, w.groups()));
  for (std::int64_t row = 0; row < w.n; ++row)
    for (std::int64_t g = 0; g < w.groups(); ++g) z.push_back(static_cast<std::int16_t>(w.offset(row, g)));
  return z;
}

// The multipliers of the bundles that are read, one bundle after the other.
std::vector<std::uint16_t> multipliers(const WeightMatrix& w) {
  std::vector<std::uint16_t> s = w.group_multiplier;
  const auto levels = w.level_multiplier.begin();
  s.insert(s.end(), levels, levels + w.format.levels() * w.n * w.groups());
  return s;
}

/// A weight matrix on the device.
class DeviceWeights {
 public:
  DeviceWeights(const Stream& stream, const WeightMatrix& w)
      : bounds_(weight_bounds(w)),
        codes_(stream, w.codes),
        z_(stream, offsets(w)),
        s_(stream, multipliers(w)),
        mu_(stream, w.requant_multiplier),
        sigma_(stream, w.requant_shift) {
    shape_.n = w.n;
    shape_.k = w.k;
    shape_.group_size = w.group_size;
    shape_.cut = w.format.base_cut();
    shape_.up = w.format.up();
    shape_.levels = w.format.levels();
  }

  void multiply(const Stream& stream, std::int64_t m, int act_bits, MatmulClass matmul_class,
                const DeviceBuffer<std::int16_t>& x, DeviceBuffer<std::int64_t>& acc) const {
    MatmulShape shape = shape_;
    shape.m = m;
    const std::int64_t groups_per_widening =
        matmul_class == MatmulClass::kChecked ? check_partial_sums(bounds_, act_bits) : 0;
    if (groups_per_widening == 0)
      return require(
          matmul_s16_u8_s64(shape, x.data(), codes_.data(), z_.data(), s_.data(), acc.data(), stream.handle()));
    DeviceBuffer<std::int8_t> narrow(stream, count(m, shape.k));
    require(narrow_s16_s8(m * shape.k, x.data(), narrow.data(), stream.handle()));
    require(matmul_s8_u8_s64_partial_s32(shape, groups_per_widening, narrow.data(), codes_.data(), z_.data(), s_.data(),
                                         acc.data(), stream.handle()));
  }

  void requantise(const Stream& stream, std::int64_t m, int out_bits, const DeviceBuffer<std::int64_t>& acc,
                  const DeviceBuffer<std::int32_t>& shift, DeviceBuffer<std::int16_t>& y) const {
    require(requantise_s64_s16(m, shape_.n, out_bits, acc.data(), mu_.data(), sigma_.data(), shift.data(), y.data(),
                               stream.handle()));
  }

 private:
  WeightBounds bounds_;
  MatmulShape shape_;
  DeviceBuffer<std::uint8_t> codes_;
  DeviceBuffer<std::int16_t> z_;
  DeviceBuffer<std::uint16_t> s_;
  DeviceBuffer<std::uint16_t> mu_;
  DeviceBuffer<std::uint8_t> sigma_;
};

std::vector<std::int32_t> shifts(const Activations& x) {
  std::vector<std::int32_t> e;
  for (std::int64_t token = 0; token < x.m; ++token) e.push_back(x.shift(token));
  return e;
}

std::vector<std::int32_t> negated(std::vector<std::int32_t> values) {
  for (std::int32_t& value : values) value = -value;
  return values;
}

numerics::MpgemmResult run(const numerics::MpgemmCase& c, MatmulClass matmul_class) {
  const Stream stream;
  const DeviceWeights w(stream, c.w);
  const DeviceBuffer<std::int16_t> x(stream, c.x.values);
  const DeviceBuffer<std::int32_t> shift(stream, shifts(c.x));
  DeviceBuffer<std::int64_t> acc(stream, count(c.x.m, c.w.n));
  DeviceBuffer<std::int16_t> y(stream, count(c.x.m, c.w.n));
  w.multiply(stream, c.x.m, c.x.act_bits, matmul_class, x, acc);
  w.requantise(stream, c.x.m, c.out_bits, acc, shift, y);
  return {acc.read(), y.read()};
}

numerics::CombineResult run(const numerics::CombineCase& c) {
  const Stream stream;
  const DeviceBuffer<std::int16_t> down(stream, c.down);
  const DeviceBuffer<std::uint16_t> r(stream, c.r);
  DeviceBuffer<std::int16_t> y(stream, count(c.m, c.hidden));
  require(combine_s16_u16_s16({c.experts, c.m, c.hidden}, down.data(), r.data(), y.data(), stream.handle()));
  return {y.read()};
}

}  // namespace

struct DeviceExpert::Impl {
  Impl(const numerics::ExpertWeights& w, MatmulClass wanted)
      : host_down(w.down),
        sigma_h(w.sigma_h),
        hidden(w.hidden()),
        intermediate(w.intermediate()),
        matmul_class(wanted),
        gate(stream, w.gate),
        up(stream, w.up),
        down(stream, w.down) {
    host_down.codes.clear();  // only its shifts are asked for again
    stream.wait();            // run() uses streams of its own
  }
  Stream stream;
  WeightMatrix host_down;
  int sigma_h;
  std::int64_t hidden, intermediate;
  MatmulClass matmul_class;
  DeviceWeights gate, up, down;
};

DeviceExpert::DeviceExpert(const numerics::ExpertWeights& weights, MatmulClass matmul_class) {
  require_available("expert");
  impl_ = std::make_unique<Impl>(weights, matmul_class);
}
DeviceExpert::~DeviceExpert() = default;
DeviceExpert::DeviceExpert(DeviceExpert&&) noexcept = default;
DeviceExpert& DeviceExpert::operator=(DeviceExpert&&) noexcept = default;

numerics::ExpertResult DeviceExpert::run(const Activations& x, const std::string& where) const {
  const Impl& expert = *impl_;
  const std::int64_t m = x.m;
  const std::size_t inner = count(m, expert.intermediate), outer = count(m, expert.hidden);
  const Stream stream;
  const DeviceBuffer<std::int16_t> input(stream, x.values);
  const DeviceBuffer<std::int32_t> shift(stream, shifts(x));
  DeviceBuffer<std::int64_t> acc(stream, std::max(inner, outer));
  DeviceBuffer<std::int16_t> g(stream, inner), u(stream, inner), h(stream, inner), shifted(stream, inner),
      y(stream, outer);
  DeviceBuffer<std::int32_t> eh(stream, static_cast<std::size_t>(m));

  expert.gate.multiply(stream, m, x.act_bits, expert.matmul_class, input, acc);
  expert.gate.requantise(stream, m, 16, acc, shift, g);
  expert.up.multiply(stream, m, x.act_bits, expert.matmul_class, input, acc);
  expert.up.requantise(stream, m, 16, acc, shift, u);
  require(swiglu_s16_s16_s16(m * expert.intermediate, expert.sigma_h, g.data(), u.data(), h.data(), stream.handle()));
  require(shift_rows_s16_s16(m, expert.intermediate, x.act_bits, h.data(), eh.data(), shifted.data(), stream.handle()));

  numerics::ExpertResult result;
  const std::vector<std::int32_t> hidden_shifts = eh.read();
  for (const std::int32_t e : hidden_shifts) result.eh.push_back(static_cast<std::uint8_t>(e));
  numerics::validate_hidden_shifts(expert.host_down, result.eh, where);
  const DeviceBuffer<std::int32_t> down_shift(stream, negated(hidden_shifts));
  expert.down.multiply(stream, m, x.act_bits, expert.matmul_class, shifted, acc);
  expert.down.requantise(stream, m, 16, acc, down_shift, y);
  result.h = h.read();
  result.y = y.read();
  return result;
}

numerics::KernelResult run_case(const numerics::KernelCase& kernel_case, const std::string& where,
                                MatmulClass matmul_class) {
  require_available(where);
  if (const auto* c = std::get_if<numerics::MpgemmCase>(&kernel_case)) return run(*c, matmul_class);
  if (const auto* c = std::get_if<numerics::CombineCase>(&kernel_case)) return run(*c);
  const auto& c = std::get<numerics::ExpertCase>(kernel_case);
  return DeviceExpert(c.w, matmul_class).run(c.x, where);
}

}  // namespace moesaic::cuda
