#pragma once
/// The storage's side of the core, as cosim::StoragePort: takes the I/O queue's requests, says when they are done, and
/// keeps book of which bytes of the memory are still to come.
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "models/storage/core_storage.h"
#include "sim/fast/io_queue.h"
#include "sim/program/awaited_bytes.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/memory_image.h"
#include "sim/program/run_log.h"
#include "sim/program/stalls.h"

namespace moesaic::fast {

class StoragePort {
 public:
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};

  /// `stalls`: of requests, of completions.
  StoragePort(const program::HostAgent& agent, const program::MemoryImage& image,
              std::unique_ptr<storage::CoreStorage> model, program::RunLog& log,
              const std::array<program::Stalls, 2>& stalls)
      : agent_(agent),
        image_(image),
        model_(std::move(model)),
        log_(log),
        request_stalls_(stalls[0]),
        answer_stalls_(stalls[1]) {}

  storage::CoreStorage& model() { return *model_; }
  /// Nothing lies in these bytes until a load fills them.
  void await(const program::ByteRange& range) { awaited_.add(range.address, range.address + range.bytes); }
  /// The host has begun to push a load. std::logic_error when it leads from or to nowhere.
  void push(const program::Descriptor& load, std::uint64_t now);

  /// One cycle: drive() before the core's evaluate(), sample() before its clock().
  void drive(IoQueue::Inputs& in, std::uint64_t now);
  struct Told {
    bool moved = false;                    ///< the model took or gave something
    std::optional<std::size_t> completed;  ///< load whose completion the core took
  };
  Told sample(const IoQueue& queue, const IoQueue::Inputs& in, const IoQueue::Wires& wires, std::uint64_t now);

  /// Whether a request is under way and will be done after `now`.
  bool is_working(std::uint64_t now) { return under_way_ != 0 && next_change(now) != kNever; }
  /// Between cycles, `now` the next one: the first cycle in which the storage may say something if it is not asked, at
  /// the earliest `now`; kNever when it has nothing to say.
  std::uint64_t next_word(std::uint64_t now);
  bool refuses() const { return refused_.has_value(); }
  /// It may write to the memory in any cycle in which something else is submitted.
  bool waits_for_memory() const { return model_->waits_for_memory(); }

  const program::AwaitedBytes& awaited() const { return awaited_; }
  std::size_t completed() const { return completed_; }
  std::size_t owed() const { return under_way_; }

 private:
  std::uint64_t next_change(std::uint64_t now);
  void accept(const program::Descriptor& request, unsigned id, std::uint64_t now);

  const program::HostAgent& agent_;
  const program::MemoryImage& image_;
  std::unique_ptr<storage::CoreStorage> model_;
  program::RunLog& log_;
  program::Stalls request_stalls_, answer_stalls_;
  program::AwaitedBytes awaited_;
  std::vector<std::size_t> waiting_;                // loads pushed and not issued
  std::array<std::size_t, 256> load_of_{};          // by id, of requests under way
  std::optional<storage::StorageRequest> refused_;  // accepted from the core, not yet by the model
  std::optional<unsigned> holding_;                 // io_done_valid is up with this id
  std::size_t under_way_ = 0, completed_ = 0;
  std::uint64_t next_ = 0;  // what the model last said, as long as nothing moved: above the cycle in which it was asked
};

}  // namespace moesaic::fast
