#pragma once
/// A run as a host agent asks for it: phase after phase, in order. What gives them may hold the whole run, or make each
/// phase when it is asked for and forget it when it is over.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sim/program/layer_program.h"
#include "sim/program/timed_program.h"

namespace moesaic::program {

/// What a run does with the experts that lie in a storage, known before it begins.
struct ExpertUses {
  static constexpr std::uint64_t kNever = UINT64_MAX;
  std::vector<std::uint64_t> popularity;  ///< of OffloadedExperts::layout: rows of the whole run
  std::vector<std::uint64_t> first;       ///< number of the first job that reads it, or kNever
};

class PhaseSource {
 public:
  virtual ~PhaseSource() = default;
  virtual std::size_t phases() const = 0;
  /// Of phases that are not over any one may be asked for; what it gives stays until that phase is over.
  virtual const LoweredPhase& phase(std::size_t number) = 0;
  /// Of runs with offloaded experts.
  virtual const OffloadedExperts& offloaded() const = 0;
  virtual const ExpertUses& uses() const = 0;
  /// Of a job that reads an offloaded expert: the number of the next job that reads it, or ExpertUses::kNever. Known
  /// only where a policy needs the future; else kNever throughout.
  virtual std::uint64_t next_use(std::size_t job) = 0;
};

/// Whether a job reads an expert of the storage, and which: its index in OffloadedExperts::layout.
bool is_offloaded(const OffloadedExperts& stored, const RunProgram::Job& job);
std::size_t stored_index(const OffloadedExperts& stored, int layer, int expert);

/// The phases of a source for a TimedProgram, which outlives neither the source; with barriers, of each its jobs.
TimedProgram::Next timed_work(PhaseSource& source, bool barriers);

/// A program that is whole, in pieces. The program outlives it.
class WholeProgram final : public PhaseSource {
 public:
  explicit WholeProgram(const RunProgram& program);
  std::size_t phases() const override { return phases_.size(); }
  const LoweredPhase& phase(std::size_t number) override { return phases_.at(number); }
  const OffloadedExperts& offloaded() const override { return program_.offloaded.value(); }
  const ExpertUses& uses() const override { return uses_; }
  std::uint64_t next_use(std::size_t job) override { return next_use_.at(job); }

 private:
  const RunProgram& program_;
  std::vector<LoweredPhase> phases_;
  ExpertUses uses_;
  std::vector<std::uint64_t> next_use_;  // of each job
};

}  // namespace moesaic::program
