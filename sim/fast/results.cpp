#include "sim/fast/results.h"

#include <algorithm>

#include "sim/fast/state_bytes.h"

namespace moesaic::fast {

namespace {

constexpr std::uint64_t kMostCycles = 64;  // of an outcome

}  // namespace

void Results::begin(std::uint64_t now) {
  now_ = now;
  last_busy_ = 0;
  state_ = nullptr;
  if (memo_.bytes() > most_bytes_) memo_.clear();
}

void Results::stepped(bool moves) {
  if (moves) last_busy_ = now_;
  ++now_;
}

void Results::run(std::uint64_t end) {
  while (now_ < end) {
    State* const state = state_ != nullptr ? state_ : find();
    Outcome* const outcome = state == nullptr ? nullptr : match(*state);
    if (outcome != nullptr && now_ + outcome->cycles <= end) {
      pass(*outcome);
      continue;
    }
    if (outcome != nullptr && outcome->released == Outcome::kNotReleased) {  // it is written at `end` or later
      state_ = state;
      return;
    }
    restore();
    if (state != nullptr && outcome == nullptr)
      record(*state, end);
    else
      step_until(end);
  }
}

void Results::catch_up(std::uint64_t end) {
  restore();
  while (now_ < end) step_until(end);
}

void Results::restore() {
  if (state_ == nullptr) return;
  StateReader read(state_->key);
  core_.visit_results(read);
  ports_.visit_writes(read);
  core_.restored_results();
  state_ = nullptr;
}

// ---- cycle by cycle ----

void Results::step() {
  Core::Inputs in;
  ports_.drive_writes(in, now_);
  const Core::Wires w = core_.evaluate_results(in);
  last_.submits = ports_.sample_writes(in, w, now_);
  core_.clock_results(in, w);
  last_.activity = w.activity;
  last_.moves = Counting::moves(w.activity);
  last_.answered = w.b_fire;
  last_.rests = w.results_rest;
  if (last_.moves) last_busy_ = now_;
  if (w.release) released_at_ = now_;
  counting_.results(w.activity, 1, now_);
  ++now_;
}

/// Nothing of theirs moves: a cycle before which nothing will. Where no beat waits at the port, an answer is all that
/// they wait for: the memory, which may have been asked about later cycles, need not say more.
std::uint64_t Results::next_move() {
  if (!ports_.writes_are_plain()) return memory_.next_change(now_ - 1);
  return memory_.num_answers() == 0 ? kNever : now_ + memory_.until_answer(0, now_);
}

/// To where they may be at a state that is remembered.
void Results::step_until(std::uint64_t end) {
  do {
    step();
    if (last_.moves || last_.submits || now_ >= end) continue;
    const std::uint64_t next = last_.rests ? end : std::min(end, next_move());
    counting_.results(last_.activity, next - now_, now_);
    now_ = next;
  } while (now_ < end && !(last_.submits && ports_.writes_are_plain()));
}

// ---- what they did before ----

/// Null where they rest, or what comes next depends on more than registers.
Results::State* Results::find() {
  if (!core_.results_work() || !ports_.writes_are_plain()) return nullptr;
  key_.clear();
  std::size_t answer_from = 0;
  {
    StateWriter write(key_);
    core_.visit_results(write);
    ports_.visit_writes(write);
  }
  answer_from = key_.size();
  put_answers();
  return find_key(answer_from);
}

void Results::put_answers() {
  base::VarintWriter write(key_);
  for (std::size_t i = 0; i < memory_.num_answers(); ++i) write.put(memory_.until_answer(i, now_));
}

Results::State* Results::find_key(std::size_t answer_from) {
  const std::size_t hash = memo_.hash(key_);
  if (State* const known = memo_.find(key_, hash)) return known;
  State* const state = memo_.add(key_, hash);
  state->answer_from = answer_from;
  return state;
}

Results::Outcome* Results::match(State& state) {
  Outcome* before = nullptr;
  for (Outcome* outcome = state.outcomes.first; outcome != nullptr; before = outcome, outcome = outcome->beside) {
    if (!feeds_.matches(Feed::kChunk, outcome->chunks, outcome->num_chunks) ||
        !feeds_.matches(Feed::kBlock, outcome->blocks, outcome->num_blocks))
      continue;
    state.outcomes.to_front(outcome, before);
    return outcome;
  }
  return nullptr;
}

void Results::pass(Outcome& outcome) {
  feeds_.take_seen(Feed::kChunk, outcome.num_chunks);
  feeds_.take_seen(Feed::kBlock, outcome.num_blocks);
  counting_.results(outcome.counts, outcome.cycles, now_ + outcome.busy_from, now_ + outcome.busy_end);
  if (outcome.busy_end != 0) last_busy_ = now_ + outcome.busy_end - 1;
  if (outcome.released != Outcome::kNotReleased) released_at_ = now_ + outcome.released;
  const std::uint64_t begin = now_;
  now_ += outcome.cycles;
  for (unsigned i = 0; i < outcome.num_answers; ++i) memory_.answer(begin + outcome.answers[i]);
  const std::uint64_t address = feeds_.beat_address(Feed::kChunk, outcome.back, outcome.ahead);
  if (!memory_.submit(kWrites, true, address, now_ - 1)) {
    state_ = outcome.next.first->state;
    restore();
    ports_.refuse_write(address);
    return;
  }
  ports_.crossed(kWrites, 1);
  state_ = &after(outcome);
}

/// Cycles until the answer comes that comes last; 0 if none does.
std::uint64_t Results::last_answer() const {
  const std::size_t count = memory_.num_answers();
  return count == 0 ? 0 : memory_.until_answer(count - 1, now_);
}

/// The state that the outcome leads to, of those that differ in when the beat that was written is answered.
Results::State& Results::after(Outcome& outcome) {
  const std::uint64_t answer = last_answer();
  Next* before = nullptr;
  for (Next* next = outcome.next.first; next != nullptr; before = next, next = next->beside) {
    if (next->answer != answer) continue;
    outcome.next.to_front(next, before);
    return *next->state;
  }
  const State& like = *outcome.next.first->state;
  key_.assign(like.key.substr(0, like.answer_from));
  put_answers();
  Next* const next = memo_.arena().make<Next>();
  next->answer = answer;
  next->state = find_key(like.answer_from);
  outcome.next.add(next);
  return *next->state;
}

/// Steps on from the state and remembers what happened, if it was something before the cycle `end`.
void Results::record(State& state, std::uint64_t end) {
  const std::uint64_t begin = now_, chunks = feeds_.taken(Feed::kChunk), blocks = feeds_.taken(Feed::kBlock);
  const std::uint64_t released = released_at_;
  Outcome outcome;
  answers_.clear();
  bool writes = false;
  std::uint64_t item = 0;
  do {
    if (now_ == end || now_ - begin == kMostCycles) return;
    const std::uint64_t beats = ports_.beats()[kWrites];
    item = core_.out_item();
    outcome.ahead = core_.out_ahead();
    const auto cycle = static_cast<std::uint8_t>(now_ - begin);
    step();
    Counting::add(outcome.counts, last_.activity);
    if (last_.moves && outcome.busy_end == 0) outcome.busy_from = cycle;
    if (last_.moves) outcome.busy_end = static_cast<std::uint8_t>(cycle + 1);
    if (released_at_ != released) outcome.released = std::min(outcome.released, cycle);
    writes = ports_.beats()[kWrites] != beats;
    if (last_.answered) answers_.push_back(cycle);
    if (!ports_.writes_are_plain() || ports_.beats()[kWrites] > beats + 1) return;
  } while (!writes);
  outcome.cycles = static_cast<std::uint8_t>(now_ - begin);
  outcome.back = static_cast<std::uint32_t>(feeds_.taken(Feed::kChunk) - item);
  const auto copy = [this](Feed feed, std::uint64_t from, std::vector<Item>& items) {
    items.clear();
    for (std::uint64_t i = from; i < feeds_.taken(feed); ++i) items.push_back(feeds_.item(feed, i));
    return memo_.arena().copy(items);
  };
  outcome.chunks = copy(Feed::kChunk, chunks, chunks_);
  outcome.num_chunks = static_cast<std::uint8_t>(chunks_.size());
  outcome.blocks = copy(Feed::kBlock, blocks, blocks_);
  outcome.num_blocks = static_cast<std::uint8_t>(blocks_.size());
  outcome.answers = memo_.arena().copy(answers_);
  outcome.num_answers = static_cast<std::uint8_t>(answers_.size());
  Next* const next = memo_.arena().make<Next>();
  next->answer = last_answer();
  next->state = find();
  if (next->state == nullptr) return;
  outcome.next.add(next);
  Outcome* const kept = memo_.arena().make<Outcome>();
  *kept = outcome;
  state.outcomes.add(kept);
}

}  // namespace moesaic::fast
