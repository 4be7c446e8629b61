// models/host/host_driver: an engine of random delays drives it and checks every answer.
#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/rng.h"
#include "models/host/host_driver.h"
#include "models/host/replay.h"

using namespace moesaic;
using base::Bytes;
using base::Cycles;
using host::Answer;
using host::DriverConfig;
using host::ExpertBytes;
using host::HostDriver;
using host::Need;

namespace {

/// Parameters and planes of unequal sizes, another kind for every third expert.
ExpertBytes two_kinds(std::uint32_t layers, std::uint32_t experts) {
  std::vector<host::StoredExpert> kinds(2);
  for (std::size_t k = 0; k < 2; ++k) {
    kinds[k].by_planes = true;
    for (const std::int64_t bytes :
         k == 0 ? std::vector<std::int64_t>{130, 1000, 1000, 1000} : std::vector<std::int64_t>{200, 1500, 1500}) {
      kinds[k].units.push_back({kinds[k].total, Bytes(bytes)});
      kinds[k].total += Bytes(bytes);
    }
    kinds[k].planes_read = static_cast<int>(kinds[k].units.size()) - 1;
  }
  std::vector<std::uint32_t> kind_of;
  for (std::uint32_t i = 0; i < layers * experts; ++i) kind_of.push_back(i % 3 == 2 ? 1 : 0);
  return ExpertBytes(layers, experts, kinds, kind_of);
}

/// Drives random layers through a driver. Everything it is told is checked against its own record of the cache.
class RandomEngine {
 public:
  RandomEngine(const ExpertBytes& bytes, const DriverConfig& config, std::uint64_t seed)
      : bytes_(bytes), config_(config), driver_(bytes, config, "test"), rng_(seed) {}

  /// What happened, as text: for comparing runs.
  std::string run(int layers_to_run) {
    int routed = 0;
    std::vector<Need> upcoming = random_needs();
    while (routed < layers_to_run || !driver_.idle() || !open_.empty()) {
      now_ += Cycles(1);
      REQUIRE(now_ < Cycles(10000000));  // else it is stuck
      while (auto answer = driver_.take(now_)) apply(*answer);
      if (routed < layers_to_run && open_.size() < 6 && rng_.chance(1, 20)) {
        const auto layer = static_cast<std::uint32_t>(routed) % bytes_.layers();
        const std::vector<Need> needs = upcoming;
        upcoming = random_needs();
        ++routed;
        const auto next_layer = static_cast<std::uint32_t>(routed) % bytes_.layers();
        const auto ids = driver_.routed(now_, layer, needs, host::NextStep{next_layer, upcoming, next_layer != 0});
        events_.insert(now_.count());
        for (std::size_t i = 0; i < ids.size(); ++i) {
          open_[ids[i]].layer = layer;
          open_[ids[i]].need = needs[i];
        }
      }
      complete_something();
      move_jobs();
    }
    CHECK(driver_.resident_bytes() <= driver_.capacity());
    const host::DriverStats stats = driver_.stats();
    CHECK(stats.loaded + stats.prefetched == Bytes(loaded_));
    return log_ + std::to_string(now_.count());
  }
  host::DriverStats stats() const { return driver_.stats(); }

 private:
  struct Open {
    std::uint32_t layer = 0;
    Need need;
    bool planned = false, released = false;
    std::set<host::DescriptorId> waits_for;
    std::set<std::uint64_t> addresses;
  };
  struct Resident {
    std::uint64_t end = 0;
    std::uint32_t layer = 0, expert = 0, plane = 0;
    bool arrived = false;
  };

  std::vector<Need> random_needs() {
    std::vector<Need> needs;
    std::set<std::uint32_t> chosen;
    while (chosen.size() < 3) chosen.insert(static_cast<std::uint32_t>(rng_.below(bytes_.experts())));
    for (const std::uint32_t expert : chosen)
      needs.push_back(
          {expert, static_cast<int>(rng_.range(0, 2)), static_cast<std::uint32_t>(rng_.range(1, 5)), rng_.below(100)});
    return needs;
  }

