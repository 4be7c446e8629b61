#include "sim/program/layer_program.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>

#include "base/error.h"
#include "reference/numerics/combine.h"
#include "sim/program/cache_block.h"

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

std::vector<std::int16_t> read_rows(const MemoryImage& image, std::uint64_t address, std::size_t count,
                                    int elem_bytes = 2) {
  std::vector<std::uint8_t> bytes(count * size(elem_bytes));
  image.read(address, bytes.data(), bytes.size());
  std::vector<std::int16_t> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<std::int16_t>(elem_bytes == 1 ? static_cast<std::int8_t>(bytes[i])
                                                          : bytes[2 * i] | bytes[2 * i + 1] << 8);
  return values;
}

int out_bytes(const Product& product) { return product.stack.out_bits == 16 ? 2 : 1; }
int in_bytes(const numerics::Activations& x) { return x.act_bits == 16 ? 2 : 1; }

std::vector<numerics::MatrixShape> shapes_of(const MatrixStack& stack) {
  return std::vector<numerics::MatrixShape>(size(stack.count), {stack.n, stack.k, stack.group_size, 1});
}

/// The first n columns and k rows of a matrix.
numerics::WeightMatrix part_of(const numerics::WeightMatrix& whole, std::int64_t n, std::int64_t k) {
  numerics::WeightMatrix part;
  part.format = whole.format;
  part.n = n;
  part.k = k;
  part.group_size = whole.group_size;
  const auto copy = [n](const auto& from, std::int64_t stride, std::int64_t used, auto& to) {
    if (from.empty()) return;
    for (std::int64_t row = 0; row < n; ++row)
      to.insert(to.end(), from.begin() + row * stride, from.begin() + row * stride + used);
  };
  copy(whole.codes, whole.k, k, part.codes);
  copy(whole.zero_point, whole.groups(), part.groups(), part.zero_point);
  copy(whole.group_multiplier, whole.groups(), part.groups(), part.group_multiplier);
  for (int level = 1; level <= whole.format.stored_levels(); ++level)
    for (std::int64_t row = 0; row < n; ++row) {
      const std::uint16_t* from = whole.multipliers(level, row);
      part.level_multiplier.insert(part.level_multiplier.end(), from, from + part.groups());
    }
  copy(whole.requant_multiplier, 1, 1, part.requant_multiplier);
  copy(whole.requant_shift, 1, 1, part.requant_shift);
  return part;
}

std::vector<std::int16_t> product_reference(const Product& product, const MatrixOf& matrices,
                                            const std::string& where) {
  std::vector<std::int16_t> y;
  for (std::int64_t index = 0; index < product.stack.count; ++index) {
    const numerics::WeightMatrix w = part_of(matrices(product.stack, index), product.n, product.k);
    numerics::Activations x;
    x.m = product.rows;
    x.k = product.k;
    x.act_bits = product.x.act_bits;
    const auto begin = product.x.values.begin() + index * product.rows * product.k;
    x.values.assign(begin, begin + product.rows * product.k);
    const std::vector<std::int16_t> one =
        numerics::requantise(w, numerics::multiply(w, x), numerics::token_shifts(x), product.stack.out_bits, where);
    y.insert(y.end(), one.begin(), one.end());
  }
  return y;
}

/// Which choices of which rows go to each expert, ascending in expert, then row.
std::map<std::uint32_t, std::vector<std::size_t>> choices_by_expert(const LayerRows& layer) {
  std::map<std::uint32_t, std::vector<std::size_t>> choices;
  for (std::size_t i = 0; i < layer.chosen.size(); ++i)
    if (layer.chosen[i] != workloads::RoutedRows::kDropped) choices[layer.chosen[i]].push_back(i);
  return choices;
}

