#pragma once
/// The memory's side of the core's three ports, as CoreBench: which addresses and beats it lets pass in a cycle, which
/// beats are held on the wires, which wait because the memory refused them.
#include <array>
#include <cstdint>
#include <deque>

#include "sim/fast/asked_memory.h"
#include "sim/fast/core.h"
#include "sim/fast/ports.h"
#include "sim/program/awaited_bytes.h"
#include "sim/program/memory_image.h"
#include "sim/program/stalls.h"

namespace moesaic::fast {

class MemoryPorts {
 public:
  /// `stalls`: of addresses and data of weights, of addresses and data of activations, of write addresses, write data
  /// and answers. Beats of which no byte is there, as all are `awaited`, must not be read.
  MemoryPorts(const Core& core, AskedMemory& memory, unsigned beat_bytes, const program::MemoryImage& image,
              const program::AwaitedBytes& awaited, const std::array<program::Stalls, 7>& stalls)
      : core_(core),
        memory_(memory),
        beat_bytes_(beat_bytes),
        image_(image),
        awaited_(awaited),
        weights_{stalls[0], stalls[1]},
        activations_{stalls[2], stalls[3]},
        aw_stalls_(stalls[4]),
        w_stalls_(stalls[5]),
        b_stalls_(stalls[6]) {}

  /// One cycle of the ports that read and of the one that writes: drive_…() before the core's evaluate(), sample_…()
  /// before its clock(), reads first. The latter say whether the memory has taken a beat. base::CheckError: a read of
  /// what is not there yet.
  void drive_reads(Core::Inputs& in, std::uint64_t now);
  void drive_writes(Core::Inputs& in, std::uint64_t now);
  bool sample_reads(const Core::Wires& w, std::uint64_t now);
  bool sample_writes(const Core::Inputs& in, const Core::Wires& w, std::uint64_t now);

  /// Beats that crossed each port so far.
  const std::array<std::uint64_t, kNumPorts>& beats() const { return beats_; }
  std::uint32_t answers() const { return answers_; }  ///< owed to writes
  /// Nothing waits that is not in visit_state().
  bool is_plain(bool apart) const {
    return weights_.waiting.empty() && activations_.waiting.empty() && (apart || writes_are_plain());
  }
  /// A beat or an answer is on the wires that the core has not taken.
  bool is_holding(bool apart) const { return weights_.holding || activations_.holding || (!apart && b_holding_); }
  /// As Core::visit_state().
  template <class Visit>
  void visit_state(Visit& visit, bool apart) {
    visit(weights_.holding), visit(activations_.holding);
    if (!apart) visit_writes(visit);
  }
  /// The same of the port that writes alone.
  bool writes_are_plain() const { return addresses_ == 0 && write_beats_ == 0; }
  template <class Visit>
  void visit_writes(Visit& visit) {
    visit(answers_), visit(b_holding_);
  }
  /// Of what visit_writes() has written, the last beat was refused by the memory.
  void refuse_write(std::uint64_t address) {
    --answers_;
    addresses_ = write_beats_ = 1;
    write_addresses_.push_back(address);
  }
  /// An outcome happened in which so many beats crossed.
  void crossed(const std::array<std::uint16_t, kNumPorts>& beats) {
    for (unsigned p = 0; p < kNumPorts; ++p) beats_[p] += beats[p];
  }
  void crossed(unsigned port, std::uint16_t beats) { beats_[port] += beats; }

 private:
  struct ReadPort {
    program::Stalls address_stalls, data_stalls;
    bool holding = false;
    std::deque<std::uint64_t> waiting{};  // addresses of beats that the memory has not taken yet
  };

  void drive_read(ReadPort& port, unsigned number, const Reader& reader, bool& ar_ready, bool& r_valid,
                  std::uint64_t now);
  void sample_read(ReadPort& port, unsigned number, const Reader& reader, bool r_fire, bool ar_fire, std::uint64_t now);
  bool submit(unsigned port, bool is_write, std::uint64_t address, std::uint64_t now);
  void check_awaited(unsigned number, const Reader& reader) const;

  const Core& core_;
  AskedMemory& memory_;
  const unsigned beat_bytes_;
  const program::MemoryImage& image_;
  const program::AwaitedBytes& awaited_;
  ReadPort weights_, activations_;
  program::Stalls aw_stalls_, w_stalls_, b_stalls_;
  std::deque<std::uint64_t> write_addresses_;      // of beats that the memory has not taken yet
  std::uint32_t addresses_ = 0, write_beats_ = 0;  // how many of these, and of their data
  std::uint32_t answers_ = 0;
  bool b_holding_ = false, submitted_ = false;  // submitted_: in this cycle
  std::array<std::uint64_t, kNumPorts> beats_{};
};

}  // namespace moesaic::fast
