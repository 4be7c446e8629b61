#pragma once
/// The storage's side of the core: takes the I/O queue's requests, copies bytes from the agent's storage into the
/// memory when a storage::CoreStorage says so, and keeps book of which bytes of the memory are still to come.
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/storage/core_storage.h"
#include "sim/cosim/core_ports.h"
#include "sim/program/awaited_bytes.h"
#include "sim/program/engine_run.h"
#include "sim/program/host_agent.h"
#include "sim/program/memory_image.h"
#include "sim/program/run_log.h"
#include "sim/program/stalls.h"

namespace moesaic::cosim {

class StoragePort {
 public:
  /// Tells the agent of completions, and has it prepare the image. `log` hears what happens to each load.
  StoragePort(program::HostAgent& agent, program::MemoryImage& image, storage::CoreStorage& model, program::RunLog& log,
              const std::optional<std::uint64_t>& stall_seed, base::Rng& streams);
  /// The host begins to push a descriptor in cycle `now`. std::logic_error when its source is not in the agent's
  /// storage or its destination not in the image.
  void push(const program::Descriptor& descriptor, std::uint64_t now);
  void drive(CoreInputs& in, std::uint64_t now);
  /// base::CheckError when the core asks for what no descriptor says.
  void sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now);

  const program::AwaitedBytes& awaited() const { return awaited_; }
  /// A request is under way and will be done.
  bool is_working(std::uint64_t now) const;
  std::size_t completed() const { return completed_; }
  std::uint64_t bytes() const { return bytes_; }  ///< copied into the memory
  std::string waits(const CoreOutputs& out) const;

 private:
  void accept(const storage::StorageRequest& request, std::uint64_t now);
  void complete(unsigned id, std::uint64_t now);
  void poison(const program::Descriptor& d);

  program::HostAgent& agent_;
  program::MemoryImage& image_;
  storage::CoreStorage& model_;
  program::RunLog& log_;
  program::Stalls request_stalls_, answer_stalls_;
  program::AwaitedBytes awaited_;
  std::deque<std::size_t> waiting_;                 // loads that are pushed and not issued
  std::map<unsigned, std::size_t> load_of_;         // by id, of requests under way
  std::optional<storage::StorageRequest> refused_;  // accepted from the core, not yet by the model
  std::optional<unsigned> holding_;                 // io_done_valid is up with this id
  std::size_t completed_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace moesaic::cosim
