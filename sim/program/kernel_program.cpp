#include "sim/program/kernel_program.h"

#include "base/error.h"

namespace moesaic::program {

namespace {

using numerics::CombineCase;
using numerics::ExpertCase;
using numerics::MpgemmCase;

/// Rows of one tensor in memory.
struct Rows {
  std::uint64_t address = 0, stride = 0;
  std::uint64_t at(std::int64_t row) const { return address + stride * static_cast<std::uint64_t>(row); }
};

class Placer {
 public:
  Placer(MemoryImage& image, const KernelPlacement& placement)
      : image_(image), placement_(placement), rng_(placement.seed) {}

  Rows rows(const char* name, Kind kind, std::int64_t count, std::int64_t row_bytes) {
    const auto bytes = static_cast<std::uint64_t>(row_bytes);
    const std::uint64_t gap = placement_.scatter ? rng_.below(7) : 0;
    const auto skew = static_cast<unsigned>(placement_.scatter ? rng_.below(64) : 0);
    return {image_.allocate(name, kind, (bytes + gap) * static_cast<std::uint64_t>(count), skew), bytes + gap};
  }

 private:
  MemoryImage& image_;
  const KernelPlacement& placement_;
  base::Rng rng_;
};

void write_values(MemoryImage& image, std::uint64_t address, const std::int16_t* values, std::int64_t count,
                  int bytes) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<std::uint16_t>(values[i]);
    const std::uint8_t little[2] = {static_cast<std::uint8_t>(value), static_cast<std::uint8_t>(value >> 8)};
    image.write(address + static_cast<std::uint64_t>(i * bytes), little, static_cast<std::uint64_t>(bytes));
  }
}

std::int64_t read_value(const MemoryImage& image, std::uint64_t address, int bytes) {
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i)
    value |= std::uint64_t{image.read(address + static_cast<std::uint64_t>(i))} << (8 * i);
  const int unused = 64 - 8 * bytes;
  return static_cast<std::int64_t>(value << unused) >> unused;
}

template <class T>
void read_rows(const MemoryImage& image, std::uint64_t address, std::uint64_t stride, std::int64_t rows,
               std::int64_t cols, int bytes, std::vector<T>& to) {
  to.reserve(static_cast<std::size_t>(rows * cols));
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t n = 0; n < cols; ++n) {
      const std::uint64_t at = address + stride * static_cast<std::uint64_t>(m) + static_cast<std::uint64_t>(n * bytes);
      to.push_back(static_cast<T>(read_value(image, at, bytes)));
    }
  }
}

int elem_bytes(int bits) { return bits == 16 ? 2 : 1; }

Rows place_activations(Placer& placer, MemoryImage& image, const numerics::Activations& x, const CoreParams& params,
                       const std::string& where) {
  if (x.act_bits > static_cast<int>(params.max_act_bits)) {
    throw base::ConfigError(where, "act_bits", std::to_string(x.act_bits),
                            "at most " + std::to_string(params.max_act_bits) + ", this array's max_act_bits");
  }
  const int bytes = elem_bytes(x.act_bits);
  const Rows rows = placer.rows("x", Kind::kActivations, x.m, x.k * bytes);
  for (std::int64_t m = 0; m < x.m; ++m) write_values(image, rows.at(m), x.values.data() + m * x.k, x.k, bytes);
  return rows;
}

numerics::LayoutSpec spec_of(const CoreParams& params, const KernelPlacement& placement) {
  return {placement.layout, static_cast<int>(params.rows), static_cast<int>(params.cols)};
}

std::vector<TokenRow> token_rows(std::int64_t m, const Rows& in, const Rows& out, const Rows& aux,
                                 const numerics::Activations* x) {
  std::vector<TokenRow> rows(static_cast<std::size_t>(m));
  for (std::int64_t t = 0; t < m; ++t) {
    rows[static_cast<std::size_t>(t)] = {in.at(t), out.at(t), aux.at(t),
                                         x == nullptr ? 0 : static_cast<unsigned>(x->shift(t))};
  }
  return rows;
}

void append(const std::vector<Command>& commands, std::vector<Command>& to) {
  to.insert(to.end(), commands.begin(), commands.end());
}

void lower(const MpgemmCase& c, const CoreParams& params, const KernelPlacement& placement, const std::string& where,
           Loaded& loaded, KernelPlaces& to) {
  MemoryImage& image = loaded.image;
  Placer placer(image, placement);
  ProgramBuilder builder(params, image);
  const auto layout = std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
      c.w.format, numerics::product_shapes(c.w.n, c.w.k, c.w.group_size), spec_of(params, placement)));
  const WeightObject object = builder.place("w", layout, layout->pack({&c.w}));
  const Rows x = place_activations(placer, image, c.x, params, where);
  const Rows y = placer.rows("y", Kind::kOutputs, c.x.m, c.w.n * elem_bytes(c.out_bits));
  const Rows acc = placer.rows("acc", Kind::kOutputs, c.x.m, c.w.n * 8);
  ProductOptions options;
  options.act_bits = c.x.act_bits;
  options.out_bits = c.out_bits;
  options.write_acc = true;
  builder.product(object, token_rows(c.x.m, x, y, acc, &c.x), options);
  append(builder.take(), loaded.commands);
  to.weights = {object};
  to.first = acc.address;
  to.first_stride = acc.stride;
  to.second = y.address;
  to.second_stride = y.stride;
}

