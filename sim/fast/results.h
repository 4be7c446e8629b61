#pragma once
/// Drain, requantisation, SwiGLU and output DMA, with the port that writes, while they are apart from the other blocks
/// (docs/fast.md): they run ahead of these as far as these are known, and repeat what they did before. What follows a
/// state of theirs, up to the end of the next cycle in which a beat is written, depends on nothing but the chunks
/// ahead.
#include <cstdint>
#include <string>
#include <vector>

#include "sim/fast/asked_memory.h"
#include "sim/fast/core.h"
#include "sim/fast/counting.h"
#include "sim/fast/feeds.h"
#include "sim/fast/memo.h"
#include "sim/fast/memory_ports.h"

namespace moesaic::fast {

class Results {
 public:
  /// What is remembered takes `most_bytes`, and what comes to it while they are apart once.
  Results(Core& core, MemoryPorts& ports, AskedMemory& memory, Feeds& feeds, Counting& counting, std::size_t most_bytes)
      : core_(core), ports_(ports), memory_(memory), feeds_(feeds), counting_(counting), most_bytes_(most_bytes) {}

  /// They go apart, as of `now`.
  void begin(std::uint64_t now);
  std::uint64_t now() const { return now_; }  ///< cycles that have passed for them
  /// In the cycle now() the core steps them with the others, as of which they are counted; whether their blocks move.
  void stepped(bool moves);
  /// They write what they write before the cycle `end`, and do all before it but what is known and seen by nobody.
  void run(std::uint64_t end);
  /// They do all before the cycle `end`, and the core's registers and the port become what they are.
  void catch_up(std::uint64_t end);
  /// There is something between the accumulators and the memory.
  bool work() const { return state_ != nullptr || core_.results_work(); }
  std::uint64_t last_busy() const { return last_busy_; }  ///< the last cycle in which one of their blocks moved
  /// The cycle in which they released a block ahead of the others, until these were told; kNever.
  std::uint64_t released_at() const { return released_at_; }
  void told_release() { released_at_ = kNever; }

 private:
  struct State;
  /// The state after an outcome, in which the last answer comes so much later.
  struct Next {
    Next* beside = nullptr;
    std::uint64_t answer = 0;
    State* state = nullptr;
  };
  /// What followed a state, once, up to a beat that is written in the last cycle.
  struct Outcome {
    Outcome* beside = nullptr;
    Found<Next> next;
    const Item* chunks = nullptr;  ///< taken
    const Item* blocks = nullptr;
    const std::uint8_t* answers = nullptr;  ///< the cycles in which they are taken
    std::uint8_t num_chunks = 0, num_blocks = 0, num_answers = 0, cycles = 0;
    std::uint8_t busy_from = 0, busy_end = 0;  ///< the first and behind the last cycle in which a block moved
    std::uint8_t released = kNotReleased;      ///< in this cycle
    std::uint32_t back = 0;                    ///< written is a beat of the chunk taken so long ago …
    std::uint32_t ahead = 0;                   ///< … the one so far behind its first
    Counting::ResultCounts counts{};
    static constexpr std::uint8_t kNotReleased = 255;
  };
  /// All that decides what they do, but for the chunks ahead. The key ends in when the answers come.
  struct State : Remembered {
    Found<Outcome> outcomes;
    std::size_t answer_from = 0;  ///< in the key
  };

  void restore();
  State* find();
  State* find_key(std::size_t answer_from);
  void put_answers();
  std::uint64_t last_answer() const;
  Outcome* match(State& state);
  void pass(Outcome& outcome);
  void step();
  std::uint64_t next_move();
  void step_until(std::uint64_t end);
  void record(State& state, std::uint64_t end);
  State& after(Outcome& outcome);

  Core& core_;
  MemoryPorts& ports_;
  AskedMemory& memory_;
  Feeds& feeds_;
  Counting& counting_;
  const std::size_t most_bytes_;

  std::uint64_t now_ = 0, last_busy_ = 0, released_at_ = kNever;
  struct {
    std::uint32_t activity = 0;
    bool moves = false, submits = false, answered = false, rests = false;
  } last_;  // cycle that was stepped here

  Memo<State> memo_;
  State* state_ = nullptr;  // they are at it, and the core's registers are behind
  std::string key_;
  std::vector<Item> chunks_, blocks_;  // before they are kept
  std::vector<std::uint8_t> answers_;
};

}  // namespace moesaic::fast
