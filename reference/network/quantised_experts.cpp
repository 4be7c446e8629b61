#include "reference/network/quantised_experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/error.h"
#include "base/rng.h"
#include "reference/numerics/combine.h"

namespace moesaic::network {

namespace {

constexpr std::size_t kProbeWindows = 8;
constexpr std::size_t kProbeLength = 256;

float greatest_magnitude(const std::vector<float>& v) {
  float most = 0;
  for (const float x : v) most = std::max(most, std::fabs(x));
  return most;
}

/// The greatest magnitudes in what every layer's experts read and make of it.
class RangeObserver : public MoeObserver {
 public:
  RangeObserver(const Forward& forward, std::size_t windows)
      : forward_(forward),
        ranges_(windows, std::vector<quantise::LayerRanges>(static_cast<std::size_t>(forward.network().layers))) {}

  void on_moe(std::size_t window, const MoeBatch& batch) override {
    quantise::LayerRanges seen;
    const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
    for (std::size_t e = 0; e < by_expert.size(); ++e) {
      const ExpertRows& mine = by_expert[e];
      if (mine.row.empty()) continue;
      const std::vector<float> x = gather_rows(batch, mine);
      std::vector<float> y(x.size());
      ExpertInner inner;
      forward_.float_experts().run_expert(batch.layer, static_cast<int>(e), x.data(), mine.row.size(), y.data(),
                                          &inner);
      quantise::LayerRanges own;
      own.x = static_cast<double>(greatest_magnitude(x));
      own.up = static_cast<double>(greatest_magnitude(inner.up));
      own.hidden = static_cast<double>(greatest_magnitude(inner.hidden));
      own.output = static_cast<double>(greatest_magnitude(y));
      seen.include(own);
    }
    ranges_[window][static_cast<std::size_t>(batch.layer)] = seen;
  }

  quantise::LayerRanges layer(std::size_t layer) const {
    quantise::LayerRanges all;
    for (const auto& window : ranges_) all.include(window[layer]);
    return all;
  }

 private:
  const Forward& forward_;
  std::vector<std::vector<quantise::LayerRanges>> ranges_;  // [window][layer]: windows run at once
};

}  // namespace

std::vector<quantise::LayerScales> probe_scales(const Forward& forward, const workloads::Checkpoint& checkpoint,
                                                int act_bits, unsigned threads) {
  const workloads::Network& network = checkpoint.network();
  const auto length = static_cast<std::size_t>(std::min<std::int64_t>(
      static_cast<std::int64_t>(kProbeLength), network.max_positions.value_or(std::int64_t{kProbeLength})));
  const base::Rng rng(0);
  RangeObserver observer(forward, kProbeWindows);
  std::vector<std::vector<std::uint32_t>> tokens(kProbeWindows, std::vector<std::uint32_t>(length));
  std::vector<const std::uint32_t*> windows;
  for (std::size_t w = 0; w < kProbeWindows; ++w) {
    base::Rng own = rng.stream("probe tokens", w);
    for (std::uint32_t& t : tokens[w])
      t = static_cast<std::uint32_t>(own.below(static_cast<std::uint64_t>(*network.vocab)));
    windows.push_back(tokens[w].data());
  }
  run_windows(forward, windows, length, {&forward.float_experts()}, threads, &observer, {});
  std::vector<quantise::LayerScales> scales;
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(network.layers); ++layer) {
    const quantise::LayerRanges ranges = observer.layer(layer);
    for (const double range : {ranges.x, ranges.up, ranges.hidden, ranges.output})
      if (!(range > 0) || !std::isfinite(range))
        throw base::ConfigError(checkpoint.folder(), fmt::format("layer {}: greatest activation", layer),
                                fmt::format("{}", range), "a finite number above 0");
    scales.push_back(quantise::choose_scales(ranges, act_bits));
  }
  return scales;
}

ExpertStore::ExpertStore(const Forward& forward, const workloads::Checkpoint& checkpoint, std::int64_t group_size,
                         unsigned threads, int act_bits, const workloads::Quantiser& quantiser)
    : checkpoint_(&checkpoint),
      group_size_(group_size),
      act_bits_(act_bits),
      quantiser_(quantiser),
      capacity_(forward.resident_layers()) {
  if (quantiser_.kind == workloads::QuantiserKind::kGptq) {  // before the probe: what is missing is missed early
    source_ = std::make_unique<CurvatureSource>(forward, quantiser_, threads);
    curvature_ = std::make_unique<LayerCache<LayerCurvature>>(
        capacity_, [source = source_.get()](std::size_t layer) { return source->layer(layer); });
  }
  scales_ = probe_scales(forward, checkpoint, act_bits, threads);
}

