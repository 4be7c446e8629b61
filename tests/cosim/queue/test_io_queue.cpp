#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "Vrtl_moe_io_queue_16.h"
#include "Vrtl_moe_io_queue_4.h"
#include "Vrtl_moe_io_queue_8.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/queue/io_queue.h"
#include "sim/program/load_order.h"

namespace moesaic::cosim {

using Catch::Matchers::Contains;
using program::Descriptor;
using program::LoadOrder;

namespace {

/// Twin and RTL of one size, bound.
template <class Rtl>
struct Bound {
  Verilated<Rtl> rtl;
  cycle::IoQueue twin;
  Lockstep bench;
  In<std::uint64_t>& order = bench.in("order_i", twin.order_i, rtl->order_i, 2);
  In<std::uint64_t>& credits = bench.in("credits_i", twin.credits_i, rtl->credits_i, 8);
  In<bool>& push_valid = bench.in("push_valid_i", twin.push_valid_i, rtl->push_valid_i);
  In<Descriptor>& push_desc = bench.in("push_desc_i", twin.push_desc_i, rtl->push_desc_i, 256);
  In<bool>& pass = bench.in("pass_i", twin.pass_i, rtl->pass_i);
  In<std::uint64_t>& pass_job = bench.in("pass_job_i", twin.pass_job_i, rtl->pass_job_i, 8);
  In<bool>& retire = bench.in("retire_i", twin.retire_i, rtl->retire_i);
  In<std::uint64_t>& retire_job = bench.in("retire_job_i", twin.retire_job_i, rtl->retire_job_i, 8);
  In<bool>& req_ready = bench.in("io_req_ready_i", twin.io_req_ready_i, rtl->io_req_ready_i);
  In<bool>& done_valid = bench.in("io_done_valid_i", twin.io_done_valid_i, rtl->io_done_valid_i);
  In<std::uint64_t>& done_id = bench.in("io_done_id_i", twin.io_done_id_i, rtl->io_done_id_i, 8);
  Out<bool>& push_accept = bench.out("push_accept_o", twin.push_accept_o, rtl->push_accept_o);
  Out<std::uint64_t>& room = bench.out("free_o", twin.free_o, rtl->free_o, 8);
  Out<std::uint64_t>& outstanding = bench.out("outstanding_o", twin.outstanding_o, rtl->outstanding_o, 8);
  Out<std::uint64_t>&used, &released, &fetchable;
  Out<bool>& req_valid = bench.out("io_req_valid_o", twin.io_req_valid_o, rtl->io_req_valid_o);
  Out<std::uint64_t>& req_id = bench.out("io_req_id_o", twin.io_req_id_o, rtl->io_req_id_o, 8);
  Out<std::uint64_t>& req_source = bench.out("io_req_source_o", twin.io_req_source_o, rtl->io_req_source_o, 48);
  Out<std::uint64_t>& req_destination =
      bench.out("io_req_destination_o", twin.io_req_destination_o, rtl->io_req_destination_o, 40);
  Out<std::uint64_t>& req_bytes = bench.out("io_req_bytes_o", twin.io_req_bytes_o, rtl->io_req_bytes_o, 32);
  Out<bool>& done_ready = bench.out("io_done_ready_o", twin.io_done_ready_o, rtl->io_done_ready_o);
  Out<bool>& error = bench.out("error_o", twin.error_o, rtl->error_o);
  Out<std::uint64_t>& activity = bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  Bound(const Options& options, const cycle::CoreParams& params)
      : twin("io_queue", params),
        bench(options, rtl),
        used(bench.out("jobs_used_o", twin.jobs_used_o, rtl->jobs_used_o, params.io_jobs)),
        released(bench.out("jobs_released_o", twin.jobs_released_o, rtl->jobs_released_o, params.io_jobs)),
        fetchable(bench.out("jobs_fetchable_o", twin.jobs_fetchable_o, rtl->jobs_fetchable_o, params.io_jobs)) {
    bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
    bench.on_reset([this] {
      order.write(0);
      credits.write(0);
      push(std::nullopt);
      move(pass, pass_job, std::nullopt);
      move(retire, retire_job, std::nullopt);
      req_ready.write(false);
      move(done_valid, done_id, std::nullopt);
    });
  }
  void push(const std::optional<Descriptor>& d) {
    push_valid.write(d.has_value());
    push_desc.write(d.value_or(Descriptor{}));
  }
  static void move(In<bool>& valid, In<std::uint64_t>& payload, const std::optional<std::uint64_t>& value) {
    valid.write(value.has_value());
    payload.write(value.value_or(0));
  }
};

cycle::CoreParams sizes(unsigned depth, unsigned credits, unsigned jobs) {
  cycle::CoreParams params;
  params.io_depth = depth;
  params.io_credits = credits;
  params.io_jobs = jobs;
  return params;
}

/// Few experts and few request counts, so that ties of every kind come up.
Descriptor random_descriptor(base::Rng& rng, unsigned jobs) {
  Descriptor d;
  d.job = static_cast<std::uint8_t>(rng.below(jobs));
  d.plane = static_cast<std::uint8_t>(rng.range(0, 8));
  d.last = rng.chance(1, 4);
  d.layer = static_cast<std::uint16_t>(rng.chance(1, 8) ? rng.below(65536) : rng.below(2));
  d.expert = static_cast<std::uint16_t>(rng.chance(1, 8) ? rng.below(65536) : rng.below(4));
  d.requests = static_cast<std::uint32_t>(rng.chance(1, 8) ? rng.next() : rng.below(4));
  d.bytes = static_cast<std::uint32_t>(1 + rng.below(1000));
  d.source = rng.below(std::uint64_t{1} << 48);
  d.destination = rng.below(std::uint64_t{1} << 40);
  return d;
}

/// What the block must do, kept apart from the twin: which descriptors wait, which requests are at the storage, what
/// each job still misses.
struct Expected {
  struct Job {
    unsigned missing = 0;
    bool used = false, closed = false, passed = false;
  };
  std::vector<Descriptor> waiting;
  std::map<std::uint64_t, Descriptor> at_storage;  // by id
  std::vector<Job> jobs;
  bool error = false;
  // As of the last edge, which is when a request that is new now was chosen.
  std::vector<Descriptor> waited;
  LoadOrder order_then = LoadOrder::kFifo;
  std::uint64_t credits_then = 0;
  bool offered = false;  // a request was on the port and stays
};

/// Pushes (a part of them refusable), credits and orders that change, completions in any order, now and then of a
/// request that nobody made.
template <class Rtl>
Report run_random(const Options& options, const cycle::CoreParams& params) {
  Bound<Rtl> port(options, params);
  Lockstep& bench = port.bench;
  base::Rng rng = bench.rng("stimuli");
  Pace push_pace(bench.rng("push")), ready_pace(bench.rng("ready")), done_pace(bench.rng("done"));
  Expected e;
  std::optional<std::uint64_t> done;
  bench.on_reset([&] {
    e = {};
    e.jobs.resize(params.io_jobs);
    done.reset();
  });
  bench.on_falling([&](std::uint64_t cycle) {
    if (cycle % 64 == 0 || rng.chance(1, 64)) {
      port.order.write(rng.below(3));
      port.credits.write(rng.chance(1, 2) ? params.io_credits : rng.below(params.io_credits + 1));
    }
    std::optional<Descriptor> pushed;
    if (push_pace.go()) {
      pushed = random_descriptor(rng, params.io_jobs);
      if (rng.chance(1, 16)) pushed->bytes = 0;
      if (rng.chance(1, 16)) pushed->plane = static_cast<std::uint8_t>(rng.range(9, 15));
      if (rng.chance(1, 16)) pushed->job = static_cast<std::uint8_t>(rng.range(params.io_jobs, 255));
    }
    port.push(pushed);
    // The core passes a job's wait once, and executes it then or later.
    std::optional<std::uint64_t> pass, retire;
    const std::uint64_t job = rng.below(params.io_jobs);
    if ((port.fetchable.read() >> job & 1) != 0 && rng.chance(1, 4)) pass = job;
    const std::uint64_t other = rng.chance(1, 2) ? job : rng.below(params.io_jobs);
    const bool passed = e.jobs[other].passed || pass == other;
    if ((port.released.read() >> other & 1) != 0 && passed && rng.chance(1, 2)) retire = other;
    port.move(port.pass, port.pass_job, pass);
    port.move(port.retire, port.retire_job, retire);
    port.req_ready.write(ready_pace.go());
    if (!done && done_pace.go()) {
      if (rng.chance(1, 400)) {
        done = rng.below(256);
      } else if (!e.at_storage.empty()) {
        done = std::next(e.at_storage.begin(), static_cast<std::ptrdiff_t>(rng.below(e.at_storage.size())))->first;
      }
    }
    port.move(port.done_valid, port.done_id, done);
  });
  bench.on_sample([&](std::uint64_t) {
    // A request that is new was chosen at the last edge.
    if (port.req_valid.read() && !e.offered) {
      if (e.waited.empty()) return bench.fail("a request came of nothing");
      const std::size_t next = program::next_load(e.waited, e.order_then);
      const Descriptor& d = e.waited[next];
      if (port.req_source.read() != d.source || port.req_destination.read() != d.destination ||
          port.req_bytes.read() != d.bytes) {
        bench.fail("a request is not for the descriptor that the order puts first");
      }
      if (e.at_storage.size() >= e.credits_then) bench.fail("a request went without a credit");
      if (e.at_storage.count(port.req_id.read()) != 0) bench.fail("an id is used twice");
      e.waiting.erase(e.waiting.begin() + static_cast<std::ptrdiff_t>(next));
      e.at_storage[port.req_id.read()] = d;
    }
    std::uint64_t used = 0, released = 0, fetchable = 0;
    for (std::size_t j = 0; j < e.jobs.size(); ++j) {
      const Expected::Job& job = e.jobs[j];
      const bool free = job.closed && job.missing == 0;
      used |= std::uint64_t{job.used} << j;
      released |= std::uint64_t{free} << j;
      fetchable |= std::uint64_t{free && !job.passed} << j;
    }
    if (port.used.read() != used) bench.fail("other jobs are in use");
    if (port.released.read() != released) bench.fail("a job is released with planes missing, or held without");
    if (port.fetchable.read() != fetchable) bench.fail("the fetch side may pass other waits");
    if (port.room.read() != params.io_depth - e.waiting.size()) bench.fail("another number of entries is free");
    if (port.outstanding.read() != e.at_storage.size()) bench.fail("another number of requests is outstanding");
    if (port.error.read() != e.error) bench.fail("the error flag is wrong");

    e.waited = e.waiting;
    e.order_then = static_cast<LoadOrder>(port.order.value());
    e.credits_then = port.credits.value();
    const bool accepted = port.req_valid.read() && port.req_ready.value();
    const std::uint64_t offered_id = port.req_id.read();
    if (port.done_valid.value() && port.done_ready.read()) {
      const auto request = e.at_storage.find(*done);
      // While it is on the port the storage has not got it.
      if (request == e.at_storage.end() || (port.req_valid.read() && offered_id == *done)) {
        e.error = true;
      } else {
        --e.jobs[request->second.job].missing;
        e.at_storage.erase(request);
        bench.count_transfer();
      }
      done.reset();
    }
    const Descriptor& d = port.push_desc.value();
    const bool legal = e.waiting.size() < params.io_depth && d.job < params.io_jobs && d.bytes > 0 && d.plane <= 8 &&
                       !e.jobs[d.job].closed;
    if (port.push_accept.read() != legal) bench.fail("a descriptor was taken or refused against the rules");
    if (port.push_valid.value() && legal) {
      e.waiting.push_back(d);
      Expected::Job& job = e.jobs[d.job];
      job.used = true;
      job.closed = job.closed || d.last;
      ++job.missing;
      bench.count_transfer();
    }
    if (port.pass.value()) e.jobs[port.pass_job.value()].passed = true;
    if (port.retire.value()) e.jobs[port.retire_job.value()] = {};
    e.offered = port.req_valid.read() && !accepted;
    if (accepted) bench.count_transfer();
  });
  return bench.run();
}

/// Sets of descriptors, each pushed whole while there are no credits; then the order must be the reference's.
template <class Rtl>
Report run_static(const Options& options, const cycle::CoreParams& params, LoadOrder order) {
  Bound<Rtl> port(options, params);
  Lockstep& bench = port.bench;
  base::Rng rng = bench.rng("stimuli");
  std::vector<Descriptor> set;
  std::vector<std::size_t> sequence;
  std::size_t pushed = 0, issued = 0;
  std::deque<std::uint64_t> at_storage;
  bool retiring = false;
  const auto begin = [&] {
    // A request for b bits counts for the ranks 1..b: counts fall with the rank.
    set.clear();
    for (std::uint16_t expert = 0; set.size() < params.io_depth; ++expert) {
      std::uint32_t requests = static_cast<std::uint32_t>(rng.range(1, 6));
      const std::int64_t planes = rng.range(1, 5);
      for (std::uint8_t plane = 1; plane <= planes && set.size() < params.io_depth; ++plane) {
        Descriptor d = random_descriptor(rng, 1);
        d.layer = 3;
        d.expert = expert;
        d.plane = plane;
        d.requests = requests;
        requests -= static_cast<std::uint32_t>(rng.below(2)) * (requests > 0 ? 1 : 0);
        set.push_back(d);
      }
    }
    rng.shuffle(set);
    for (Descriptor& d : set) d.last = &d == &set.back();
    sequence = program::load_sequence(set, order);
    pushed = issued = 0;
    retiring = false;
  };
  bench.on_reset([&] {
    at_storage.clear();
    begin();
  });
  bench.on_falling([&](std::uint64_t) {
    if (retiring) begin();
    port.order.write(static_cast<std::uint64_t>(order));
    const bool pushes = pushed < set.size();
    port.credits.write(pushes ? 0 : params.io_credits);
    port.push(pushes ? std::optional<Descriptor>(set[pushed]) : std::nullopt);
    port.req_ready.write(true);
    std::optional<std::uint64_t> done;
    if (!at_storage.empty()) done = at_storage.front();
    port.move(port.done_valid, port.done_id, done);
    retiring = (port.fetchable.read() & 1) != 0;
    const auto job = retiring ? std::optional<std::uint64_t>(0) : std::nullopt;
    port.move(port.pass, port.pass_job, job);
    port.move(port.retire, port.retire_job, job);
  });
  bench.on_sample([&](std::uint64_t) {
    if (port.done_valid.value()) at_storage.pop_front();
    if (port.push_valid.value()) ++pushed;
    if (!port.req_valid.read()) return;
    at_storage.push_back(port.req_id.read());
    if (issued == sequence.size() || port.req_source.read() != set[sequence[issued]].source)
      bench.fail("the block issues in another order than the reference");
    ++issued;
    bench.count_transfer();
  });
  return bench.run();
}

template <class Rtl>
Report forked(const std::string& title, std::uint64_t seed, const cycle::CoreParams& params) {
  return run_forked([&] { return run_random<Rtl>(Options::from_environment(title, seed, 30000), params); });
}

}  // namespace

TEST_CASE("the I/O queue issues by its order within its credits and releases a job with its last plane",
          "[cosim][queue]") {
  const std::string title =
      "the I/O queue issues by its order within its credits and releases a job with its last plane";
  const Report small = forked<Vrtl_moe_io_queue_4>(title, 11, sizes(4, 1, 2));
  INFO(small.message);
  CHECK(small.ok());
  CHECK(small.transfers > 3000);
  const Report middle = forked<Vrtl_moe_io_queue_8>(title, 12, sizes(8, 4, 4));
  INFO(middle.message);
  CHECK(middle.ok());
  CHECK(middle.transfers > 5000);
  const Report large = forked<Vrtl_moe_io_queue_16>(title, 13, sizes(16, 8, 16));
  INFO(large.message);
  CHECK(large.ok());
  CHECK(large.transfers > 5000);
}

TEST_CASE("without stalls the I/O queue issues in exactly the reference's order", "[cosim][queue]") {
  const std::string title = "without stalls the I/O queue issues in exactly the reference's order";
  for (const LoadOrder order : {LoadOrder::kFifo, LoadOrder::kExpertIndex, LoadOrder::kHebf}) {
    INFO(program::kLoadOrderNames[static_cast<std::size_t>(order)]);
    const Report r = run_forked([&] {
      return run_static<Vrtl_moe_io_queue_16>(Options::from_environment(title, 14, 8000), sizes(16, 8, 16), order);
    });
    INFO(r.message);
    CHECK(r.ok());
    CHECK(r.transfers > 2000);
  }
}

TEST_CASE("a flipped bit of the I/O queue is reported", "[cosim][queue]") {
  for (const char* name : {"jobs_released_o", "io_req_id_o", "activity_o"}) {
    Options options = Options::from_environment("a flipped bit of the I/O queue is reported", 15, 5000);
    options.injection = {name, 0, 300};
    const Report r = run_forked([&] { return run_random<Vrtl_moe_io_queue_8>(options, sizes(8, 4, 4)); });
    CHECK(r.differences == 1);
    CHECK_THAT(r.message, Contains(name));
  }
}

}  // namespace moesaic::cosim
