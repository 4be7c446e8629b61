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
    const Reader& reader = machine_.core().weight_reader();
    const std::size_t hash = memo_.hash(key_);
    Kind* kind = memo_.find(key_, hash);
    if (kind == nullptr) {
      kind = memo_.add(key_, hash);
      kind->used = reader.used;
    }
    State& state = of(*kind, reader.owed);
    state.may_part = machine_.may_part();
    return &state;
  }
  /// The one of the kind in which so many beats of weights are owed, new if need be.
  State& of(Kind& kind, std::uint32_t owed) {
    State* before = nullptr;
    for (State* state = kind.states.first; state != nullptr; before = state, state = state->beside) {
      if (state->owed != owed) continue;
      kind.states.to_front(state, before);
      return *state;
    }
    State& state = *memo_.arena().make<State>();
    state.kind = &kind;
    state.owed = owed;
    state.number = static_cast<std::uint32_t>(++machine_.effort().states);
    kind.states.add(&state);
    return state;
  }
  /// The machine, which is at this state, becomes it in full if it is not.
  void restore(const State& state) {
    if (machine_.is_behind()) machine_.read_state(state.kind->key, state.owed);
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
  Memo<Kind> memo_;
  std::string key_;
};

}  // namespace moesaic::fast