  void apply(const Answer& answer) {
    // Exactly decision_cycles after something happened.
    CHECK(answer.at <= now_);
    CHECK(events_.count((answer.at - config_.decision_cycles).count()) == 1);
    for (const host::Eviction& gone : answer.evictions) {
      const auto at = cache_.find(gone.address);
      REQUIRE(at != cache_.end());
      CHECK(at->second.arrived);
      CHECK(at->second.layer == gone.layer);
      CHECK(at->second.expert == gone.expert);
      CHECK(at->second.plane == gone.plane);
      for (const auto& [id, job] : open_) CHECK(job.addresses.count(gone.address) == 0);
      cache_.erase(at);
      log_ += "e" + std::to_string(gone.address) + " ";
    }
    for (const host::Descriptor& load : answer.loads) {
      const host::UnitSpan& span = bytes_.at(load.layer, load.expert).units[load.plane];
      CHECK(load.bytes == span.bytes);
      CHECK(load.source == config_.storage_base + bytes_.source(load.layer, load.expert) +
                               static_cast<std::uint64_t>(span.offset.count()));
      const std::uint64_t end = load.destination + static_cast<std::uint64_t>(load.bytes.count());
      CHECK(load.destination >= config_.cache_base);
      CHECK(end <= config_.cache_base + static_cast<std::uint64_t>(config_.capacity.count()));
      const auto after = cache_.lower_bound(load.destination);
      if (after != cache_.end()) CHECK(end <= after->first);
      if (after != cache_.begin()) CHECK(std::prev(after)->second.end <= load.destination);
      cache_[load.destination] = {end, load.layer, load.expert, load.plane, false};
      on_its_way_[load.id] = load.destination;
      loaded_ += load.bytes.count();
      log_ += "l" + std::to_string(load.id) + "@" + std::to_string(load.destination) + " ";
    }
    for (const host::JobPlan& plan : answer.jobs) {
      Open& job = open_.at(plan.id);
      CHECK(plan.layer == job.layer);
      CHECK(plan.expert == job.need.expert);
      job.planned = true;
      for (const host::DescriptorId id : plan.waits_for)
        if (on_its_way_.count(id) > 0) job.waits_for.insert(id);
      CHECK(plan.addresses.size() == bytes_.at(job.layer, job.need.expert).units_read(job.need.planes));
      for (std::uint32_t u = 0; u < plan.addresses.size(); ++u) {
        const auto at = cache_.find(plan.addresses[u]);
        REQUIRE(at != cache_.end());
        CHECK(at->second.layer == plan.layer);
        CHECK(at->second.expert == plan.expert);
        CHECK(at->second.plane == u);
        job.addresses.insert(plan.addresses[u]);
      }
      log_ += "j" + std::to_string(plan.id) + " ";
    }
  }

  void complete_something() {
    if (on_its_way_.empty() || !rng_.chance(1, 8)) return;
    const auto load = std::next(on_its_way_.begin(), static_cast<std::ptrdiff_t>(rng_.below(on_its_way_.size())));
    const host::DescriptorId id = load->first;
    cache_.at(load->second).arrived = true;
    on_its_way_.erase(load);
    for (auto& [job_id, job] : open_) job.waits_for.erase(id);
    events_.insert(now_.count());
    driver_.completed(now_, id);
  }

  void move_jobs() {
    for (auto job = open_.begin(); job != open_.end();) {
      Open& open = job->second;
      if (open.planned && !open.released && open.waits_for.empty()) {
        for (const std::uint64_t address : open.addresses) CHECK(cache_.at(address).arrived);
        driver_.released(now_, job->first);
        open.released = true;
      } else if (open.released && rng_.chance(1, 10)) {
        events_.insert(now_.count());
        const host::JobId id = job->first;
        job = open_.erase(job);
        driver_.finished(now_, id);
        continue;
      }
      ++job;
    }
  }

