#include "sim/program/layer_program.h"

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/error.h"
#include "reference/numerics/combine.h"

namespace moesaic::program {

namespace {

std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

template <class T>
void write_little(MemoryImage& image, std::uint64_t address, const T* values, std::size_t count) {
  std::vector<std::uint8_t> bytes;
  bytes.reserve(count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t b = 0; b < sizeof(T); ++b)
      bytes.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(values[i]) >> (8 * b)));
  image.write(address, bytes.data(), bytes.size());
}

std::vector<std::int16_t> read_rows(const MemoryImage& image, std::uint64_t address, std::size_t count) {
  std::vector<std::uint8_t> bytes(count * 2);
  image.read(address, bytes.data(), bytes.size());
  std::vector<std::int16_t> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<std::int16_t>(static_cast<std::uint16_t>(bytes[2 * i] | bytes[2 * i + 1] << 8));
  return values;
}

/// Which choices of which rows go to each expert, ascending in expert, then row.
std::map<std::uint32_t, std::vector<std::size_t>> choices_by_expert(const LayerRows& layer) {
  std::map<std::uint32_t, std::vector<std::size_t>> choices;
  for (std::size_t i = 0; i < layer.chosen.size(); ++i)
    if (layer.chosen[i] != workloads::RoutedRows::kDropped) choices[layer.chosen[i]].push_back(i);
  return choices;
}

void check(const LayerRows& layer) {
  const std::size_t rows = size(layer.x.m);
  if (rows == 0 || layer.top_k < 1 || layer.chosen.size() != rows * size(layer.top_k) ||
      layer.r.size() != layer.chosen.size())
    throw std::logic_error("rows without routing: " + layer.name);
}

void check_activations(const std::vector<LayerRows>& layers, const CoreParams& core, const std::string& where) {
  for (const LayerRows& layer : layers)
    if (layer.x.act_bits > static_cast<int>(core.max_act_bits))
      throw base::ConfigError(where, "array.max_act_bits", std::to_string(core.max_act_bits),
                              "at least " + std::to_string(layer.x.act_bits) + ", the activations' bits");
}

class Lowering {
 public:
  /// `weights` null: without bytes.
  Lowering(const ShapeOf& shapes, const WeightsOf* weights, const CoreParams& core, numerics::LayoutKind layout)
      : shapes_(shapes),
        weights_(weights),
        core_(core),
        spec_{layout, static_cast<int>(core.rows), static_cast<int>(core.cols)},
        builder_(core, out_.loaded.image),
        tags_{{"hidden rows", {kSeveralLayers, kCombination}}} {
    if (weights == nullptr) out_.loaded.image = MemoryImage::without_bytes();
  }

  RunProgram run(const std::vector<LayerRows>& layers) {
    for (const LayerRows& layer : layers) place_experts(layer);
    for (const LayerRows& layer : layers) lower(layer);
    for (const auto& [key, object] : objects_) out_.experts.push_back({key.first, key.second, object});
    for (const MemoryImage::Region& region : out_.loaded.image.regions()) out_.tags.push_back(tags_.at(region.name));
    out_.loaded.commands = builder_.take();
    return std::move(out_);
  }

