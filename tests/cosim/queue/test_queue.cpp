#include <catch2/catch.hpp>
#include <deque>

#include "Vrtl_moe_axil_regs.h"
#include "Vrtl_moe_command_queue_16.h"
#include "Vrtl_moe_command_queue_4.h"
#include "Vrtl_moe_counters.h"
#include "Vrtl_moe_fetch_dispatch.h"
#include "sim/cosim/lockstep.h"
#include "sim/cycle/queue/axil_regs.h"
#include "sim/cycle/queue/command_queue.h"
#include "sim/cycle/queue/counters.h"
#include "sim/cycle/queue/fetch_dispatch.h"

namespace moesaic::cosim {

using Catch::Matchers::Contains;
using program::Command;
using program::Opcode;

namespace {

Command random_command(base::Rng& rng) {
  program::CommandWords words;
  for (auto& word : words) word = static_cast<std::uint32_t>(rng.next());
  Command command = Command::unpack(words);
  command.opcode = static_cast<Opcode>(rng.range(1, 5));
  command.job = static_cast<std::uint8_t>(rng.chance(1, 8) ? rng.below(256) : rng.below(4));
  return command;
}

bool is_wait(const Command& command, unsigned jobs) { return command.opcode == Opcode::kWait && command.job < jobs; }

/// Commands go in at random; both sides must see them in order, the fetch side the matmuls only, none behind a wait
/// whose job is not released; no matmul may leave before its fetch was taken. A wait for a job that does not exist
/// holds nothing up.
template <class Rtl>
Report run_queue(const Options& options, unsigned depth) {
  cycle::CoreParams params;
  params.command_depth = depth;
  Verilated<Rtl> rtl;
  cycle::CommandQueue twin("queue", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& push_valid = bench.in("push_valid_i", twin.push_valid_i, rtl->push_valid_i);
  auto& push_cmd = bench.in("push_cmd_i", twin.push_cmd_i, rtl->push_cmd_i, 32 * program::kCommandWords);
  auto& fetch_ready = bench.in("fetch_ready_i", twin.fetch_ready_i, rtl->fetch_ready_i);
  auto& exec_ready = bench.in("exec_ready_i", twin.exec_ready_i, rtl->exec_ready_i);
  auto& fetchable = bench.in("fetchable_i", twin.fetchable_i, rtl->fetchable_i, params.io_jobs);
  auto& pass = bench.out("pass_o", twin.pass_o, rtl->pass_o);
  auto& pass_job = bench.out("pass_job_o", twin.pass_job_o, rtl->pass_job_o, 8);
  bench.out("push_ready_o", twin.push_ready_o, rtl->push_ready_o);
  auto& fetch_valid = bench.out("fetch_valid_o", twin.fetch_valid_o, rtl->fetch_valid_o);
  auto& fetch_cmd = bench.out("fetch_cmd_o", twin.fetch_cmd_o, rtl->fetch_cmd_o, 32 * program::kCommandWords);
  auto& exec_valid = bench.out("exec_valid_o", twin.exec_valid_o, rtl->exec_valid_o);
  auto& exec_cmd = bench.out("exec_cmd_o", twin.exec_cmd_o, rtl->exec_cmd_o, 32 * program::kCommandWords);
  auto& room = bench.out("free_o", twin.free_o, rtl->free_o, 8);
  bench.out("activity_o", twin.activity_o, rtl->activity_o, 2);

  base::Rng rng = bench.rng("stimuli");
  Pace push_pace(bench.rng("push")), exec_pace(bench.rng("exec"));
  std::deque<Command> to_fetch, to_execute;  // to_fetch: matmuls and waits
  std::size_t fetched = 0, matmuls_done = 0, passed = 0, waits_done = 0;
  std::uint64_t released = 0;
  bench.on_reset([&] {
    push_valid.write(false);
    push_cmd.write({});
    exec_ready.write(false);
    fetchable.write(0);
    to_fetch.clear();
    to_execute.clear();
    fetched = matmuls_done = passed = waits_done = 0;
    released = 0;
  });
  bench.on_falling([&](std::uint64_t) {
    const bool push = room.read() != 0 && push_pace.go();
    push_valid.write(push);
    push_cmd.write(push ? random_command(rng) : Command{});
    if (rng.chance(1, 8)) released |= std::uint64_t{1} << rng.below(params.io_jobs);
    fetchable.write(released);
    // The core executes a matmul only once its fetch has been taken, a wait only once its job is released.
    const Command& next = exec_cmd.read();
    const bool free = !is_wait(next, params.io_jobs) || passed > waits_done || (released >> next.job & 1) != 0;
    const bool legal = exec_valid.read() && free && (next.opcode != Opcode::kMatmul || fetched > matmuls_done);
    exec_ready.write(legal && exec_pace.go());
  });
  Sink fetch(bench, "fetch", fetch_ready, fetch_valid, [&] {
    if (to_fetch.empty() || fetch_cmd.read() != to_fetch.front())
      bench.fail("the fetch side saw another command than the next matmul");
    if (!to_fetch.empty()) to_fetch.pop_front();
    ++fetched;
  });
  bench.on_sample([&](std::uint64_t) {
    if (pass.read()) {
      if (to_fetch.empty() || !is_wait(to_fetch.front(), params.io_jobs) || to_fetch.front().job != pass_job.read())
        bench.fail("the fetch side passed something else than the next wait");
      if ((released >> pass_job.read() & 1) == 0) bench.fail("the fetch side passed a wait for a job not released");
      if (!to_fetch.empty()) to_fetch.pop_front();
      released &= ~(std::uint64_t{1} << pass_job.read());
      ++passed;
    }
    if (exec_valid.read() && exec_ready.value()) {
      if (to_execute.empty() || exec_cmd.read() != to_execute.front()) bench.fail("commands left out of order");
      if (exec_cmd.read().opcode == Opcode::kMatmul) ++matmuls_done;
      if (is_wait(exec_cmd.read(), params.io_jobs)) ++waits_done;
      if (!to_execute.empty()) to_execute.pop_front();
      bench.count_transfer();
    }
    if (push_valid.value()) {
      to_execute.push_back(push_cmd.value());
      const Command& pushed = push_cmd.value();
      if (pushed.opcode == Opcode::kMatmul || is_wait(pushed, params.io_jobs)) to_fetch.push_back(pushed);
    }
    if (waits_done > passed) bench.fail("a wait left before the fetch side had passed it");
    if (room.read() > depth || to_execute.size() > depth) bench.fail("the queue holds more than its depth");
  });
  return bench.run();
}

Report run_dispatch(const Options& options) {
  Verilated<Vrtl_moe_fetch_dispatch> rtl;
  cycle::FetchDispatch twin("dispatch");
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& in_valid = bench.in("in_valid_i", twin.in_valid_i, rtl->in_valid_i);
  auto& in_cmd = bench.in("in_cmd_i", twin.in_cmd_i, rtl->in_cmd_i, 32 * program::kCommandWords);
  auto& fetch_ready = bench.in("fetch_ready_i", twin.fetch_ready_i, rtl->fetch_ready_i);
  auto& load_ready = bench.in("load_ready_i", twin.load_ready_i, rtl->load_ready_i);
  auto& in_ready = bench.out("in_ready_o", twin.in_ready_o, rtl->in_ready_o);
  auto& fetch_valid = bench.out("fetch_valid_o", twin.fetch_valid_o, rtl->fetch_valid_o);
  auto& fetch_cmd = bench.out("fetch_cmd_o", twin.fetch_cmd_o, rtl->fetch_cmd_o, 32 * program::kCommandWords);
  auto& load_valid = bench.out("load_valid_o", twin.load_valid_o, rtl->load_valid_o);
  auto& load_cmd = bench.out("load_cmd_o", twin.load_cmd_o, rtl->load_cmd_o, 32 * program::kCommandWords);
  base::Rng rng = bench.rng("stimuli");
  std::deque<Command> to_fetch, to_load;
  bench.on_reset([&] {
    to_fetch.clear();
    to_load.clear();
  });
  Source source(
      bench, "in", in_valid, in_ready,
      [&] {
        in_cmd.write(random_command(rng));
        return true;
      },
      [&] { in_cmd.write({}); },
      [&] {
        to_fetch.push_back(in_cmd.value());
        to_load.push_back(in_cmd.value());
      });
  const auto take = [&bench](std::deque<Command>& expected, const Command& got) {
    if (expected.empty() || expected.front() != got) bench.fail("a copy came out of order");
    if (!expected.empty()) expected.pop_front();
  };
  Sink fetch(bench, "fetch", fetch_ready, fetch_valid, [&] { take(to_fetch, fetch_cmd.read()); });
  Sink load(bench, "load", load_ready, load_valid, [&] { take(to_load, load_cmd.read()); });
  return bench.run();
}

Report run_regs(const Options& options) {
  cycle::CoreParams params;
  params.rows = 16;
  params.cols = 32;
  params.command_depth = 4;
  Verilated<Vrtl_moe_axil_regs> rtl;
  cycle::AxilRegs twin("regs", params);
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  auto& aw_valid = bench.in("axil_aw_valid_i", twin.axil_aw_valid_i, rtl->axil_aw_valid_i);
  auto& aw_addr = bench.in("axil_aw_addr_i", twin.axil_aw_addr_i, rtl->axil_aw_addr_i, 12);
  auto& w_valid = bench.in("axil_w_valid_i", twin.axil_w_valid_i, rtl->axil_w_valid_i);
  auto& w_data = bench.in("axil_w_data_i", twin.axil_w_data_i, rtl->axil_w_data_i, 32);
  auto& w_strb = bench.in("axil_w_strb_i", twin.axil_w_strb_i, rtl->axil_w_strb_i, 4);
  auto& b_ready = bench.in("axil_b_ready_i", twin.axil_b_ready_i, rtl->axil_b_ready_i);
  auto& ar_valid = bench.in("axil_ar_valid_i", twin.axil_ar_valid_i, rtl->axil_ar_valid_i);
  auto& ar_addr = bench.in("axil_ar_addr_i", twin.axil_ar_addr_i, rtl->axil_ar_addr_i, 12);
  auto& r_ready = bench.in("axil_r_ready_i", twin.axil_r_ready_i, rtl->axil_r_ready_i);
  auto& room = bench.in("push_free_i", twin.push_free_i, rtl->push_free_i, 8);
  auto& busy = bench.in("busy_i", twin.busy_i, rtl->busy_i);
  auto& shift_error = bench.in("shift_error_i", twin.shift_error_i, rtl->shift_error_i);
  auto& resp_error = bench.in("resp_error_i", twin.resp_error_i, rtl->resp_error_i);
  auto& command_error = bench.in("command_error_i", twin.command_error_i, rtl->command_error_i);
  auto& io_error = bench.in("io_error_i", twin.io_error_i, rtl->io_error_i);
  auto& io_accept = bench.in("io_push_accept_i", twin.io_push_accept_i, rtl->io_push_accept_i);
  auto& io_free = bench.in("io_free_i", twin.io_free_i, rtl->io_free_i, 8);
  auto& io_outstanding = bench.in("io_outstanding_i", twin.io_outstanding_i, rtl->io_outstanding_i, 8);
  auto& io_used = bench.in("io_jobs_used_i", twin.io_jobs_used_i, rtl->io_jobs_used_i, 16);
  auto& io_released = bench.in("io_jobs_released_i", twin.io_jobs_released_i, rtl->io_jobs_released_i, 16);
  auto& window_data = bench.in("window_data_i", twin.window_data_i, rtl->window_data_i, 32);
  auto& aw_ready = bench.out("axil_aw_ready_o", twin.axil_aw_ready_o, rtl->axil_aw_ready_o);
  auto& w_ready = bench.out("axil_w_ready_o", twin.axil_w_ready_o, rtl->axil_w_ready_o);
  auto& b_valid = bench.out("axil_b_valid_o", twin.axil_b_valid_o, rtl->axil_b_valid_o);
  auto& b_resp = bench.out("axil_b_resp_o", twin.axil_b_resp_o, rtl->axil_b_resp_o, 2);
  auto& ar_ready = bench.out("axil_ar_ready_o", twin.axil_ar_ready_o, rtl->axil_ar_ready_o);
  auto& r_valid = bench.out("axil_r_valid_o", twin.axil_r_valid_o, rtl->axil_r_valid_o);
  auto& r_data = bench.out("axil_r_data_o", twin.axil_r_data_o, rtl->axil_r_data_o, 32);
  auto& r_resp = bench.out("axil_r_resp_o", twin.axil_r_resp_o, rtl->axil_r_resp_o, 2);
  auto& push_valid = bench.out("push_valid_o", twin.push_valid_o, rtl->push_valid_o);
  bench.out("push_cmd_o", twin.push_cmd_o, rtl->push_cmd_o, 32 * program::kCommandWords);
  auto& io_push_valid = bench.out("io_push_valid_o", twin.io_push_valid_o, rtl->io_push_valid_o);
  bench.out("io_push_desc_o", twin.io_push_desc_o, rtl->io_push_desc_o, 256);
  auto& io_order = bench.out("io_order_o", twin.io_order_o, rtl->io_order_o, 2);
  auto& io_credits = bench.out("io_credits_o", twin.io_credits_o, rtl->io_credits_o, 8);
  bench.out("snapshot_o", twin.snapshot_o, rtl->snapshot_o);
  bench.out("window_addr_o", twin.window_addr_o, rtl->window_addr_o, 10);

  base::Rng rng = bench.rng("stimuli");
  std::deque<std::uint64_t> writes, reads;  // addresses not yet answered
  std::uint64_t pushes = 0, accepted = 0, io_pushes = 0, io_accepted = 0;
  const auto address = [&rng]() -> std::uint64_t {
    switch (rng.below(9)) {
      case 6:
        return program::kRegIoPush;
      case 7:
        return program::kRegIoStaging + 4 * rng.below(8);
      case 8:
        return rng.chance(1, 2) ? program::kRegIoOrder : program::kRegIoCredits;
      case 0:
        return program::kRegPush;
      case 1:
        return program::kRegStaging + 4 * rng.below(32);
      case 2:
        return program::kRegCounters + 4 * rng.below(128);
      case 3:
        return 4 * rng.below(24);
      case 4:
        return program::kRegSnapshot;
      default:
        return rng.below(4096);
    }
  };
  bench.on_reset([&] {
    writes.clear();
    reads.clear();
    pushes = accepted = io_pushes = io_accepted = 0;
  });
  bench.on_falling([&](std::uint64_t) {
    room.write(rng.below(5));
    busy.write(rng.chance(1, 2));
    shift_error.write(rng.chance(1, 2));
    resp_error.write(rng.chance(1, 2));
    command_error.write(rng.chance(1, 2));
    io_error.write(rng.chance(1, 2));
    io_accept.write(rng.chance(1, 2));
    io_free.write(rng.below(256));
    io_outstanding.write(rng.below(256));
    io_used.write(rng.below(65536));
    io_released.write(rng.below(65536));
    window_data.write(rng.below(std::uint64_t{1} << 32));
  });
  Source aw(
      bench, "aw", aw_valid, aw_ready, [&] { return aw_addr.write(address()), true; }, [&] { aw_addr.write(0); },
      [&] { writes.push_back(aw_addr.value()); });
  Source w(
      bench, "w", w_valid, w_ready,
      [&] {
        w_data.write(rng.chance(1, 4) ? rng.below(16) : rng.below(std::uint64_t{1} << 28));
        w_strb.write(rng.chance(7, 8) ? 15 : rng.below(16));
        return true;
      },
      [&] {
        w_data.write(0);
        w_strb.write(0);
      });
  Source ar(
      bench, "ar", ar_valid, ar_ready, [&] { return ar_addr.write(address()), true; }, [&] { ar_addr.write(0); },
      [&] { reads.push_back(ar_addr.value()); });
  Sink b(bench, "b", b_ready, b_valid, [&] {
    const std::uint64_t to = writes.front();
    if (to == program::kRegPush && b_resp.read() == 0) ++accepted;
    if (to == program::kRegIoPush && b_resp.read() == 0) ++io_accepted;
    const bool writable =
        to == program::kRegPush || to == program::kRegSnapshot || to == program::kRegIoPush ||
        to == program::kRegIoOrder || to == program::kRegIoCredits ||
        (to % 4 == 0 && to >= program::kRegStaging && to < program::kRegStaging + 4 * program::kCommandWords) ||
        (to % 4 == 0 && to / 32 == program::kRegIoStaging / 32);
    if (!writable && b_resp.read() != 2) bench.fail("a write to an address that takes none was not refused");
    writes.pop_front();
  });
  Sink r(bench, "r", r_ready, r_valid, [&] {
    const std::uint64_t at = reads.front();
    reads.pop_front();
    if (at == program::kRegIdentity && r_data.read() != program::kIdentityValue)
      bench.fail("identity reads as another value");
    if (at == program::kRegRows && r_data.read() != 16) bench.fail("rows read as another value");
    if (at % 4 != 0 && r_resp.read() != 2) bench.fail("an unaligned read was not refused");
  });
  bench.on_sample([&](std::uint64_t) {
    if (push_valid.read()) ++pushes;
    if (io_push_valid.read() && io_accept.value()) ++io_pushes;
    if (io_accepted > io_pushes) bench.fail("a descriptor was acknowledged that was not accepted");
    if (io_order.read() > 2 || io_credits.read() > params.io_credits) bench.fail("a setting is out of its range");
    if (accepted > pushes) bench.fail("a push was acknowledged that did not happen");
  });
  return bench.run();
}

Report run_counters(const Options& options) {
  Verilated<Vrtl_moe_counters> rtl;
  cycle::Counters twin("counters");
  Lockstep bench(options, rtl);
  bench.clock(twin.clk_i, rtl->clk_i, twin.rst_ni, rtl->rst_ni);
  std::vector<std::unique_ptr<sc_core::sc_signal<std::uint64_t>>> activity;
  for (auto& port : twin.activity_i) {
    activity.push_back(std::make_unique<sc_core::sc_signal<std::uint64_t>>(sc_core::sc_gen_unique_name("activity")));
    port(*activity.back());
  }
  auto& snapshot = bench.in("snapshot_i", twin.snapshot_i, rtl->snapshot_i);
  auto& address = bench.in("window_addr_i", twin.window_addr_i, rtl->window_addr_i, 10);
  auto& data = bench.out("window_data_o", twin.window_data_o, rtl->window_data_o, 32);
  base::Rng rng = bench.rng("stimuli");
  std::array<std::array<std::uint64_t, 4>, program::kNumBlocks> live{}, taken{};
  bench.on_reset([&] {
    live = {};
    taken = {};
    rtl->activity_i = 0;
    for (auto& signal : activity) signal->write(0);
    snapshot.write(false);
    address.write(0);
  });
  bench.on_falling([&](std::uint64_t) {
    std::uint32_t packed = 0;
    for (std::size_t b = 0; b < activity.size(); ++b) {
      const std::uint64_t value = rng.below(4);
      activity[b]->write(value);
      packed |= static_cast<std::uint32_t>(value) << (2 * b);
    }
    rtl->activity_i = packed;
    snapshot.write(rng.chance(1, 16));
    address.write(rng.chance(1, 8) ? rng.below(1024)
                                   : (program::kRegCounters / 4 + rng.below(8 * program::kNumBlocks)));
  });
  bench.on_sample([&](std::uint64_t) {
    const std::uint64_t word = address.value();
    if (word >= program::kRegCounters / 4 && word < program::kRegCounters / 4 + 8 * program::kNumBlocks) {
      const std::uint64_t index = word - program::kRegCounters / 4;
      const std::uint64_t expected = index % 2 == 0 ? taken[index / 8][index / 2 % 4] : 0;
      if (data.read() != expected) bench.fail("a window shows another count than that of the snapshot");
    }
    if (snapshot.value()) taken = live;
    for (std::size_t b = 0; b < activity.size(); ++b) ++live[b][activity[b]->read()];
    bench.count_transfer();
  });
  return bench.run();
}

}  // namespace

TEST_CASE("the command queue keeps its order and its fetch side runs ahead without passing it", "[cosim][queue]") {
  const std::string title = "the command queue keeps its order and its fetch side runs ahead without passing it";
  const Report deep =
      run_forked([&] { return run_queue<Vrtl_moe_command_queue_16>(Options::from_environment(title, 1, 20000), 16); });
  INFO(deep.message);
  CHECK(deep.ok());
  CHECK(deep.transfers > 1000);
  const Report shallow =
      run_forked([&] { return run_queue<Vrtl_moe_command_queue_4>(Options::from_environment(title, 2, 20000), 4); });
  INFO(shallow.message);
  CHECK(shallow.ok());
}

TEST_CASE("the fetch dispatch gives both sides every command in order", "[cosim][queue]") {
  const std::string title = "the fetch dispatch gives both sides every command in order";
  const Report r = run_forked([&] { return run_dispatch(Options::from_environment(title, 3, 10000)); });
  INFO(r.message);
  CHECK(r.ok());
  CHECK(r.transfers > 1000);
}

TEST_CASE("the registers answer every access and push only what they acknowledge", "[cosim][queue]") {
  const std::string title = "the registers answer every access and push only what they acknowledge";
  const Report r = run_forked([&] { return run_regs(Options::from_environment(title, 4, 30000)); });
  INFO(r.message);
  CHECK(r.ok());
  CHECK(r.transfers > 3000);
}

TEST_CASE("the counters show the snapshot of every block's activity", "[cosim][queue]") {
  const std::string title = "the counters show the snapshot of every block's activity";
  const Report r = run_forked([&] { return run_counters(Options::from_environment(title, 5, 20000)); });
  INFO(r.message);
  CHECK(r.ok());
}

TEST_CASE("a flipped bit of the command queue is reported", "[cosim][queue]") {
  Options options = Options::from_environment("a flipped bit of the command queue is reported", 1, 5000);
  options.injection = {"free_o", 1, 100};
  const Report r = run_forked([&] { return run_queue<Vrtl_moe_command_queue_4>(options, 4); });
  CHECK(r.differences == 1);
  CHECK_THAT(r.message, Contains("free_o"));
}

}  // namespace moesaic::cosim