  const ExpertBytes& bytes_;
  DriverConfig config_;
  HostDriver driver_;
  base::Rng rng_;
  Cycles now_;
  std::map<host::JobId, Open> open_;
  std::map<std::uint64_t, Resident> cache_;
  std::map<host::DescriptorId, std::uint64_t> on_its_way_;
  std::set<std::int64_t> events_;
  std::int64_t loaded_ = 0;
  std::string log_;
};

DriverConfig config_of(const std::string& policy, std::int64_t capacity) {
  DriverConfig config;
  config.policy = policy;
  config.capacity = Bytes(capacity);
  config.cache_base = 1 << 16;
  config.storage_base = 4096;
  config.decision_cycles = Cycles(13);
  return config;
}

}  // namespace

TEST_CASE("no answer of the driver overlaps, overflows, evicts what a job reads, comes early or never comes",
          "[unit][host]") {
  const ExpertBytes bytes = two_kinds(3, 8);
  host::DriverStats all;
  for (const std::string& policy : host::eviction_policies().names())
    for (const char* prefetch : {"none", "next_layer", "perfect"})
      for (const std::int64_t capacity : {3328, 3800, 7000, 20000}) {
        CAPTURE(policy, prefetch, capacity);
        DriverConfig config = config_of(policy, capacity);
        config.prefetch.kind = prefetch;
        if (config.prefetch.kind == "next_layer") config.prefetch.recall = config.prefetch.precision = 0.7;
        if (policy == "pinned") config.popularity.assign(24, 3);
        RandomEngine engine(bytes, config, 5);
        const std::string log = engine.run(40);
        CHECK(engine.stats().jobs == 120);
        if (config.prefetch.kind == "none") CHECK(engine.stats().prefetched == Bytes(0));
        if (config.prefetch.kind != "none" && capacity > 4000) CHECK(engine.stats().prefetched > Bytes(0));
        all.fragmentation_evictions += engine.stats().fragmentation_evictions;
        all.repacked += engine.stats().repacked;
        all.waits += engine.stats().waits;
        all.hits += engine.stats().hits;
        if (capacity == 7000) CHECK(RandomEngine(bytes, config, 5).run(40) == log);
      }
  CHECK(all.fragmentation_evictions > 0);
  CHECK(all.repacked > 0);
  CHECK(all.waits > 0);
  CHECK(all.hits > 0);
}

TEST_CASE("a request for b planes loads units 0 to b and counts for each of them", "[unit][host]") {
  const ExpertBytes bytes = two_kinds(1, 3);
  HostDriver driver(bytes, config_of("lru", 20000), "test");
  // Expert 0 is read with 1 plane by 4 tokens and with 3 planes by 2.
  const auto jobs = driver.routed(Cycles(100), 0, {{0, 1, 4, 0}, {0, 3, 2, 0}});
  CHECK(jobs == std::vector<host::JobId>{1, 2});
  CHECK(driver.next_answer() == Cycles(113));
  CHECK_FALSE(driver.take(Cycles(112)).has_value());
  std::map<std::uint32_t, std::uint32_t> requests;
  std::vector<host::DescriptorId> loads;
  std::size_t plans = 0;
  while (const auto answer = driver.take(Cycles(113))) {
    for (const host::Descriptor& load : answer->loads) {
      requests[load.plane] += load.requests;
      loads.push_back(load.id);
    }
    for (const host::JobPlan& plan : answer->jobs) CHECK(plan.waits_for.size() == (plan.id == 1 ? 2u : 4u));
    plans += answer->jobs.size();
  }
  CHECK(plans == 2);
  CHECK(requests == std::map<std::uint32_t, std::uint32_t>{{0, 6}, {1, 6}, {2, 2}, {3, 2}});
  CHECK_THROWS_AS(driver.released(Cycles(114), 1), std::logic_error);
  driver.completed(Cycles(120), loads[0]);
  driver.completed(Cycles(120), loads[1]);
  driver.released(Cycles(121), 1);
  CHECK_THROWS_AS(driver.released(Cycles(121), 2), std::logic_error);
  CHECK_THROWS_AS(driver.finished(Cycles(121), 2), std::logic_error);
  CHECK_THROWS_AS(driver.completed(Cycles(121), loads[0]), std::logic_error);
  CHECK_THROWS_AS(driver.completed(Cycles(119), loads[2]), std::logic_error);
  driver.finished(Cycles(130), 1);
  CHECK_FALSE(driver.idle());
}

