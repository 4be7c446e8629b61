#pragma once
/// The storage's side of the core: takes the I/O queue's requests, copies bytes from the program's storage into its
/// memory when a storage::CoreStorage says so, and keeps book of which bytes of the memory are still to come.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/storage/core_storage.h"
#include "sim/cosim/core_ports.h"
#include "sim/program/awaited_bytes.h"
#include "sim/program/engine_run.h"
#include "sim/program/load_program.h"
#include "sim/program/memory_image.h"
#include "sim/program/stalls.h"

namespace moesaic::cosim {

class StoragePort {
 public:
  /// Poisons every destination: until a load completes, its bytes are the complement of what they will be.
  /// std::logic_error when a source is not in the program's storage or a destination not in the image.
  StoragePort(const program::LoadProgram* program, program::MemoryImage& image, storage::CoreStorage& model,
              std::vector<program::EngineRun::LoadTimes>& times, const std::optional<std::uint64_t>& stall_seed,
              base::Rng& streams);
  void drive(CoreInputs& in, std::uint64_t now);
  /// base::CheckError when the core asks for what no descriptor says.
  void sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now);

  const program::AwaitedBytes& awaited() const { return awaited_; }
  /// A request is under way and will be done.
  bool is_working(std::uint64_t now) const;
  std::size_t completed() const { return completed_; }
  std::string waits(const CoreOutputs& out) const;

 private:
  void accept(const storage::StorageRequest& request, std::uint64_t now);
  void complete(unsigned id, std::uint64_t now);
  void poison(const program::Descriptor& d);

  const program::LoadProgram* program_;
  program::MemoryImage& image_;
  storage::CoreStorage& model_;
  std::vector<program::EngineRun::LoadTimes>& times_;
  program::Stalls request_stalls_, answer_stalls_;
  program::AwaitedBytes awaited_;
  std::vector<bool> issued_;                        // by load
  std::map<unsigned, std::size_t> load_of_;         // by id, of requests under way
  std::optional<storage::StorageRequest> refused_;  // accepted from the core, not yet by the model
  std::optional<unsigned> holding_;                 // io_done_valid is up with this id
  std::size_t completed_ = 0;
};

}  // namespace moesaic::cosim