ExpertStore::Kept& ExpertStore::kept_of(int layer) const {
  const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto& entry) { return entry.first == layer; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
  } else {
    while (kept_.size() >= capacity_) kept_.pop_back();
    kept_.emplace_front(layer, Kept());
  }
  return kept_.front().second;
}

std::shared_ptr<const numerics::ExpertWeights> ExpertStore::get(int layer, int expert,
                                                                const numerics::ExpertFormats& formats) const {
  const std::pair<int, numerics::ExpertFormats> key(expert, formats);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const Kept& kept = kept_of(layer);
    const auto found = kept.find(key);
    if (found != kept.end()) return found->second;
  }
  std::shared_ptr<const LayerCurvature> curvature;
  const quantise::ExpertCurvature* own = nullptr;
  if (curvature_ != nullptr) {
    curvature = curvature_->get(static_cast<std::size_t>(layer));
    const auto& mine = (*curvature)[static_cast<std::size_t>(expert)];
    if (mine) own = &*mine;
  }
  const ExpertMatrices m = read_expert(*checkpoint_, layer, expert);
  const workloads::Network& network = checkpoint_->network();
  auto made = std::make_shared<const numerics::ExpertWeights>(quantise::quantise_expert(
      m.gate.data(), m.up.data(), m.down.data(), network.hidden, network.expert_intermediate, formats, group_size_,
      act_bits_, scales(layer), fmt::format("{}: layer {}, expert {}", checkpoint_->folder(), layer, expert), own));
  const std::lock_guard<std::mutex> lock(mutex_);
  return kept_of(layer).emplace(key, std::move(made)).first->second;
}

numerics::Activations gather_rows(const numerics::Activations& all, const ExpertRows& which) {
  numerics::Activations rows;
  rows.m = static_cast<std::int64_t>(which.row.size());
  rows.k = all.k;
  rows.act_bits = all.act_bits;
  const auto width = static_cast<std::size_t>(all.k);
  rows.values.resize(which.row.size() * width);
  for (std::size_t i = 0; i < which.row.size(); ++i) {
    std::copy_n(all.values.begin() + static_cast<std::ptrdiff_t>(which.row[i] * width), width,
                rows.values.begin() + static_cast<std::ptrdiff_t>(i * width));
    rows.token_shift.push_back(all.token_shift[which.row[i]]);
  }
  return rows;
}

std::size_t ClassDraw::at(const std::vector<double>& shares, std::size_t window, int layer, std::size_t row,
                          std::size_t slot) const {
  std::uint64_t place = window;
  if (of_choice)
    for (const std::uint64_t part : {static_cast<std::uint64_t>(layer), std::uint64_t{row}, std::uint64_t{slot}})
      place = base::splitmix64(place) ^ part;
  return base::Rng(seed).stream("class", place).weighted(shares);
}

QuantisedExperts::QuantisedExperts(std::shared_ptr<const ExpertStore> store, const workloads::Plan& plan,
                                   unsigned threads, const ClassDraw& draw)
    : store_(std::move(store)), shares_(plan.class_shares), draw_(draw) {
  if (plan.group_size != store_->group_size()) throw std::logic_error("a plan of another group size than the store's");
  if (!(plan.quantiser == store_->quantiser())) throw std::logic_error("a plan of another quantiser than the store's");
  const auto layers = static_cast<std::size_t>(store_->network().layers);
  const auto experts = static_cast<std::size_t>(store_->network().experts);
  formats_.assign(layers, std::vector<std::vector<numerics::ExpertFormats>>(experts));
  for (const workloads::PlanEntry& entry : plan.experts)
    for (std::size_t c = 0; c < classes(); ++c)
      formats_[static_cast<std::size_t>(entry.layer)][static_cast<std::size_t>(entry.expert)].push_back(
          *plan.read(entry, static_cast<std::uint32_t>(c)));
  if (!store_->is_resident()) return;
  experts_.assign(layers, std::vector<OfClasses>(experts, OfClasses(classes())));
  for_each_window(plan.experts.size(), threads, [&](std::size_t i) {
    const auto layer = static_cast<std::size_t>(plan.experts[i].layer),
               expert = static_cast<std::size_t>(plan.experts[i].expert);
    for (std::size_t c = 0; c < classes(); ++c)
      experts_[layer][expert][c] =
          store_->get(plan.experts[i].layer, plan.experts[i].expert, formats_[layer][expert][c]);
  });
}