TEST_CASE("replayed steps leave the cache as the steps themselves with loads that come at once, and count nothing",
          "[unit][host]") {
  base::Rng rng(12);
  std::uint64_t evictions = 0, partly = 0;
  for (int round = 0; round < 60; ++round) {
    const ExpertBytes bytes = two_kinds(2, 5);
    DriverConfig config = config_of(rng.pick(host::eviction_policies().names()), rng.range(3328, 16000));
    config.popularity = {1, 5, 2, 7, 4, 3, 2, 9, 1, 6};
    HostDriver replayed(bytes, config, "test"), stepped(bytes, config, "test");
    std::uint64_t use = 0;
    const auto step = [&](std::uint32_t layer) {
      std::vector<Need> needs;
      for (std::uint32_t expert = 0; expert < 5; ++expert)
        if (rng.chance(1, 2))
          needs.push_back({expert, static_cast<int>(rng.range(1, 2)), 1, rng.chance(1, 4) ? UINT64_MAX : ++use + 10});
      replayed.replay(layer, needs);
      stepped.routed(Cycles(0), layer, needs);
      while (const auto answer = stepped.take(Cycles(1000000))) {
        evictions += answer->evictions.size();
        for (const host::Descriptor& load : answer->loads) stepped.completed(Cycles(0), load.id);
        for (const host::JobPlan& plan : answer->jobs) {
          stepped.released(Cycles(0), plan.id);
          stepped.finished(Cycles(0), plan.id);
        }
      }
    };
    for (int i = 0; i < 12; ++i) step(static_cast<std::uint32_t>(i % 2));
    INFO("round " << round << ", " << config.policy);
    for (std::uint32_t layer = 0; layer < 2; ++layer)
      for (std::uint32_t expert = 0; expert < 5; ++expert) {
        const HostDriver::Places places = replayed.places_of(layer, expert);
        REQUIRE(places == stepped.places_of(layer, expert));
        const auto there = std::count_if(places.begin(), places.end(), [](const auto& at) { return at.has_value(); });
        partly += there > 0 && static_cast<std::size_t>(there) < places.size() ? 1 : 0;
      }
    CHECK(replayed.resident_bytes() == stepped.resident_bytes());
    CHECK(replayed.idle());
    const host::DriverStats nothing = replayed.stats();
    CHECK((nothing.jobs == 0 && nothing.hits == 0 && nothing.loaded == Bytes(0) && nothing.evictions == 0 &&
           nothing.waits == 0 && nothing.repacked == 0 && nothing.fragmentation_evictions == 0));
    for (const host::LayerStats& of : replayed.layer_stats()) CHECK((of.jobs == 0 && of.loaded == Bytes(0)));
    // What is there hits, in both alike.
    std::vector<Need> all;
    for (std::uint32_t expert = 0; expert < 5; ++expert) all.push_back({expert, 1, 1, UINT64_MAX});
    const std::int64_t before = stepped.stats().hits;
    replayed.routed(Cycles(5), 1, all);
    stepped.routed(Cycles(5), 1, all);
    CHECK(replayed.stats().hits == stepped.stats().hits - before);
  }
  CHECK(evictions > 100);
  CHECK(partly > 20);
}