/// The choices of an expert by the planes that they read of its three matrices, the fewest first.
std::map<int, std::pair<numerics::ExpertFormats, std::vector<std::size_t>>> by_width(
    const LayerRows& layer, const std::vector<std::size_t>& choices, const ExpertShape& shape) {
  std::map<int, std::pair<numerics::ExpertFormats, std::vector<std::size_t>>> widths;
  for (const std::size_t choice : choices) {
    const numerics::ExpertFormats& read = shape.read(layer.levels.empty() ? std::uint8_t{0} : layer.levels[choice]);
    auto& width = widths[read.planes()];
    width.first = read;
    width.second.push_back(choice);
  }
  return widths;
}

bool is_same_copy(const numerics::ExpertFormats& a, const numerics::ExpertFormats& b) {
  return a.gate.same_copy(b.gate) && a.up.same_copy(b.up) && a.down.same_copy(b.down);
}

/// The same stored copy, read as `formats`.
numerics::ExpertWeights read_as(numerics::ExpertWeights weights, const numerics::ExpertFormats& formats) {
  if (!is_same_copy(weights.formats(), formats)) throw std::logic_error("an expert read as another stored copy");
  weights.gate.format = formats.gate;
  weights.up.format = formats.up;
  weights.down.format = formats.down;
  return weights;
}

void check(const LayerRows& layer) {
  for (const Product& product : layer.products)
    if (product.rows < 1 || product.x.m != product.rows * product.stack.count || product.x.k != product.k)
      throw std::logic_error("a product without rows: " + layer.name + ", " + product.name);
  if (!layer.products.empty()) return;
  const std::size_t rows = size(layer.x.m);
  if (rows == 0 || layer.top_k < 1 || layer.chosen.size() != rows * size(layer.top_k) ||
      layer.r.size() != layer.chosen.size() || (!layer.levels.empty() && layer.levels.size() != layer.chosen.size()))
    throw std::logic_error("rows without routing: " + layer.name);
}

void check_activations(const LayerRows& layer, const CoreParams& core, const std::string& where) {
  const auto check_bits = [&](int act_bits) {
    if (act_bits > static_cast<int>(core.max_act_bits))
      throw base::ConfigError(where, "array.max_act_bits", std::to_string(core.max_act_bits),
                              "at least " + std::to_string(act_bits) + ", the activations' bits");
  };
  if (layer.products.empty()) check_bits(layer.x.act_bits);
  for (const Product& product : layer.products) check_bits(product.x.act_bits);
}

/// Those that some row goes to, ascending.
std::set<std::uint32_t> experts_of(const LayerRows& layer) {
  std::set<std::uint32_t> experts(layer.chosen.begin(), layer.chosen.end());
  experts.erase(workloads::RoutedRows::kDropped);
  return experts;
}

}  // namespace

class PhaseLowering::Lowering {
 public:
  /// `weights` null: without bytes.
  Lowering(const ShapeOf& shapes, const WeightsOf* weights, const MatrixOf* matrices, const CoreParams& core,
           numerics::LayoutKind layout, const std::string& where, const LowerOptions& options)
      : shapes_(shapes),
        weights_(weights),
        matrices_(matrices),
        offloading_(options.offloading),
        core_(core),
        spec_{layout, static_cast<int>(core.rows), static_cast<int>(core.cols)},
        where_(where),
        builder_(core, out_.loaded.image) {
    if (weights == nullptr) out_.loaded.image = MemoryImage::without_bytes();
    out_.barriers = options.barriers;
  }

  void survey(const LayerRows& layer) {
    check(layer);
    check_activations(layer, core_, where_);
    if (layer.part == Part::kExperts) layers_with_experts_.insert(layer.layer);
    for (const std::uint32_t expert : experts_of(layer)) {
      const Key key(layer.layer, static_cast<int>(expert));
      if (layer.part == Part::kExperts) computed_.insert(key);
      if (known_experts_.insert(key).second) placements_.push_back({layer.layer, layer.part, key.second, {}});
    }
    for (const Product& product : layer.products)
      if (known_stacks_.insert(product.stack.name).second)
        placements_.push_back({layer.layer, layer.part, kProduct, product.stack});
  }