std::shared_ptr<const numerics::ExpertWeights> QuantisedExperts::weights(int layer, int expert,
                                                                         std::size_t of_class) const {
  const auto l = static_cast<std::size_t>(layer), e = static_cast<std::size_t>(expert);
  return experts_.empty() ? store_->get(layer, expert, formats_[l][e].at(of_class)) : experts_[l][e].at(of_class);
}

void QuantisedExperts::prepare(int layer, unsigned threads) const {
  for_each_window(formats_[static_cast<std::size_t>(layer)].size(), threads, [&](std::size_t expert) {
    for (std::size_t c = 0; c < classes(); ++c) weights(layer, static_cast<int>(expert), c);
  });
}

numerics::ExpertResult QuantisedExperts::compute_expert(int layer, int expert, std::size_t of_class,
                                                        const numerics::Activations& x) const {
  return numerics::expert_ffn(*weights(layer, expert, of_class), x);
}

/// An expert's rows, apart by class.
std::vector<ExpertRows> QuantisedExperts::by_class(const MoeBatch& batch, const ExpertRows& rows) const {
  if (shares_.empty()) return {rows};
  std::vector<ExpertRows> apart(classes());
  for (std::size_t i = 0; i < rows.row.size(); ++i) {
    ExpertRows& own = apart[draw_.at(shares_, batch.window, batch.layer, rows.row[i], rows.slot[i])];
    own.row.push_back(rows.row[i]);
    own.slot.push_back(rows.slot[i]);
  }
  return apart;
}

std::vector<std::int16_t> QuantisedExperts::compute_combination(const std::vector<std::int16_t>& down,
                                                                const std::vector<std::uint16_t>& r, std::int64_t top_k,
                                                                std::int64_t rows, std::int64_t hidden) const {
  return numerics::combine(down, r, top_k, rows, hidden);
}

QuantisedExperts::IntegerBlock QuantisedExperts::run_integers(const MoeBatch& batch) const {
  IntegerBlock block;
  const auto rows = static_cast<std::int64_t>(batch.rows);
  const auto hidden = static_cast<std::int64_t>(batch.hidden);
  block.x = quantise::quantise_rows(batch.x, rows, hidden, store_->act_bits(), scales(batch.layer).x_exp);
  for (std::size_t i = 0; i < batch.rows * batch.top_k; ++i)
    block.r.push_back(quantise::router_weight(batch.weights[i]));
  block.down.resize(batch.top_k * batch.rows * batch.hidden);
  const std::vector<ExpertRows> by_expert = rows_by_expert(batch);
  for (std::size_t e = 0; e < by_expert.size(); ++e) {
    const std::vector<ExpertRows> apart = by_class(batch, by_expert[e]);
    for (std::size_t c = 0; c < apart.size(); ++c) {
      const ExpertRows& mine = apart[c];
      if (mine.row.empty()) continue;
      const numerics::ExpertResult result =
          compute_expert(batch.layer, static_cast<int>(e), c, gather_rows(block.x, mine));
      for (std::size_t i = 0; i < mine.row.size(); ++i)
        std::copy_n(
            result.y.begin() + static_cast<std::ptrdiff_t>(i * batch.hidden), batch.hidden,
            block.down.begin() + static_cast<std::ptrdiff_t>((mine.slot[i] * batch.rows + mine.row[i]) * batch.hidden));
    }
  }
  block.y = compute_combination(block.down, block.r, static_cast<std::int64_t>(batch.top_k), rows, hidden);
  return block;
}

void QuantisedExperts::run(const MoeBatch& batch, float* y) const {
  const IntegerBlock block = run_integers(batch);
  const float unit = std::ldexp(1.0F, -scales(batch.layer).output_exp);
  for (std::size_t i = 0; i < block.y.size(); ++i) y[i] = static_cast<float>(block.y[i]) * unit;
}

}  // namespace moesaic::network