namespace {

/// Steps of random layers through a driver whose answers come at once, with a record of its own of what is there, in
/// whose order all leaves.
class PlanesInOrder {
 public:
  PlanesInOrder(const ExpertBytes& bytes, const DriverConfig& config, std::uint64_t seed)
      : bytes_(bytes), config_(config), driver_(bytes, config, "test"), rng_(seed) {}

  void run(int steps) {
    for (int step = 0; step < steps; ++step) {
      begin(static_cast<std::uint32_t>(rng_.below(bytes_.layers())));
      while (!driver_.idle() || !open_.empty()) {
        take();
        if (!on_their_way_.empty() && rng_.chance(1, 2)) {
          const auto load =
              std::next(on_their_way_.begin(), static_cast<std::ptrdiff_t>(rng_.below(on_their_way_.size())));
          const host::DescriptorId id = *load;
          on_their_way_.erase(load);
          driver_.completed(++now_, id);
        }
        finish();
      }
    }
    CHECK(driver_.stats().waits == 0);  // so no job gave up what it holds
  }
  std::size_t evictions = 0, alone = 0, planes_before_first = 0;

 private:
  struct Unit {
    std::uint32_t layer, expert, unit;
    friend bool operator<(const Unit& a, const Unit& b) {
      return std::tie(a.layer, a.expert, a.unit) < std::tie(b.layer, b.expert, b.unit);
    }
  };
  struct There {
    std::uint64_t begin = 0, end = 0;
  };
  struct Open {
    Unit top;  // its last unit
    bool planned = false;
    std::set<host::DescriptorId> waits_for;
  };

  void begin(std::uint32_t layer) {
    if (ran_.empty() || ran_.back() != layer) {
      ran_.erase(std::remove(ran_.begin(), ran_.end(), layer), ran_.end());
      ran_.push_back(layer);
    }
    std::vector<Need> needs;
    for (std::uint32_t expert = 0; expert < bytes_.experts(); ++expert)
      if (rng_.chance(1, 3)) needs.push_back({expert, static_cast<int>(rng_.range(1, 2)), 1, 0});
    for (const Need& need : needs)
      for (std::uint32_t u = static_cast<std::uint32_t>(need.planes) + 1; u-- > 0;)
        used_[{layer, need.expert, u}] = ++uses_;
    const auto ids = driver_.routed(++now_, layer, needs);
    for (std::size_t i = 0; i < ids.size(); ++i)
      open_[ids[i]] = {{layer, needs[i].expert, static_cast<std::uint32_t>(needs[i].planes)}, false, {}};
  }
  bool is_locked(const Unit& u) const {
    return std::any_of(open_.begin(), open_.end(), [&u](const auto& job) {
      const Unit& top = job.second.top;
      return top.layer == u.layer && top.expert == u.expert && u.unit <= top.unit;
    });
  }
  /// Whether a leaves before b: the layer that ran last before the running one, planes from the last to the first,
  /// then parameters, those used the longest ago.
  bool leaves_before(const Unit& a, const Unit& b) const {
    const auto age = [this](std::uint32_t layer) {  // 0: the layer before the running one
      const auto back = std::find(ran_.rbegin(), ran_.rend(), layer) - ran_.rbegin();
      return back == 0 ? static_cast<std::ptrdiff_t>(ran_.size()) : back - 1;
    };
    if (age(a.layer) != age(b.layer)) return age(a.layer) < age(b.layer);
    if (a.unit != b.unit) return a.unit > b.unit;
    return used_.at(a) < used_.at(b);
  }
  void take() {
    while (const auto answer = driver_.take(now_)) {
      for (const host::Eviction& gone : answer->evictions) {
        const Unit left{gone.layer, gone.expert, gone.plane};
        REQUIRE(there_.count(left) == 1);
        REQUIRE(there_.at(left).begin == gone.address);
        REQUIRE_FALSE(is_locked(left));
        for (const auto& [other, place] : there_)
          if (!is_locked(other) && leaves_before(other, left)) {
            FAIL("layer " << left.layer << ", expert " << left.expert << ", unit " << left.unit << " left before layer "
                          << other.layer << ", expert " << other.expert << ", unit " << other.unit);
          }
        there_.erase(left);
        ++evictions;
        alone += there_.count({left.layer, left.expert, 0});
        planes_before_first += left.unit > 1 ? 1 : 0;
      }
      for (const host::Descriptor& load : answer->loads) {
        const There place{load.destination, load.destination + static_cast<std::uint64_t>(load.bytes.count())};
        for (const auto& [other, at] : there_) REQUIRE((place.end <= at.begin || at.end <= place.begin));
        there_[{load.layer, load.expert, load.plane}] = place;
        on_their_way_.insert(load.id);
      }
      for (const host::JobPlan& plan : answer->jobs) {
        open_.at(plan.id).planned = true;
        open_.at(plan.id).waits_for = {plan.waits_for.begin(), plan.waits_for.end()};
      }
      std::uint64_t bytes = 0;
      for (const auto& [unit, place] : there_) {
        REQUIRE(place.begin >= config_.cache_base);
        REQUIRE(place.end <= config_.cache_base + static_cast<std::uint64_t>(config_.capacity.count()));
        bytes += place.end - place.begin;
      }
      REQUIRE(bytes <= static_cast<std::uint64_t>(config_.capacity.count()));
    }
  }
  void finish() {
    for (auto job = open_.begin(); job != open_.end();) {
      auto& waits_for = job->second.waits_for;
      for (auto load = waits_for.begin(); load != waits_for.end();)
        load = on_their_way_.count(*load) == 0 ? waits_for.erase(load) : std::next(load);
      if (!job->second.planned || !waits_for.empty() || rng_.chance(1, 2)) {
        ++job;
        continue;
      }
      const host::JobId id = job->first;
      job = open_.erase(job);
      driver_.released(++now_, id);
      driver_.finished(now_, id);
    }
  }