  std::vector<RunProgram::Job> jobs_of(const LayerRows& layer) const {
    std::vector<RunProgram::Job> jobs;
    const auto add = [&jobs](int expert, std::int64_t rows) {
      RunProgram::Job& job = jobs.emplace_back();
      job.expert = expert;
      job.rows = rows;
    };
    for (const Product& product : layer.products) add(kProduct, product.x.m);
    if (!layer.products.empty()) return jobs;
    for (const auto& [expert, choices] : choices_by_expert(layer)) {
      const int id = static_cast<int>(expert);
      for (const auto& [planes, width] : by_width(layer, choices, shapes_(layer.layer, id)))
        add(id, static_cast<std::int64_t>(width.second.size()));
    }
    if (layer.part != Part::kDense) add(kCombination, layer.x.m);
    return jobs;
  }

  void place() {
    if (offloading_ != nullptr) store_experts();
    for (const Placement& placement : placements_) {
      if (placement.expert == kProduct)
        place_stack(placement);
      else
        place_expert(placement);
    }
    placements_.clear();
    if (out_.barriers) builder_.reserve_hidden(intermediate_);
    name_hidden_rows();
    for (const auto& [key, object] : objects_) {
      out_.experts.push_back({key.first, key.second, object});
      if (is_offloaded(key.second)) out_.experts.back().object.address = *out_.offloaded->source[stored_at(key)];
    }
  }

  LoweredPhase lower(const LayerRows& layer) {
    now_ = LoweredPhase{};
    now_.number = phases_++;
    now_.first_job = jobs_;
    now_.phase.layer = layer.layer;
    now_.phase.first_command = first_command_;
    if (layer.products.empty())
      lower_experts(layer);
    else
      lower_products(layer);
    now_.commands = builder_.take();
    first_command_ += now_.commands.size();
    jobs_ += now_.jobs.size();
    name_hidden_rows();
    return std::move(now_);
  }

  void forget(const LoweredPhase& phase) {
    for (const std::uint64_t address : phase.regions) out_.loaded.image.forget(address);
  }

  RunProgram& program() { return out_; }

 private:
  using Key = std::pair<int, int>;  // layer, expert
  /// What lies in memory from the beginning: an expert, or with kProduct a stack of matrices.
  struct Placement {
    int layer;
    Part part;
    int expert;
    std::optional<MatrixStack> stack;
  };

  /// Of the counters that are new.
  void tag(const RunProgram::Tag& tag) { out_.tags.resize(out_.loaded.image.counters(), tag); }
  /// The builder allocates them when it first needs them.
  void name_hidden_rows() { tag({kSeveralLayers, kCombination, Part::kExperts}); }

  std::shared_ptr<const numerics::ExpertLayout> layout_of(const ExpertShape& shape,
                                                          const numerics::ExpertFormats& formats) {
    auto& layout = layouts_[{formats, shape.hidden, shape.intermediate, shape.group_size}];
    if (layout == nullptr)
      layout = std::make_shared<const numerics::ExpertLayout>(formats, shape.hidden, shape.intermediate,
                                                              shape.group_size, spec_);
    return layout;
  }
  std::shared_ptr<const numerics::ExpertLayout> layout_of(const Key& key) {
    const ExpertShape shape = shapes_(key.first, key.second);
    return layout_of(shape, shape.format);
  }

  std::vector<std::uint8_t> packed(const Key& key) { return layout_of(key)->pack((*weights_)(key.first, key.second)); }

  /// Routed experts are; shared ones and those of dense layers have numbers behind them, and stay in the memory.
  bool is_offloaded(int expert) const { return offloading_ != nullptr && expert < offloading_->experts; }

  std::size_t stored_at(const Key& key) const {
    const std::vector<int>& layers = out_.offloaded->layers;
    const auto layer = std::lower_bound(layers.begin(), layers.end(), key.first) - layers.begin();
    return size(layer) * size(offloading_->experts) + size(key.second);
  }