void lower(const ExpertCase& c, const CoreParams& params, const KernelPlacement& placement, const std::string& where,
           Loaded& loaded, KernelPlaces& to) {
  MemoryImage& image = loaded.image;
  Placer placer(image, placement);
  ProgramBuilder builder(params, image);
  const auto layout = std::make_shared<const numerics::ExpertLayout>(c.w.formats(), c.w.hidden(), c.w.intermediate(),
                                                                     c.w.gate.group_size, spec_of(params, placement));
  const ExpertObject object = builder.place("expert", layout, layout->pack(c.w));
  const Rows x = place_activations(placer, image, c.x, params, where);
  const Rows y = placer.rows("y", Kind::kOutputs, c.x.m, c.w.hidden() * 2);
  const Rows h = placer.rows("h", Kind::kOutputs, c.x.m, c.w.intermediate() * 2);
  ExpertOptions options;
  options.act_bits = c.x.act_bits;
  options.sigma_h = c.w.sigma_h;
  options.write_h = true;
  builder.expert(object, token_rows(c.x.m, x, y, h, &c.x), options);
  append(builder.take(), loaded.commands);
  for (std::size_t i = 0; i < layout->objects().size(); ++i) to.weights.push_back(object.object(i));
  to.first = h.address;
  to.first_stride = h.stride;
  to.second = y.address;
  to.second_stride = y.stride;
}

/// 65535 * 32768 * 65536 < 2^47: more experts could pass the accumulators.
constexpr std::int64_t kMaxCombined = 65536;

void lower(const CombineCase& c, const CoreParams& params, const KernelPlacement& placement, const std::string& where,
           Loaded& loaded, KernelPlaces& to) {
  if (c.experts > kMaxCombined)
    throw base::ConfigError(where, "experts", std::to_string(c.experts),
                            "at most " + std::to_string(kMaxCombined) + ", the sums that 48 bits hold");
  MemoryImage& image = loaded.image;
  Placer placer(image, placement);
  ProgramBuilder builder(params, image);
  const Rows down = placer.rows("down", Kind::kActivations, c.experts * c.m, c.hidden * 2);
  for (std::int64_t row = 0; row < c.experts * c.m; ++row) {
    write_values(image, down.at(row), c.down.data() + row * c.hidden, c.hidden, 2);
  }
  const Rows r = placer.rows("r", Kind::kRouting, 1, c.m * c.experts * 2);
  for (std::size_t i = 0; i < c.r.size(); ++i) {
    const std::uint8_t little[2] = {static_cast<std::uint8_t>(c.r[i]), static_cast<std::uint8_t>(c.r[i] >> 8)};
    image.write(r.address + 2 * i, little, 2);
  }
  const Rows y = placer.rows("y", Kind::kOutputs, c.m, c.hidden * 2);
  builder.combine(token_rows(c.m, down, y, Rows{}, nullptr), r.address, c.experts,
                  static_cast<std::int64_t>(down.stride) * c.m, c.hidden);
  append(builder.take(), loaded.commands);
  to.second = y.address;
  to.second_stride = y.stride;
}

}  // namespace

KernelPlaces append_kernel(const numerics::KernelCase& kernel_case, const CoreParams& params,
                           const KernelPlacement& placement, const std::string& where, Loaded& to) {
  KernelPlaces places;
  std::visit([&](const auto& c) { lower(c, params, placement, where, to, places); }, kernel_case);
  return places;
}

KernelProgram kernel_program(const numerics::KernelCase& kernel_case, const CoreParams& params,
                             const KernelPlacement& placement, const std::string& where) {
  KernelProgram program;
  program.loaded.image = MemoryImage(placement.base);
  static_cast<KernelPlaces&>(program) = append_kernel(kernel_case, params, placement, where, program.loaded);
  return program;
}

numerics::KernelResult kernel_result(const numerics::KernelCase& kernel_case, const KernelPlaces& places,
                                     const MemoryImage& memory) {
  if (const auto* c = std::get_if<MpgemmCase>(&kernel_case)) {
    numerics::MpgemmResult result;
    read_rows(memory, places.first, places.first_stride, c->x.m, c->w.n, 8, result.acc);
    read_rows(memory, places.second, places.second_stride, c->x.m, c->w.n, elem_bytes(c->out_bits), result.y);
    return result;
  }
  if (const auto* c = std::get_if<ExpertCase>(&kernel_case)) {
    numerics::ExpertResult result;
    read_rows(memory, places.first, places.first_stride, c->x.m, c->w.intermediate(), 2, result.h);
    read_rows(memory, places.second, places.second_stride, c->x.m, c->w.hidden(), 2, result.y);
    return result;
  }
  const auto& c = std::get<CombineCase>(kernel_case);
  numerics::CombineResult result;
  read_rows(memory, places.second, places.second_stride, c.m, c.hidden, 2, result.y);
  return result;
}

}  // namespace moesaic::program
