#include "sim/cycle/memory/stream_reader.h"

#include <algorithm>

#include "sim/program/commands.h"

namespace moesaic::cycle {

using program::Activity;

StreamReader::StreamReader(const sc_core::sc_module_name& name, const CoreParams& params)
    : sc_core::sc_module(name),
      data_bits_(params.axi_data_bits),
      beat_bytes_(params.beat_bytes()),
      depth_(params.fifo_depth),
      beats_(params.fifo_depth),
      bursts_(params.fifo_depth) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_seg_ready);
  sensitive << changed_ << ar_ready_i;
  SC_METHOD(drive_activity);
  sensitive << changed_ << ar_ready_i << seg_valid_i << r_valid_i << pop_i;
}

void StreamReader::reset() {
  segment_ = false;
  addr_ = bytes_ = 0;
  keep_ = 0;
  resume_ = false;
  owed_ = used_ = 0;
  beat_write_ = beat_read_ = burst_write_ = burst_read_ = burst_count_ = beat_in_burst_ = 0;
  box_.fill(0);
  avail_ = 0;
  error_ = false;
}

StreamReader::NextBurst StreamReader::next_burst() const {
  NextBurst next;
  if (!segment_) return next;
  const std::uint64_t skip = addr_ % beat_bytes_;
  const std::uint64_t beats = (bytes_ + skip + beat_bytes_ - 1) / beat_bytes_;
  const std::uint64_t page = (4096 - (addr_ - skip) % 4096) / beat_bytes_;
  const std::uint64_t limit = std::min<std::uint64_t>(16, page);
  next.last = beats <= limit;
  next.beats = static_cast<unsigned>(next.last ? beats : limit);
  next.asked = next.beats - (resume_ ? 1 : 0);
  const bool room = used_ + next.asked <= depth_ && burst_count_ != depth_;
  next.valid = room && next.asked != 0;
  next.silent = room && next.asked == 0;
  return next;
}

void StreamReader::drop(unsigned bits) {
  const unsigned words = (avail_ + 63) / 64, by = bits / 64, shift = bits % 64;
  for (unsigned i = 0; i < words; ++i) {
    const std::uint64_t low = i + by < words ? box_[i + by] : 0;
    const std::uint64_t high = i + by + 1 < words ? box_[i + by + 1] : 0;
    box_[i] = shift == 0 ? low : (low >> shift) | (high << (64 - shift));
  }
  avail_ -= bits;
}

void StreamReader::insert() {
  const Burst& burst = bursts_[burst_read_];
  const bool last = beat_in_burst_ + 1 == burst.beats;
  const unsigned skip = beat_in_burst_ == 0 ? burst.skip : 0;
  if (!resumes()) {
    const StoredBeat& read = beats_[beat_read_];
    kept_[burst.keep] = read.data;
    error_ = error_ || read.last != last;
    beat_read_ = (beat_read_ + 1) % depth_;
    --used_;
  }
  const Beat& beat = kept_[burst.keep];
  unsigned left = 8 * ((last ? burst.end : beat_bytes_) - skip);
  for (unsigned from = 8 * skip; left > 0;) {
    const unsigned count = std::min(64u, left), word = avail_ / 64, shift = avail_ % 64;
    const std::uint64_t bits = take_bits(beat, from, count);
    box_[word] |= bits << shift;
    if (shift != 0) box_[word + 1] |= bits >> (64 - shift);
    from += count;
    left -= count;
    avail_ += count;
  }
  beat_in_burst_ = last ? 0 : beat_in_burst_ + 1;
  burst_read_ = (burst_read_ + last) % depth_;
  burst_count_ -= last;
}

void StreamReader::on_clock() {
  if (!rst_ni.read()) {
    reset();
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  const NextBurst next = next_burst();
  const bool issue = next.issues(ar_ready_i.read());
  const bool seg_fire = seg_valid_i.read() && (!segment_ || (issue && next.last));
  const bool r_fire = owed_ != 0 && r_valid_i.read();
  const bool insert_now = inserts();  // the room is judged before this edge's pop
  const unsigned pop = static_cast<unsigned>(pop_i.read());
  if (!issue && !seg_fire && !r_fire && !insert_now && pop == 0) return;

  if (pop != 0) drop(pop);
  if (insert_now) insert();
  if (r_fire) {
    beats_[beat_write_] = {r_data_i.read(), r_last_i.read()};
    beat_write_ = (beat_write_ + 1) % depth_;
    error_ = error_ || r_resp_i.read() != 0;
    --owed_;
  }
  if (issue) {
    const unsigned skip = static_cast<unsigned>(addr_ % beat_bytes_);
    const std::uint64_t covered = std::uint64_t{next.beats} * beat_bytes_ - skip;
    const std::uint64_t beyond = next.last ? covered - bytes_ : 0;
    bursts_[burst_write_] = {skip, next.beats, beat_bytes_ - static_cast<unsigned>(beyond), resume_, keep_};
    burst_write_ = (burst_write_ + 1) % depth_;
    ++burst_count_;
    owed_ += next.asked;
    used_ += next.asked;
    resume_ = false;
    addr_ += covered;
    bytes_ -= covered - beyond;
    segment_ = !next.last;
  }
  if (seg_fire) {
    segment_ = true;
    addr_ = seg_addr_i.read();
    bytes_ = seg_bytes_i.read();
    keep_ = static_cast<unsigned>(seg_keep_i.read());
    resume_ = seg_resume_i.read();
  }
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void StreamReader::drive_state() {
  const NextBurst next = next_burst();
  ar_valid_o.write(next.valid);
  ar_addr_o.write(next.valid ? addr_ - addr_ % beat_bytes_ + (resume_ ? beat_bytes_ : 0) : 0);
  ar_len_o.write(next.valid ? next.asked - 1 : 0);
  ar_size_o.write(next.valid ? program::log2_ceil(beat_bytes_) : 0);
  ar_burst_o.write(next.valid ? 1 : 0);
  r_ready_o.write(owed_ != 0);
  avail_o.write(avail_);
  Beat data(data_bits_ / 64);
  std::copy_n(box_.begin(), data.size(), data.begin());
  data_o.write(data);
  idle_o.write(idle());
  resp_error_o.write(error_);
}

void StreamReader::drive_seg_ready() {
  const NextBurst next = next_burst();
  seg_ready_o.write(!segment_ || (next.last && next.issues(ar_ready_i.read())));
}

void StreamReader::drive_activity() {
  const NextBurst next = next_burst();
  const bool issue = next.issues(ar_ready_i.read());
  const bool seg_fire = seg_valid_i.read() && (!segment_ || (issue && next.last));
  const bool r_fire = owed_ != 0 && r_valid_i.read();
  Activity activity = Activity::kStarved;
  if (seg_fire || issue || r_fire || inserts() || pop_i.read() != 0) {
    activity = Activity::kBusy;
  } else if (idle()) {
    activity = Activity::kIdle;
  } else if (stored() || resumes() || (owed_ == 0 && !segment_)) {
    activity = Activity::kBlocked;
  }
  activity_o.write(static_cast<std::uint64_t>(activity));
}

}  // namespace moesaic::cycle