  /// Readings in planes, those of one width together. What is wider than all that the run reads of an expert has no
  /// room in the cache, and counts as the widest.
  std::vector<EarlierRows> lowered(std::vector<EarlierRows> earlier) const {
    for (EarlierRows& rows : earlier) {
      std::map<std::pair<int, int>, std::uint32_t> by_width;  // expert, planes
      for (const EarlierRows::Reading& reading : rows.readings) {
        const ExpertShape shape = shapes_(rows.layer, reading.expert);
        const numerics::ExpertFormats read = reading.level < shape.reads.size()
                                                 ? shape.reads[reading.level]
                                                 : (reading.level == 0 ? shape.format : shape.widest_read());
        by_width[{reading.expert, read.gate.planes()}] += reading.rows;
      }
      rows.readings.clear();
      for (const auto& [key, count] : by_width) rows.readings.push_back({key.first, 0, key.second, count});
    }
    return earlier;
  }

  /// The storage with its experts, and the cache's region, the first one of the memory.
  void store_experts() {
    OffloadedExperts& all = out_.offloaded.emplace();
    if (weights_ == nullptr) all.storage = MemoryImage::without_bytes();
    all.experts = offloading_->experts;
    all.earlier = lowered(offloading_->earlier);
    all.layers.assign(layers_with_experts_.begin(), layers_with_experts_.end());
    if (all.layers.empty()) throw base::InputError(offloading_->where + ": cache: got a run without experts");
    std::uint64_t largest = 0;
    for (const int layer : all.layers) {
      for (int expert = 0; expert < all.experts; ++expert) {
        const Key key(layer, expert);
        const ExpertShape shape = shapes_(layer, expert);
        all.layout.push_back(layout_of(shape, shape.widest_read()));
        all.source.emplace_back();
        const numerics::ExpertLayout& layout = *all.layout.back();
        largest = std::max(largest, cache_block(layout).room());
        if (!offloading_->store_all && computed_.count(key) == 0) continue;
        all.source.back() =
            all.storage.allocate(expert_name(key), Kind::kWeights, static_cast<std::uint64_t>(layout.total_bytes()));
        if (weights_ == nullptr || computed_.count(key) == 0) continue;
        const std::vector<std::uint8_t> bytes = packed(key);
        all.storage.write(*all.source.back(), bytes.data(), bytes.size());
      }
    }
    all.cache_bytes = offloading_->capacity_bytes != 0
                          ? static_cast<std::uint64_t>(offloading_->capacity_bytes) / 64 * 64
                          : static_cast<std::uint64_t>(offloading_->capacity_experts) * largest;
    if (all.cache_bytes < largest)
      throw base::ConfigError(offloading_->where, "cache.capacity_bytes", std::to_string(offloading_->capacity_bytes),
                              "at least " + std::to_string(largest) + ", the largest expert's bytes");
    all.cache_address = out_.loaded.image.allocate("expert cache", Kind::kExpertCache, all.cache_bytes);
    tag({kSeveralLayers, kCombination, Part::kExperts});
  }

  static std::string expert_name(const Key& key) {
    return "layer " + std::to_string(key.first) + ", expert " + std::to_string(key.second);
  }

  void place_stack(const Placement& placement) {
    const MatrixStack& stack = *placement.stack;
    numerics::LayoutSpec spec = spec_;
    // A cache is read in part, and its rows come one by one: interleaved is for weights.
    if (stack.is_cache && spec.kind == numerics::LayoutKind::kInterleaved) spec.kind = numerics::LayoutKind::kTileMajor;
    const auto stored =
        std::make_shared<const numerics::StoredLayout>(numerics::stored_layout(stack.format, shapes_of(stack), spec));
    const WeightObject object =
        stack.is_cache ? builder_.reserve_cache(stack.name, stored) : builder_.reserve(stack.name, stored);
    tag({placement.layer, kCombination, placement.part});
    stacks_[stack.name] = object;
    if (matrices_ == nullptr) return;
    std::vector<const numerics::WeightMatrix*> parts;
    for (std::int64_t i = 0; i < stack.count; ++i) parts.push_back(&(*matrices_)(stack, i));
    const std::vector<std::uint8_t> bytes = stored->pack(parts);
    out_.loaded.image.write(object.address, bytes.data(), bytes.size());
  }

