#include <array>

#include "sim/cosim/core_engine.h"
#include "sim/fast/core.h"

namespace moesaic::cosim {

using namespace program;

namespace {

constexpr std::uint64_t kSlverr = 2;
constexpr std::uint64_t kCounterMask = (std::uint64_t{1} << 48) - 1;

bool in_staging(std::uint64_t address) { return address >= kRegStaging && address < kRegStaging + 4 * kCommandWords; }

/// fast::Core behind the registers and counters of the core, which the fast engine itself has no need of.
class FastEngine final : public CoreEngine {
 public:
  explicit FastEngine(const CoreParams& params) : params_(params), feeds_(params, nullptr), core_(params, feeds_) {}

  std::string name() const override { return "fast"; }
  bool has_data() const override { return false; }
  const CoreParams& params() const override { return params_; }

  void set_reset(bool active) override {
    reset_ = active;
    if (!active) return;
    feeds_.reset();
    core_.reset();
    aw_valid_ = w_valid_ = w_whole_ = b_valid_ = ar_valid_ = r_valid_ = false;
    aw_addr_ = w_data_ = b_resp_ = ar_addr_ = r_data_ = r_resp_ = 0;
    staging_ = {};
    io_staging_ = {};
    io_order_ = LoadOrder::kFifo;
    io_credits_ = params_.io_credits;
    live_ = snapshot_ = {};
    cycles_ = cycles_snapshot_ = 0;
  }

  void settle(const CoreInputs& in) override {
    in_ = in;
    write_ = pending_write();
    core_in_.push = write_ == Write::kPush;
    if (core_in_.push && !pushed_) feeds_.append(Command::unpack(staging_));
    pushed_ = core_in_.push;
    core_in_.wgt_ar_ready = in.wgt_ar_ready_i != 0;
    core_in_.wgt_r_valid = in.wgt_r_valid_i != 0;
    core_in_.act_ar_ready = in.act_ar_ready_i != 0;
    core_in_.act_r_valid = in.act_r_valid_i != 0;
    core_in_.aw_ready = in.out_aw_ready_i != 0;
    core_in_.w_ready = in.out_w_ready_i != 0;
    core_in_.b_valid = in.out_b_valid_i != 0;
    if (write_ == Write::kIoPush) io_pushed_ = Descriptor::unpack(io_staging_);
    core_in_.io.push = write_ == Write::kIoPush ? &io_pushed_ : nullptr;
    core_in_.io.order = io_order_;
    core_in_.io.credits = io_credits_;
    core_in_.io.req_ready = in.io_req_ready_i != 0;
    core_in_.io.done_valid = in.io_done_valid_i != 0;
    core_in_.io.done_id = static_cast<unsigned>(in.io_done_id_i);
    wires_ = core_.evaluate(core_in_);
  }

  void rise() override {
    if (reset_) return;
    pushed_ = false;
    step_read();
    step_counters();
    step_write();
    core_.clock(core_in_, wires_);
  }

  const CoreOutputs& outputs() override {
    CoreOutputs& o = out_;
    o = CoreOutputs{};
    o.axil_aw_ready_o = !aw_valid_;
    o.axil_w_ready_o = !w_valid_;
    o.axil_b_valid_o = b_valid_;
    o.axil_b_resp_o = b_resp_;
    o.axil_ar_ready_o = !ar_valid_;
    o.axil_r_valid_o = r_valid_;
    o.axil_r_data_o = r_data_;
    o.axil_r_resp_o = r_resp_;
    const std::uint64_t size = log2_ceil(params_.beat_bytes());
    if (core_.asks(core_.weight_reader())) {
      o.wgt_ar_valid_o = 1;
      o.wgt_ar_addr_o = core_.weight_reader().address;
      o.wgt_ar_len_o = core_.weight_reader().asked() - 1;
      o.wgt_ar_size_o = size;
      o.wgt_ar_burst_o = 1;
    }
    o.wgt_r_ready_o = core_.weight_reader().owed != 0;
    if (core_.asks(core_.act_reader())) {
      o.act_ar_valid_o = 1;
      o.act_ar_addr_o = core_.act_reader().address;
      o.act_ar_len_o = core_.act_reader().asked() - 1;
      o.act_ar_size_o = size;
      o.act_ar_burst_o = 1;
    }
    o.act_r_ready_o = core_.act_reader().owed != 0;
    if (core_.aw_valid()) {
      o.out_aw_valid_o = 1;
      o.out_aw_addr_o = core_.out_address();
      o.out_aw_size_o = size;
      o.out_aw_burst_o = 1;
    }
    if (core_.w_valid()) {
      o.out_w_valid_o = 1;
      o.out_w_strb_o = core_.out_strobes();
      o.out_w_last_o = 1;
    }
    o.out_b_ready_o = core_.unanswered() != 0;
    const fast::IoQueue& io = core_.io_queue();
    o.io_req_valid_o = io.offers();
    o.io_req_id_o = io.offered_id();
    o.io_req_source_o = io.offered().source;
    o.io_req_destination_o = io.offered().destination;
    o.io_req_bytes_o = io.offered().bytes;
    o.io_done_ready_o = io.outstanding() != 0;
    o.retired_o = wires_.retired;
    o.idle_o = core_.idle();
    o.activity_o = wires_.activity;
    return o;
  }

