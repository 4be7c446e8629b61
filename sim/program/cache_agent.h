#pragma once
/// The agent of a run whose experts lie in a storage: drives the host driver (models/host) and makes commands and
/// descriptors of what it decides. docs/cache.md.
///
///   a phase begins      when what it waits for is over, as a TimedPhase does (timed_program.h). Jobs whose weights are
///                       in the memory (shared experts, products) are offered. If routed experts take part, their
///                       routing is known: the driver hears of them (routed)
///   an answer is due    its loads are offered, of each expert the parameters first, then rank by rank (cache_block.h).
///                       The loads of one answer are one job of the I/O queue, pushed when an entry is free
///   a load completes    the driver hears of it (completed). When all loads of an I/O job have, its `wait` is offered,
///                       which frees the entry
///   a job has all       that it reads: the rows of one expert that read as many planes of it are one job. The driver
///   hears of it (released) and the job's commands are offered, with its
///                       planes' addresses: so jobs compute in the order in which their planes came, those that were
///                       there first. When all of a phase are offered, the combination follows
///   a job's last
///   command executed    the driver may evict what it read (finished)
///   the last phase ends loads not yet offered are dropped; those on their way are awaited
///
/// Several things at one edge are taken in the order of HostAgent's contract; of jobs that become ready at once the one
/// that was routed first goes first.
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/host/host_driver.h"
#include "sim/program/cache_block.h"
#include "sim/program/cache_config.h"
#include "sim/program/host_agent.h"
#include "sim/program/layer_program.h"
#include "sim/program/phase_source.h"

namespace moesaic::program {

class CacheAgent final : public HostAgent {
 public:
  /// Tag of a `wait`; commands of the program have their index.
  static constexpr std::uint64_t kWaitTag = UINT64_MAX;

  /// The source's run was lowered with an Offloading; it outlives the agent. `io_jobs`: entries of the I/O queue.
  /// ConfigError (`where`) for what the driver refuses.
  CacheAgent(PhaseSource& source, const CacheConfig& config, unsigned io_jobs, const std::string& where);
  /// The same of a whole program, which outlives the agent.
  CacheAgent(const RunProgram& program, const CacheConfig& config, unsigned io_jobs, const std::string& where);

  IoSettings settings() const override;
  const MemoryImage* storage() const override { return &stored_.storage; }
  /// Experts that are there from the beginning, and nothing in the rest of the cache. An image without bytes will do.
  std::vector<ByteRange> prepare(MemoryImage& image) override;
  /// jobs, hits, loads, bytes and evictions, as host::DriverStats counts them; what was there at the start; what was
  /// dropped at the end.
  std::size_t executed_waits() const override { return executed_waits_; }
  std::vector<memory::Counter> counters() const override;
  std::vector<EngineRun::CacheOfLayer> cache_layers() const override;

 private:
  /// The loads of one answer: one job of the I/O queue.
  struct Group {
    std::size_t pieces = 0;       // not completed
    std::optional<unsigned> job;  // entry of the I/O queue
  };
  struct Piece {
    Descriptor descriptor;
    std::uint64_t group = 0;
    host::DescriptorId load = 0;
  };
  struct Job {            // of the driver
    std::size_t job = 0;  // of the running phase
    std::vector<std::uint64_t> places;
    std::size_t waits_for = 0;
  };
  struct Executed {  // what the execution of an offered command means
    std::optional<unsigned> frees;
    std::optional<host::JobId> finishes;
  };

  void on_begin() override { plan_phase(0); }
  void on_command_pushed(std::uint64_t) override { name_idle_cycles(); }
  void on_load_pushed(std::uint64_t) override {
    ++pushed_;
    name_idle_cycles();
  }
  void on_load_completed(std::size_t load, std::uint64_t now) override;
  void on_command_executed(std::uint64_t now) override;
  void on_phase_ended(std::uint64_t now) override;
  void on_woken(std::uint64_t now) override;

  /// One of the two is given.
  CacheAgent(std::unique_ptr<PhaseSource> own, PhaseSource* source, const CacheConfig& config, unsigned io_jobs,
             const std::string& where);
  std::uint64_t use_of(std::uint64_t job) const;
  void start_popular();
  void replay_earlier();
  void plan_phase(std::uint64_t now);
  void begin_phase(std::uint64_t now);
  const LoweredPhase& running() { return source_.phase(phase_index_); }
  std::vector<std::size_t> offloaded_jobs(const LoweredPhase& phase) const;
  std::vector<host::Need> needs_of(const LoweredPhase& phase, const std::vector<std::size_t>& jobs);
  std::vector<host::Need> coming_needs(const LoweredPhase& phase, const std::vector<std::size_t>& jobs);
  std::uint32_t layer_index(int layer) const;
  std::size_t number(std::uint32_t layer, int expert) const;
  void settle(std::uint64_t now);
  void take(const host::Answer& answer, std::uint64_t now);
  void add_loads(const std::vector<host::Descriptor>& loads);
  void offer_loads();
  void offer_wait(const Group& group);
  void offer_job(host::JobId id, std::uint64_t now);
  void offer_commands(std::size_t job, const Job* placed, std::optional<host::JobId> id);
  void end_if_all_offered();
  void name_idle_cycles();
  void finish_when_quiet();

  std::unique_ptr<PhaseSource> own_;  // of a whole program
  PhaseSource& source_;
  const OffloadedExperts& stored_;
  CacheConfig config_;
  std::map<const numerics::ExpertLayout*, CacheBlock> blocks_;
  std::unique_ptr<host::ExpertBytes> bytes_;
  std::unique_ptr<host::HostDriver> driver_;
  struct Warm {
    std::size_t expert;  // number()
    host::HostDriver::Places places;
  };
  std::vector<Warm> warm_;
  std::uint64_t first_use_ = 0;  // uses before the run: those of job j have number first_use_ + j

  std::size_t phase_index_ = 0, jobs_left_ = 0;                // of the phase: not offered
  std::size_t waiting_jobs_ = 0;                               // of those, placed and waiting for loads
  std::map<host::JobId, Job> jobs_;                            // routed and not offered
  std::map<host::DescriptorId, std::set<host::JobId>> loads_;  // not completed: the jobs that wait for it
  std::map<std::uint64_t, Group> groups_;                      // not completed
  std::uint64_t last_group_ = 0;
  std::deque<Piece> staged_;              // not offered
  std::map<std::size_t, Piece> offered_;  // not completed, by number
  std::size_t offers_ = 0, pushed_ = 0, completed_ = 0;
  std::deque<Executed> to_execute_;
  std::size_t executed_waits_ = 0;
  std::uint64_t free_entries_ = 0;  // of the I/O queue, a bit each
  Command last_command_;
  bool planned_ = false;  // the phase is open and has not begun
  bool over_ = false;
  std::uint64_t dropped_bytes_ = 0;
  std::vector<std::uint64_t> dropped_of_;  // by layer with experts
};

}  // namespace moesaic::program