  void place_expert(const Placement& placement) {
    const Key key(placement.layer, placement.expert);
    const auto stored = layout_of(key);
    if (is_offloaded(key.second)) {
      objects_[key] = {stored, 0};
      return;
    }
    const ExpertShape shape = shapes_(key.first, key.second);
    intermediate_ = std::max(intermediate_, shape.intermediate);
    const std::string name = expert_name(key);
    objects_[key] = weights_ == nullptr ? builder_.reserve(name, stored) : builder_.place(name, stored, packed(key));
    tag({key.first, key.second, placement.part});
    if (out_.barriers) out_.loaded.image.skip_to(objects_[key].address + room_for(shape));
  }

  /// Bytes that hold an expert of this shape in any formats.
  std::uint64_t room_for(const ExpertShape& shape) {
    std::int64_t& most = room_[{shape.hidden, shape.intermediate, shape.group_size}];
    if (most > 0) return static_cast<std::uint64_t>(most);
    std::int64_t inner = 0, down = 0;  // apart, each in the format that takes most
    for (const numerics::Format format : numerics::all_formats()) {
      const auto bytes = [&](const std::vector<numerics::MatrixShape>& matrices) {
        return numerics::stored_layout(format, matrices, spec_).total_bytes();
      };
      most = std::max(most, bytes(numerics::expert_shapes(shape.hidden, shape.intermediate, shape.group_size)));
      inner = std::max(inner, bytes(numerics::product_shapes(shape.intermediate, shape.hidden, shape.group_size)));
      down = std::max(down, bytes(numerics::product_shapes(shape.hidden, shape.intermediate, shape.group_size)));
    }
    most = std::max(most, 2 * inner + down);
    return static_cast<std::uint64_t>(most);
  }

  /// Of the phase at hand. Those of one kind of a layer's part are counted together, over all steps.
  std::uint64_t region(const LayerRows& layer, const std::string& what, Kind kind, std::uint64_t bytes) {
    MemoryImage& image = out_.loaded.image;
    const auto [counter, is_new] = counters_.try_emplace({layer.layer, layer.part, kind}, 0);
    if (is_new) {
      counter->second = image.new_counter(kind);
      tag({layer.layer, kCombination, layer.part});
    }
    now_.regions.push_back(image.allocate_for_a_while(layer.name + ": " + what, kind, bytes, counter->second));
    return now_.regions.back();
  }

  void write(std::uint64_t address, const numerics::Activations& x) {
    MemoryImage& image = out_.loaded.image;
    if (!image.has_bytes()) return;  // nobody reads them
    if (x.act_bits == 16) {
      write_little(image, address, x.values.data(), x.values.size());
    } else {
      const std::vector<std::int8_t> narrow(x.values.begin(), x.values.end());
      write_little(image, address, narrow.data(), narrow.size());
    }
  }

  void lower_products(const LayerRows& layer) {
    for (std::size_t p = 0; p < layer.products.size(); ++p) {
      const Product& product = layer.products[p];
      const auto rows = static_cast<std::uint64_t>(product.x.m),
                 in = static_cast<std::uint64_t>(product.k * in_bytes(product.x)),
                 out = static_cast<std::uint64_t>(product.n * out_bytes(product));
      const std::uint64_t x = region(layer, product.name + " rows", product.in, rows * in);
      write(x, product.x);
      const std::uint64_t y = region(layer, product.name, product.out, rows * out);
      now_.phase.products.push_back(y);
      RunProgram::Job& job = begin_job(kProduct, product.x.m);
      job.product = p;
      job.plane_adds = rows * static_cast<std::uint64_t>(product.n * product.k * product.stack.format.planes());
      ProductOptions options;
      options.act_bits = product.x.act_bits;
      options.out_bits = product.stack.out_bits;
      options.n = product.n;
      options.k = product.k;
      for (std::int64_t index = 0; index < product.stack.count; ++index) {
        options.matrix = static_cast<int>(index);
        std::vector<TokenRow> token_rows;
        for (std::int64_t row = index * product.rows; row < (index + 1) * product.rows; ++row)
          token_rows.push_back({x + static_cast<std::uint64_t>(row) * in, y + static_cast<std::uint64_t>(row) * out, 0,
                                static_cast<unsigned>(product.x.shift(row))});
        builder_.product(stacks_.at(product.stack.name), token_rows, options);
      }
    }
  }

