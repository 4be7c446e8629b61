#include "sim/program/random_offload.h"

#include <algorithm>

#include "models/host/eviction_policy.h"
#include "sim/program/cache_block.h"

namespace moesaic::program {

namespace {

constexpr int kLevels = 3;

numerics::WeightMatrix random_matrix(base::Rng& rng, const numerics::Format& format, std::int64_t n, std::int64_t k,
                                     std::int64_t group_size) {
  numerics::WeightMatrix w;
  w.format = format;
  w.n = n;
  w.k = k;
  w.group_size = group_size;
  const auto columns = static_cast<std::size_t>(n), groups = static_cast<std::size_t>(n * w.groups());
  for (std::size_t i = 0; i < columns * static_cast<std::size_t>(k); ++i)
    w.codes.push_back(static_cast<std::uint8_t>(rng.below(static_cast<std::uint64_t>(format.max_code()) + 1)));
  for (std::size_t i = 0; i < groups; ++i) {
    if (format.has_zero_point()) w.zero_point.push_back(static_cast<std::uint8_t>(rng.below(256)));
    w.group_multiplier.push_back(static_cast<std::uint16_t>(rng.below(5000)));
  }
  for (std::size_t i = 0; i < groups * static_cast<std::size_t>(format.stored_levels()); ++i)
    w.level_multiplier.push_back(static_cast<std::uint16_t>(rng.below(5000)));
  for (std::size_t i = 0; i < columns; ++i) {
    w.requant_multiplier.push_back(static_cast<std::uint16_t>(30000 + rng.below(30000)));
    w.requant_shift.push_back(static_cast<std::uint8_t>(26 + rng.below(4)));
  }
  return w;
}

LayerRows random_rows(base::Rng& rng, int step, int layer, std::int64_t rows, std::int64_t hidden, int experts,
                      int act_bits) {
  LayerRows l;
  l.name = "step " + std::to_string(step) + ", layer " + std::to_string(layer);
  l.layer = layer;
  l.x.m = rows;
  l.x.k = hidden;
  l.x.act_bits = act_bits;
  l.top_k = 2;
  const std::int64_t most = (std::int64_t{1} << (act_bits - 1)) - 1;
  for (std::int64_t i = 0; i < rows * hidden; ++i)
    l.x.values.push_back(static_cast<std::int16_t>(rng.range(-most - 1, most)));
  for (std::int64_t m = 0; m < rows; ++m) {
    l.x.token_shift.push_back(static_cast<std::uint8_t>(rng.below(4)));
    const auto count = static_cast<std::uint64_t>(experts);
    const std::uint64_t first = rng.below(count), second = (first + 1 + rng.below(count - 1)) % count;
    const bool dropped = rng.chance(1, 6);
    l.chosen.push_back(static_cast<std::uint32_t>(first));
    l.chosen.push_back(dropped ? workloads::RoutedRows::kDropped : static_cast<std::uint32_t>(second));
    l.r.push_back(static_cast<std::uint16_t>(rng.below(32769)));
    l.r.push_back(dropped ? std::uint16_t{0} : static_cast<std::uint16_t>(32768 - l.r.back()));
  }
  return l;
}

}  // namespace

ExpertShape OffloadCase::shape_of(int layer, int expert) const {
  const numerics::ExpertWeights& w = weights_of(layer, expert);
  const auto found = reads.find({layer, expert});
  return {w.formats(),       w.hidden(), w.intermediate(),
          w.gate.group_size, w.sigma_h,  found == reads.end() ? std::vector<numerics::ExpertFormats>() : found->second};
}

RunProgram OffloadCase::lower(const CoreParams& core, bool offloaded) const {
  const WeightsOf of = [this](int layer, int expert) -> const numerics::ExpertWeights& {
    return weights_of(layer, expert);
  };
  Offloading offloading;
  offloading.capacity_bytes = cache.capacity_bytes;
  offloading.experts = experts;
  offloading.store_all = true;
  offloading.earlier = earlier;
  offloading.where = "case";
  LowerOptions options;
  options.offloading = offloaded ? &offloading : nullptr;
  options.shapes = [this](int layer, int expert) { return shape_of(layer, expert); };
  return lower_layers(layers, of, core, layout, "case", {}, options);
}

std::string OffloadCase::difference(const RunProgram& program, const MemoryImage& memory) const {
  const WeightsOf of = [this](int layer, int expert) -> const numerics::ExpertWeights& {
    return weights_of(layer, expert);
  };
  const ShapeOf shapes = [this](int layer, int expert) { return shape_of(layer, expert); };
  for (std::size_t p = 0; p < layers.size(); ++p) {
    const std::string found =
        first_layer_difference(layers[p], layer_reference(layers[p], of, {}, shapes), program.phases[p], memory);
    if (!found.empty()) return found;
  }
  return "";
}

OffloadCase random_offload(base::Rng& rng, const CoreParams& core, const std::optional<numerics::LayoutKind>& layout) {
  OffloadCase c;
  const std::int64_t rows = core.rows, cols = core.cols, hidden = rng.range(6, 2 * rows + 3),
                     intermediate = rng.range(6, cols + cols / 2 + 3);
  const int layers = static_cast<int>(rng.range(1, 2)), steps = static_cast<int>(rng.range(2, 4));
  c.experts = static_cast<int>(rng.range(3, 5));
  c.layout = numerics::LayoutKind::kPlaneMajor;
  if (rng.chance(2, 5)) c.layout = rng.pick(numerics::layout_kinds());
  if (layout) c.layout = *layout;
  const bool alike = rng.chance(1, 2);  // experts of one format, so that places fit each other
  const bool levels = rng.chance(1, 2);
  const auto draw_format = [&rng, levels] {
    if (!levels || rng.chance(1, 4)) return rng.pick(numerics::all_formats());
    return rng.chance(1, 3) ? numerics::Format::nested(static_cast<int>(rng.range(1, 8)))
                            : rng.pick(numerics::mwq_formats());
  };
  // An expert of several formats is read as it is.
  const auto draw_formats = [&rng, levels, &draw_format] {
    numerics::ExpertFormats formats = draw_format();
    if (rng.chance(1, levels ? 6 : 3)) formats.down = draw_format();
    if (rng.chance(1, levels ? 10 : 5)) formats.up = draw_format();
    return formats;
  };
  const numerics::ExpertFormats one = draw_formats();
  const numerics::LayoutSpec spec{c.layout, static_cast<int>(core.rows), static_cast<int>(core.cols)};
  std::uint64_t largest = 0, sum = 0;
  for (int layer = 0; layer < layers; ++layer)
    for (int expert = 0; expert < c.experts; ++expert) {
      const numerics::ExpertFormats formats = alike ? one : draw_formats();
      numerics::ExpertWeights& w = c.weights[{layer, expert}];
      w.gate = random_matrix(rng, formats.gate, intermediate, hidden, 16);
      w.up = random_matrix(rng, formats.up, intermediate, hidden, 16);
      w.down = random_matrix(rng, formats.down, hidden, intermediate, 16);
      w.sigma_h = 10;
      std::vector<numerics::ExpertFormats> widths;  // of the one stored copy
      if (!formats.is_one()) widths.push_back(formats);
      for (int planes = 1; formats.is_one() && planes <= 8; ++planes)
        if (const auto read = formats.gate.read_at(planes)) widths.emplace_back(*read);
      for (int level = 0; levels && level < kLevels; ++level) c.reads[{layer, expert}].push_back(rng.pick(widths));
      const numerics::ExpertLayout stored(c.shape_of(layer, expert).widest_read(), hidden, intermediate, 16, spec);
      const std::uint64_t bytes = cache_block(stored).room();
      largest = std::max(largest, bytes);
      sum += bytes;
    }
  std::vector<int> widths{4};
  for (const int width : {8, 16})
    if (width <= static_cast<int>(core.max_act_bits)) widths.push_back(width);
  const int act_bits = rng.pick(widths);
  std::int64_t batch = 0;
  for (int step = 0; step < steps; ++step) {
    const std::int64_t tokens = rng.range(1, 4);
    batch = std::max(batch, tokens);
    for (int layer = 0; layer < layers; ++layer) {
      LayerRows& phase = c.layers.emplace_back(random_rows(rng, step, layer, tokens, hidden, c.experts, act_bits));
      for (std::size_t choice = 0; levels && choice < phase.chosen.size(); ++choice)
        phase.levels.push_back(static_cast<std::uint8_t>(rng.below(kLevels)));
    }
  }

  c.cache.policy = rng.pick(host::eviction_policies().names());
  c.cache.capacity_bytes =
      static_cast<std::int64_t>(rng.chance(1, 4) ? largest : largest + rng.below(rng.chance(1, 2) ? largest * 2 : sum));
  c.cache.load_order = static_cast<LoadOrder>(rng.below(3));
  c.cache.decision_cycles = base::Cycles(rng.chance(1, 4) ? 0 : rng.range(1, 200));
  c.cache.prefetch.kind = rng.pick(host::prefetch_kinds().names());
  c.cache.prefetch.recall = 0.8;
  c.cache.prefetch.precision = 0.6;
  c.cache.prefetch.seed = rng.next();
  c.cache.start_popular = rng.chance(1, 3);
  if (!c.cache.start_popular && rng.chance(1, 2)) {
    c.cache.replayed_steps = rng.range(1, 5);
    for (std::int64_t step = 0; step < c.cache.replayed_steps; ++step)
      for (int layer = 0; layer < layers; ++layer) {
        EarlierRows before;
        before.layer = layer;
        for (int expert = 0; expert < c.experts; ++expert)
          if (rng.chance(1, 2))
            before.readings.push_back({expert, levels ? static_cast<std::uint32_t>(rng.below(kLevels)) : 0U, 0,
                                       static_cast<std::uint32_t>(1 + rng.below(3))});
        if (!before.readings.empty()) c.earlier.push_back(std::move(before));
      }
  }
  c.cache.where = "case";
  c.text = std::string(numerics::layout_kind_name(c.layout)) + " " + c.cache.policy + " " +
           std::string(kLoadOrderNames[static_cast<std::size_t>(c.cache.load_order)]) + " prefetch " +
           c.cache.prefetch.kind +
           (c.cache.start_popular ? " popular, "
            : c.earlier.empty()   ? " cold, "
                                  : " replay, ") +
           std::to_string(c.cache.capacity_bytes) + " of " + std::to_string(sum) + " bytes, batch " +
           std::to_string(batch) + (levels ? ", levels" : "");
  return c;
}

}  // namespace moesaic::program