  const ExpertBytes& bytes_;
  DriverConfig config_;
  HostDriver driver_;
  base::Rng rng_;
  Cycles now_;
  std::vector<std::uint32_t> ran_;  // layers, the running one last
  std::map<Unit, std::uint64_t> used_;
  std::uint64_t uses_ = 0;
  std::map<Unit, There> there_;
  std::map<host::JobId, Open> open_;
  std::set<host::DescriptorId> on_their_way_;
};

/// Experts of parameters and three planes, all of one size.
ExpertBytes equal_units(std::uint32_t layers, std::uint32_t experts) {
  host::StoredExpert kind;
  kind.by_planes = true;
  for (int unit = 0; unit < 4; ++unit) {
    kind.units.push_back({kind.total, Bytes(128)});
    kind.total += Bytes(128);
  }
  kind.planes_read = 3;
  return ExpertBytes(layers, experts, kind);
}

}  // namespace

TEST_CASE("planes leave one by one, the layer's before first, its last planes before its first and its parameters last",
          "[unit][host]") {
  std::size_t evictions = 0, alone = 0, planes = 0;
  for (const bool equal : {true, false})
    for (const std::int64_t capacity : {14000, 20000, 30000}) {
      CAPTURE(equal, capacity);
      const ExpertBytes bytes = equal ? equal_units(4, 6) : two_kinds(4, 6);
      DriverConfig config = config_of("planes", equal ? capacity / 5 / 64 * 64 : capacity);
      config.decision_cycles = Cycles(0);
      PlanesInOrder engine(bytes, config, static_cast<std::uint64_t>(capacity));
      engine.run(150);
      evictions += engine.evictions;
      alone += engine.alone;
      planes += engine.planes_before_first;
    }
  CHECK(evictions > 1000);
  CHECK(alone > 500);  // so that the rest of the expert stayed
  CHECK(planes > 500);
}