  void lower_experts(const LayerRows& layer) {
    MemoryImage& image = out_.loaded.image;
    const std::size_t rows = size(layer.x.m), hidden = size(layer.x.k), top_k = size(layer.top_k);
    const std::uint64_t x_bytes = layer.x.act_bits == 16 ? 2 : 1, row_bytes = hidden * 2;
    const std::uint64_t x = region(layer, "activations", Kind::kActivations, rows * hidden * x_bytes);
    write(x, layer.x);
    const bool combines = layer.part != Part::kDense;
    const std::uint64_t r =
        combines ? region(layer, "router weights", Kind::kRouting, layer.r.size() * 2) : std::uint64_t{0};
    if (combines && image.has_bytes()) write_little(image, r, layer.r.data(), layer.r.size());

    RunProgram::Phase& phase = now_.phase;
    phase.expert_rows = region(layer, combines ? "expert rows" : "outputs",
                               combines ? Kind::kExpertRows : Kind::kOutputs, rows * top_k * row_bytes);
    if (combines) phase.y = region(layer, "outputs", Kind::kOutputs, rows * row_bytes);

    for (const auto& [expert, choices] : choices_by_expert(layer)) {
      const int id = static_cast<int>(expert);
      const ExpertShape shape = shapes_(layer.layer, id);
      for (const auto& [planes, width] : by_width(layer, choices, shape)) {
        RunProgram::Job& job = begin_job(id, static_cast<std::int64_t>(width.second.size()));
        job.format = width.first;
        job.plane_adds = width.second.size() * static_cast<std::uint64_t>(shape.hidden * shape.intermediate * planes);
        std::vector<TokenRow> token_rows;
        for (const std::size_t choice : width.second) {
          const std::size_t row = choice / top_k;
          token_rows.push_back({x + row * hidden * x_bytes, phase.expert_rows + choice * row_bytes, 0,
                                static_cast<unsigned>(layer.x.shift(static_cast<std::int64_t>(row)))});
        }
        ExpertOptions options;
        options.act_bits = layer.x.act_bits;
        options.sigma_h = shape.sigma_h;
        const ExpertObject& stored = objects_.at({layer.layer, id});
        if (!is_same_copy(shape.format, width.first)) throw std::logic_error("rows that read another stored copy");
        builder_.expert({layout_of(shape, width.first), stored.address}, token_rows, options);
      }
    }

    if (!combines) return;
    begin_job(kCombination, static_cast<std::int64_t>(rows));
    std::vector<TokenRow> token_rows;
    for (std::size_t row = 0; row < rows; ++row)
      token_rows.push_back({phase.expert_rows + row * top_k * row_bytes, phase.y + row * row_bytes, 0, 0});
    builder_.combine(token_rows, r, layer.top_k, static_cast<std::int64_t>(row_bytes),
                     static_cast<std::int64_t>(hidden));
  }

  RunProgram::Job& begin_job(int expert, std::int64_t rows) {
    RunProgram::Job& job = now_.jobs.emplace_back();
    job.phase = now_.number;
    job.expert = expert;
    job.rows = rows;
    job.first_command = first_command_ + builder_.commands().size();
    if (offloading_ != nullptr) builder_.forget_rows();
    return job;
  }