 private:
  void place_experts(const LayerRows& layer) {
    check(layer);
    for (const auto& [expert, choices] : choices_by_expert(layer)) {
      const std::pair<int, int> key(layer.layer, static_cast<int>(expert));
      if (objects_.count(key) != 0) continue;
      const ExpertShape shape = shapes_(key.first, key.second);
      const auto stored = std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(
          shape.format, numerics::expert_shapes(shape.hidden, shape.intermediate, shape.group_size), spec_));
      const std::string name = "layer " + std::to_string(key.first) + ", expert " + std::to_string(key.second);
      tags_[name] = {key.first, key.second};
      if (weights_ == nullptr) {
        objects_[key] = builder_.reserve(name, stored);
        continue;
      }
      const numerics::ExpertWeights& w = (*weights_)(key.first, key.second);
      objects_[key] = builder_.place(name, stored, stored->pack({&w.gate, &w.up, &w.down}));
    }
  }

  std::uint64_t region(const LayerRows& layer, const char* what, Kind kind, std::uint64_t bytes) {
    const std::string name = layer.name + ": " + what;
    tags_[name] = {layer.layer, kCombination};
    return out_.loaded.image.allocate(name, kind, bytes);
  }

  void lower(const LayerRows& layer) {
    MemoryImage& image = out_.loaded.image;
    const std::size_t rows = size(layer.x.m), hidden = size(layer.x.k), top_k = size(layer.top_k);
    const std::uint64_t x_bytes = layer.x.act_bits == 16 ? 2 : 1, row_bytes = hidden * 2;
    const std::uint64_t x = region(layer, "activations", Kind::kActivations, rows * hidden * x_bytes);
    if (!image.has_bytes()) {
      // nobody reads them
    } else if (x_bytes == 2) {
      write_little(image, x, layer.x.values.data(), layer.x.values.size());
    } else {
      const std::vector<std::int8_t> narrow(layer.x.values.begin(), layer.x.values.end());
      write_little(image, x, narrow.data(), narrow.size());
    }
    const std::uint64_t r = region(layer, "router weights", Kind::kRouting, layer.r.size() * 2);
    if (image.has_bytes()) write_little(image, r, layer.r.data(), layer.r.size());

    RunProgram::Phase phase;
    phase.first_command = builder_.commands().size();
    phase.expert_rows = region(layer, "expert rows", Kind::kExpertRows, rows * top_k * row_bytes);
    phase.y = region(layer, "outputs", Kind::kOutputs, rows * row_bytes);
    out_.phases.push_back(phase);

    for (const auto& [expert, choices] : choices_by_expert(layer)) {
      const int id = static_cast<int>(expert);
      begin_job(id, choices.size());
      std::vector<TokenRow> token_rows;
      for (const std::size_t choice : choices) {
        const std::size_t row = choice / top_k;
        token_rows.push_back({x + row * hidden * x_bytes, phase.expert_rows + choice * row_bytes, 0,
                              static_cast<unsigned>(layer.x.shift(static_cast<std::int64_t>(row)))});
      }
      ExpertOptions options;
      options.act_bits = layer.x.act_bits;
      options.sigma_h = shapes_(layer.layer, id).sigma_h;
      builder_.expert(objects_.at({layer.layer, id}), token_rows, options);
    }

    begin_job(kCombination, rows);
    std::vector<TokenRow> token_rows;
    for (std::size_t row = 0; row < rows; ++row)
      token_rows.push_back({phase.expert_rows + row * top_k * row_bytes, phase.y + row * row_bytes, 0, 0});
    builder_.combine(token_rows, r, layer.top_k, static_cast<std::int64_t>(row_bytes),
                     static_cast<std::int64_t>(hidden));
  }

  void begin_job(int expert, std::size_t rows) {
    out_.jobs.push_back({out_.phases.size() - 1, expert, static_cast<std::int64_t>(rows), builder_.commands().size()});
  }

  const ShapeOf& shapes_;
  const WeightsOf* weights_;
  CoreParams core_;
  numerics::LayoutSpec spec_;
  RunProgram out_;
  ProgramBuilder builder_;
  std::map<std::pair<int, int>, WeightObject> objects_;
  std::map<std::string, RunProgram::Tag> tags_;
};

}  // namespace

std::vector<std::size_t> RunProgram::phase_begin() const {
  std::vector<std::size_t> begin;
  for (const Phase& phase : phases) begin.push_back(phase.first_command);
  return begin;
}