TEST_CASE("a driver hits and loads what a replay of its steps does, where units have one size and a step fits",
          "[unit][host]") {
  base::Rng rng(17);
  std::int64_t hits = 0, partly = 0;
  for (int round = 0; round < 60; ++round) {
    const std::uint32_t layers = 3, experts = 6;
    const ExpertBytes bytes = equal_units(layers, experts);
    const std::string policy = host::eviction_policies().names()[static_cast<std::size_t>(round) % 5];
    struct Step {
      std::uint32_t layer;
      std::vector<Need> needs;
    };
    std::vector<Step> steps;
    host::ReplayTrace trace(layers, experts);
    for (std::uint32_t i = 0; i < 40; ++i) {
      Step step{i % layers, {}};
      for (std::uint32_t expert = 0; expert < experts; ++expert)
        if (rng.chance(1, 3)) step.needs.push_back({expert, static_cast<int>(rng.range(1, 3)), 1, 0});
      if (step.needs.empty()) continue;
      trace.add(step.layer, step.needs, false, i);
      steps.push_back(step);
    }
    // The number of each request's next one.
    std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> later;
    std::uint64_t request = trace.requests();
    for (auto step = steps.rbegin(); step != steps.rend(); ++step)
      for (auto need = step->needs.rbegin(); need != step->needs.rend(); ++need) {
        const auto [next, is_last] = later.try_emplace({step->layer, need->expert}, host::kNeverUsed);
        need->next_use = next->second;
        next->second = --request;
      }
    const std::int64_t capacity = 128 * rng.range(24, 60);  // a step's units are 24 at most
    host::ReplayConfig config;
    config.scope = host::Scope::kGlobal;
    config.access = host::Access::kSet;
    const host::ReplayResult replayed = host::replay(trace, bytes, config, {{policy, Bytes(capacity)}}, "test").front();

    DriverConfig of_driver = config_of(policy, capacity);
    of_driver.popularity = trace.popularity();
    HostDriver driver(bytes, of_driver, "test");
    for (const Step& step : steps) {
      driver.routed(Cycles(0), step.layer, step.needs);
      std::vector<host::JobId> planned;
      while (const auto answer = driver.take(Cycles(1000))) {
        for (const host::Descriptor& load : answer->loads) driver.completed(Cycles(0), load.id);
        for (const host::JobPlan& plan : answer->jobs) planned.push_back(plan.id);
      }
      REQUIRE(planned.size() == step.needs.size());
      for (const host::JobId id : planned) {
        driver.released(Cycles(0), id);
        driver.finished(Cycles(0), id);
      }
    }
    INFO("round " << round << ", " << policy << ", " << capacity);
    for (std::uint32_t layer = 0; layer < layers; ++layer) {
      const host::LayerStats& of = driver.layer_stats()[layer];
      CHECK(of.jobs == replayed.layers[layer].requests);
      CHECK(of.hits == replayed.layers[layer].hits);
      CHECK(of.loaded == replayed.layers[layer].loaded);
    }
    const host::ReplayCounts all = replayed.total();
    CHECK(driver.stats().fragmentation_evictions == 0);
    hits += all.hits;
    partly += (all.requested - all.loaded) / Bytes(128) > all.hits * 4 ? 1 : 0;
  }
  CHECK(hits > 300);
  CHECK(partly > 10);  // more bytes found than the hits' own
}

TEST_CASE("a driver refuses a cache smaller than one expert and an unknown policy", "[unit][host]") {
  const ExpertBytes bytes = two_kinds(2, 3);
  CHECK_THROWS_WITH(HostDriver(bytes, config_of("lru", 3327), "chip.yaml:9"),
                    "chip.yaml:9: capacity: got 3327 bytes, expected at least 3328 bytes, the largest expert");
  CHECK_THROWS_WITH(HostDriver(bytes, config_of("fifo", 9000), "chip.yaml:9"),
                    "chip.yaml:9: policy: got 'fifo', expected one of lru, lfu, belady, pinned, planes");
  CHECK_NOTHROW(HostDriver(bytes, config_of("lru", 3328), "chip.yaml:9"));
}
