#pragma once
/// The machine's states that are remembered, with what followed them.
#include <string>

#include "sim/fast/machine.h"
#include "sim/fast/memo.h"

namespace moesaic::fast {

class States {
 public:
  explicit States(Machine& machine) : machine_(machine) {}

  /// The machine's state among those remembered, new if need be; null when it cannot be remembered.
  State* find() {
    key_.clear();
    if (!machine_.write_state(key_)) return nullptr;
    const std::size_t hash = memo_.hash(key_);
    if (State* const found = memo_.find(key_, hash)) return found;
    State* const added = memo_.add(key_, hash);
    added->number = static_cast<std::uint32_t>(++machine_.effort().states);
    return added;
  }
  /// The machine, which is at this state, becomes it in full if it is not.
  void restore(const State& state) {
    if (machine_.is_behind()) machine_.read_state(state.key);
  }
  bool are_full() const { return memo_.bytes() > machine_.options().state_bytes; }
  /// All of them. Nothing else may refer to them then.
  void forget() {
    machine_.let_go();
    memo_.clear();
    ++machine_.effort().forgotten;
  }
  Arena& arena() { return memo_.arena(); }

 private:
  Machine& machine_;
  Memo<State> memo_;
  std::string key_;
};

}  // namespace moesaic::fast