  const ShapeOf shapes_;
  const WeightsOf* weights_;
  const MatrixOf* matrices_;
  const Offloading* offloading_;
  CoreParams core_;
  numerics::LayoutSpec spec_;
  std::string where_;
  RunProgram out_;
  ProgramBuilder builder_;

  // The survey: in order what comes first, and what is there in all.
  std::vector<Placement> placements_;
  std::set<Key> known_experts_, computed_;
  std::set<std::string> known_stacks_;
  std::set<int> layers_with_experts_;

  std::int64_t intermediate_ = 0;
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t>, std::int64_t> room_;  // by shape
  std::map<Key, ExpertObject> objects_;
  std::map<std::tuple<numerics::ExpertFormats, std::int64_t, std::int64_t, std::int64_t>,
           std::shared_ptr<const numerics::ExpertLayout>>
      layouts_;  // experts of one format and shape share theirs
  std::map<std::string, WeightObject> stacks_;

  std::map<std::tuple<int, Part, Kind>, std::size_t> counters_;  // of phases' own regions
  LoweredPhase now_;
  std::size_t phases_ = 0, jobs_ = 0, first_command_ = 0;  // lowered so far
};

PhaseLowering::PhaseLowering(const ShapeOf& shapes, const WeightsOf* weights, const MatrixOf* matrices,
                             const CoreParams& core, numerics::LayoutKind layout, const std::string& where,
                             const LowerOptions& options)
    : lowering_(std::make_unique<Lowering>(shapes, weights, matrices, core, layout, where, options)) {}
PhaseLowering::~PhaseLowering() = default;
void PhaseLowering::survey(const LayerRows& layer) { lowering_->survey(layer); }
std::vector<RunProgram::Job> PhaseLowering::jobs_of(const LayerRows& layer) const { return lowering_->jobs_of(layer); }
void PhaseLowering::place() { lowering_->place(); }
LoweredPhase PhaseLowering::lower(const LayerRows& layer) { return lowering_->lower(layer); }
void PhaseLowering::forget(const LoweredPhase& phase) { lowering_->forget(phase); }
RunProgram& PhaseLowering::program() { return lowering_->program(); }

numerics::ExpertFormats ExpertShape::widest_read() const {
  numerics::ExpertFormats widest = read(0);
  for (const numerics::ExpertFormats& one : reads)
    if (one.planes() > widest.planes()) widest = one;
  return widest;
}

std::uint64_t stated_cycles(const StatedWork& work, const Chip& chip) {
  if (!work.any()) return 0;
  if (!chip.stated_costs)
    throw base::ConfigError(chip.path, "stated_costs", "nothing",
                            "costs of norm, router and softmax, as the workload has whole_layers");
  return chip.stated_costs->norm.of(work.norm_elements) + chip.stated_costs->router.of(work.router_macs) +
         chip.stated_costs->softmax.of(work.softmax_elements);
}

void RunProgram::state_costs(const std::vector<LayerRows>& layers, const Chip& chip) {
  for (std::size_t p = 0; p < phases.size(); ++p) phases[p].after = stated_cycles(layers[p].stated, chip);
}

std::vector<TimedPhase> RunProgram::timed_phases() const {
  std::vector<TimedPhase> timed;
  if (barriers) {
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      const bool opens =
          j == 0 || jobs[j].phase != jobs[j - 1].phase;  // what a layer waits for its first job waits for
      const Phase& phase = phases[jobs[j].phase];
      timed.push_back({jobs[j].first_command, opens ? phase.after : 0, opens ? phase.at : 0});
    }
  } else {
    for (const Phase& phase : phases) timed.push_back({phase.first_command, phase.after, phase.at});
  }
  return timed;
}