  std::string open_waves(const std::string&) override { return "(none: the fast engine has no waves)"; }

 private:
  enum class Write { kNone, kRefused, kStaging, kPush, kSnapshot, kIoStaging, kIoPush, kIoOrder, kIoCredits };

  Write pending_write() const {
    if (!aw_valid_ || !w_valid_ || b_valid_) return Write::kNone;
    if (!w_whole_) return Write::kRefused;
    if (aw_addr_ % 4 == 0 && in_staging(aw_addr_)) return Write::kStaging;
    if (aw_addr_ == kRegPush && core_.queue_free() != 0) return Write::kPush;
    if (aw_addr_ == kRegSnapshot) return Write::kSnapshot;
    if (aw_addr_ % 4 == 0 && aw_addr_ / 32 == kRegIoStaging / 32) return Write::kIoStaging;
    if (aw_addr_ == kRegIoPush) return Write::kIoPush;
    if (aw_addr_ == kRegIoOrder && w_data_ < kLoadOrderNames.size()) return Write::kIoOrder;
    if (aw_addr_ == kRegIoCredits && w_data_ <= params_.io_credits) return Write::kIoCredits;
    return Write::kRefused;
  }

  void step_write() {
    const bool take_address = in_.axil_aw_valid_i != 0 && !aw_valid_, take_data = in_.axil_w_valid_i != 0 && !w_valid_;
    if (b_valid_ && in_.axil_b_ready_i != 0) {
      b_valid_ = false;
      b_resp_ = 0;
    }
    if (take_address) {
      aw_valid_ = true;
      aw_addr_ = in_.axil_aw_addr_i;
    }
    if (take_data) {
      w_valid_ = true;
      w_data_ = in_.axil_w_data_i;
      w_whole_ = in_.axil_w_strb_i == 0xf;
    }
    if (write_ == Write::kNone) return;
    aw_valid_ = w_valid_ = false;
    b_valid_ = true;
    const bool refused = write_ == Write::kRefused || (write_ == Write::kIoPush && !wires_.io.push);
    b_resp_ = refused ? kSlverr : 0;
    const auto data = static_cast<std::uint32_t>(w_data_);
    if (write_ == Write::kStaging) staging_[(aw_addr_ - kRegStaging) / 4] = data;
    if (write_ == Write::kIoStaging) io_staging_[aw_addr_ / 4 % kDescriptorWords] = data;
    if (write_ == Write::kIoOrder) io_order_ = static_cast<LoadOrder>(data);
    if (write_ == Write::kIoCredits) io_credits_ = data;
  }

  void step_read() {
    const bool take = in_.axil_ar_valid_i != 0 && !ar_valid_, answer = ar_valid_ && !r_valid_;
    if (r_valid_ && in_.axil_r_ready_i != 0) {
      r_valid_ = false;
      r_data_ = r_resp_ = 0;
    }
    if (take) {
      ar_valid_ = true;
      ar_addr_ = in_.axil_ar_addr_i;
    }
    if (answer) {
      bool good = true;
      ar_valid_ = false;
      r_valid_ = true;
      r_data_ = read_register(ar_addr_, good);
      r_resp_ = good ? 0 : kSlverr;
    }
  }