RunProgram lower_layers(const std::vector<LayerRows>& layers, const WeightsOf& weights, const CoreParams& core,
                        numerics::LayoutKind layout, const std::string& where) {
  check_activations(layers, core, where);
  const ShapeOf shapes = [&weights](int layer, int expert) {
    const numerics::ExpertWeights& w = weights(layer, expert);
    return ExpertShape{w.gate.format, w.hidden(), w.intermediate(), w.gate.group_size, w.sigma_h};
  };
  return Lowering(shapes, &weights, core, layout).run(layers);
}

RunProgram lower_layers_without_data(const std::vector<LayerRows>& layers, const ShapeOf& shapes,
                                     const CoreParams& core, numerics::LayoutKind layout, const std::string& where) {
  check_activations(layers, core, where);
  return Lowering(shapes, nullptr, core, layout).run(layers);
}

LayerResult layer_reference(const LayerRows& layer, const WeightsOf& weights) {
  check(layer);
  const std::size_t rows = size(layer.x.m), hidden = size(layer.x.k), top_k = size(layer.top_k);
  LayerResult result;
  result.expert_rows.resize(rows * top_k * hidden);
  for (const auto& [expert, choices] : choices_by_expert(layer)) {
    numerics::Activations x;
    x.m = static_cast<std::int64_t>(choices.size());
    x.k = layer.x.k;
    x.act_bits = layer.x.act_bits;
    for (const std::size_t choice : choices) {
      const auto row = static_cast<std::ptrdiff_t>(choice / top_k * hidden);
      x.values.insert(x.values.end(), layer.x.values.begin() + row,
                      layer.x.values.begin() + row + static_cast<std::ptrdiff_t>(hidden));
      x.token_shift.push_back(static_cast<std::uint8_t>(layer.x.shift(static_cast<std::int64_t>(choice / top_k))));
    }
    const numerics::ExpertResult one = numerics::expert_ffn(weights(layer.layer, static_cast<int>(expert)), x,
                                                            numerics::Path::kVectorised, layer.name);
    for (std::size_t i = 0; i < choices.size(); ++i)
      std::copy_n(one.y.begin() + static_cast<std::ptrdiff_t>(i * hidden), hidden,
                  result.expert_rows.begin() + static_cast<std::ptrdiff_t>(choices[i] * hidden));
  }
  // numerics::combine takes [experts, rows, H].
  std::vector<std::int16_t> down(result.expert_rows.size());
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t j = 0; j < top_k; ++j)
      std::copy_n(result.expert_rows.begin() + static_cast<std::ptrdiff_t>((row * top_k + j) * hidden), hidden,
                  down.begin() + static_cast<std::ptrdiff_t>((j * rows + row) * hidden));
  result.y = numerics::combine(down, layer.r, layer.top_k, layer.x.m, layer.x.k);
  return result;
}

std::string first_layer_difference(const LayerRows& layer, const LayerResult& expected, const RunProgram::Phase& phase,
                                   const MemoryImage& memory) {
  const std::size_t hidden = size(layer.x.k), top_k = size(layer.top_k);
  const auto values = [](std::int16_t got, std::int16_t want) {
    return ": got " + std::to_string(got) + ", expected " + std::to_string(want);
  };
  const std::vector<std::int16_t> rows = read_rows(memory, phase.expert_rows, expected.expert_rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (rows[i] != expected.expert_rows[i])
      return layer.name + ": expert " + std::to_string(layer.chosen[i / hidden]) + ", token " +
             std::to_string(i / hidden / top_k) + ", column " + std::to_string(i % hidden) +
             values(rows[i], expected.expert_rows[i]);
  const std::vector<std::int16_t> y = read_rows(memory, phase.y, expected.y.size());
  for (std::size_t i = 0; i < y.size(); ++i)
    if (y[i] != expected.y[i])
      return layer.name + ": combination, token " + std::to_string(i / hidden) + ", column " +
             std::to_string(i % hidden) + values(y[i], expected.y[i]);
  return "";
}

}  // namespace moesaic::program
