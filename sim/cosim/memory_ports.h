#pragma once
/// The memory's side of the core's AXI4 ports: data from a MemoryImage, timing from a MemoryModel, random stalls on
/// every channel, and a check of what the core may ask for. base::CheckError when it asks for anything else.
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "models/memory/memory_model.h"
#include "sim/cosim/core_ports.h"
#include "sim/cosim/storage_port.h"
#include "sim/program/engine_run.h"
#include "sim/program/memory_image.h"
#include "sim/program/stalls.h"

namespace moesaic::cosim {

/// One AXI4 read subordinate.
class ReadPort {
 public:
  ReadPort(program::MemoryPort port, const program::MemoryImage& image, memory::MemoryModel& model,
           program::Traffic& traffic, const program::CoreParams& params, const std::optional<std::uint64_t>& stall_seed,
           base::Rng& streams);
  /// From now on a beat of which every byte in a region is awaited may not be read.
  void refuse(const program::AwaitedBytes& awaited) { awaited_ = &awaited; }
  void drive(CoreInputs& in, std::uint64_t now);
  void sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now);
  std::string waits(const CoreOutputs& out) const;

 private:
  struct Owed {
    std::uint64_t address;
    bool last;
  };
  void accept(std::uint64_t address, std::uint64_t len, std::uint64_t size, std::uint64_t burst);
  bool is_awaited(std::uint64_t beat) const;

  program::MemoryPort port_;
  const program::MemoryImage& image_;
  memory::MemoryModel& model_;
  program::Traffic& traffic_;
  std::uint64_t beat_bytes_;
  program::Stalls address_stalls_, data_stalls_;
  std::deque<Owed> owed_;      // beats not yet handed out
  std::size_t submitted_ = 0;  // of owed_, known to the model
  bool holding_ = false;       // r_valid is up
  const program::AwaitedBytes* awaited_ = nullptr;
};

/// One AXI4 write subordinate for single-beat bursts.
class WritePort {
 public:
  WritePort(program::MemoryImage& image, memory::MemoryModel& model, program::Traffic& traffic,
            const program::CoreParams& params, const std::optional<std::uint64_t>& stall_seed, base::Rng& streams);
  void drive(CoreInputs& in, std::uint64_t now);
  void sample(const CoreInputs& in, const CoreOutputs& out, std::uint64_t now);
  std::string waits(const CoreOutputs& out) const;

 private:
  struct Data {
    DataWords words;
    std::uint64_t strobes;
  };
  void store(std::uint64_t address, const Data& data);

  program::MemoryImage& image_;
  memory::MemoryModel& model_;
  program::Traffic& traffic_;
  std::uint64_t beat_bytes_;
  program::Stalls address_stalls_, data_stalls_, answer_stalls_;
  std::deque<std::uint64_t> addresses_;
  std::deque<Data> data_;
  std::size_t owed_ = 0;  // answers
  bool holding_ = false;  // b_valid is up
};

}  // namespace moesaic::cosim