  std::uint64_t read_register(std::uint64_t address, bool& good) const {
    switch (address) {
      case kRegIdentity:
        return kIdentityValue;
      case kRegRows:
        return params_.rows;
      case kRegCols:
        return params_.cols;
      case kRegPlanesPerCycle:
        return params_.planes_per_cycle;
      case kRegMaxActBits:
        return params_.max_act_bits;
      case kRegAxiDataBits:
        return params_.axi_data_bits;
      case kRegMaxTokens:
        return params_.max_tokens;
      case kRegActDepth:
        return params_.act_depth;
      case kRegHiddenDepth:
        return params_.hidden_depth;
      case kRegFifoDepth:
        return params_.fifo_depth;
      case kRegCommandDepth:
        return params_.command_depth;
      case kRegBlocks:
        return kNumBlocks;
      case kRegStatus:  // no data, no shift out of range; the bench's memory answers OKAY
        return std::uint64_t{core_.queue_free()} << 8 | std::uint64_t{core_.io_queue().error()} << 4 |
               std::uint64_t{core_.command_error()} << 3 | std::uint64_t{!core_.idle()};
      case kRegIoOrder:
        return static_cast<std::uint64_t>(io_order_);
      case kRegIoCredits:
        return io_credits_;
      case kRegIoStatus:
        return std::uint64_t{core_.io_queue().outstanding()} << 8 | core_.io_queue().free();
      case kRegIoJobs:
        return std::uint64_t{core_.io_queue().released_jobs()} << 16 | core_.io_queue().used_jobs();
      case kRegIoDepth:
        return params_.io_depth;
      case kRegIoMaxCredits:
        return params_.io_credits;
      case kRegIoMaxJobs:
        return params_.io_jobs;
      default:
        break;
    }
    if (address % 4 == 0) {
      if (in_staging(address)) return staging_[(address - kRegStaging) / 4];
      if (address / 32 == kRegIoStaging / 32) return io_staging_[address / 4 % kDescriptorWords];
      if (address / 8 == kRegCycles / 8) return half(cycles_snapshot_, address);
      if (address / 512 == kRegCounters / 512) {
        const std::uint64_t index = (address - kRegCounters) / 8;
        return index < 4 * kNumBlocks ? half(snapshot_[index / 4][index % 4], address) : 0;
      }
    }
    good = false;
    return 0;
  }

  static std::uint64_t half(std::uint64_t value, std::uint64_t address) {
    return address % 8 == 0 ? value & 0xffffffffu : value >> 32;
  }

  void step_counters() {
    if (write_ == Write::kSnapshot) {
      snapshot_ = live_;
      cycles_snapshot_ = cycles_;
    }
    for (unsigned b = 0; b < kNumBlocks; ++b) {
      std::uint64_t& count = live_[b][wires_.activity >> (2 * b) & 3];
      count = (count + 1) & kCounterMask;
    }
    cycles_ = (cycles_ + 1) & kCounterMask;
  }

  CoreParams params_;
  fast::Feeds feeds_;
  fast::Core core_;
  fast::Core::Inputs core_in_;
  fast::Core::Wires wires_;
  CoreInputs in_;
  CoreOutputs out_;
  bool reset_ = true, pushed_ = false;
  Write write_ = Write::kNone;
  bool aw_valid_ = false, w_valid_ = false, w_whole_ = false, b_valid_ = false, ar_valid_ = false, r_valid_ = false;
  std::uint64_t aw_addr_ = 0, w_data_ = 0, b_resp_ = 0, ar_addr_ = 0, r_data_ = 0, r_resp_ = 0;
  CommandWords staging_{};
  DescriptorWords io_staging_{};
  Descriptor io_pushed_;
  LoadOrder io_order_ = LoadOrder::kFifo;
  unsigned io_credits_ = 0;
  std::array<std::array<std::uint64_t, 4>, kNumBlocks> live_{}, snapshot_{};
  std::uint64_t cycles_ = 0, cycles_snapshot_ = 0;
};

}  // namespace

std::unique_ptr<CoreEngine> make_fast_engine(const CoreParams& params) { return std::make_unique<FastEngine>(params); }

}  // namespace moesaic::cosim