namespace {

RunProgram lower_all(PhaseLowering& lowering, const std::vector<LayerRows>& layers) {
  for (const LayerRows& layer : layers) lowering.survey(layer);
  lowering.place();
  RunProgram& program = lowering.program();
  for (const LayerRows& layer : layers) {
    LoweredPhase phase = lowering.lower(layer);
    program.phases.push_back(std::move(phase.phase));
    program.jobs.insert(program.jobs.end(), phase.jobs.begin(), phase.jobs.end());
    std::vector<Command>& commands = program.loaded.commands;
    commands.insert(commands.end(), phase.commands.begin(), phase.commands.end());
  }
  return std::move(program);
}

}  // namespace

RunProgram lower_layers(const std::vector<LayerRows>& layers, const WeightsOf& weights, const CoreParams& core,
                        numerics::LayoutKind layout, const std::string& where, const MatrixOf& matrices,
                        const LowerOptions& options) {
  const ShapeOf of_weights = [&weights](int layer, int expert) {
    const numerics::ExpertWeights& w = weights(layer, expert);
    return ExpertShape{w.formats(), w.hidden(), w.intermediate(), w.gate.group_size, w.sigma_h, {}};
  };
  PhaseLowering lowering(options.shapes ? options.shapes : of_weights, &weights, &matrices, core, layout, where,
                         options);
  return lower_all(lowering, layers);
}

RunProgram lower_layers_without_data(const std::vector<LayerRows>& layers, const ShapeOf& shapes,
                                     const CoreParams& core, numerics::LayoutKind layout, const std::string& where,
                                     const LowerOptions& options) {
  PhaseLowering lowering(shapes, nullptr, nullptr, core, layout, where, options);
  return lower_all(lowering, layers);
}

std::size_t LayerResult::values() const {
  std::size_t count = expert_rows.size() + y.size();
  for (const auto& product : products) count += product.size();
  return count;
}

LayerResult layer_reference(const LayerRows& layer, const WeightsOf& weights, const MatrixOf& matrices,
                            const ShapeOf& shapes) {
  check(layer);
  if (!layer.products.empty()) {
    LayerResult result;
    for (const Product& product : layer.products)
      result.products.push_back(product_reference(product, matrices, layer.name + ", " + product.name));
    return result;
  }
  const std::size_t rows = size(layer.x.m), hidden = size(layer.x.k), top_k = size(layer.top_k);
  LayerResult result;
  result.expert_rows.resize(rows * top_k * hidden);
  const auto compute = [&](const numerics::ExpertWeights& expert, const std::vector<std::size_t>& choices) {
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
    const numerics::ExpertResult one = numerics::expert_ffn(expert, x, numerics::Path::kVectorised, layer.name);
    for (std::size_t i = 0; i < choices.size(); ++i)
      std::copy_n(one.y.begin() + static_cast<std::ptrdiff_t>(i * hidden), hidden,
                  result.expert_rows.begin() + static_cast<std::ptrdiff_t>(choices[i] * hidden));
  };
  for (const auto& [expert, choices] : choices_by_expert(layer)) {
    const int id = static_cast<int>(expert);
    const numerics::ExpertWeights& stored = weights(layer.layer, id);
    if (!shapes) {
      if (!layer.levels.empty()) throw std::logic_error("rows of several levels without shapes");
      compute(stored, choices);
      continue;
    }
    for (const auto& [planes, width] : by_width(layer, choices, shapes(layer.layer, id)))
      if (width.first == stored.formats())
        compute(stored, width.second);
      else
        compute(read_as(stored, width.first), width.second);
  }
  if (layer.part == Part::kDense) return result;
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
  for (std::size_t p = 0; p < layer.products.size(); ++p) {
    const Product& product = layer.products[p];
    const std::vector<std::int16_t>& want = expected.products[p];
    const std::vector<std::int16_t> got = read_rows(memory, phase.products[p], want.size(), out_bytes(product));
    for (std::size_t i = 0; i < got.size(); ++i)
      if (got[i] != want[i])
        return layer.name + ": " + product.name + ", row " + std::to_string(i / size(product.n)) + ", column " +
               std::to_string(i % size(product.n)) + values(got[i], want[i]);
  }
  if (!layer.products.empty()) return "";
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
