#include "sim/cycle/queue/axil_regs.h"

namespace moesaic::cycle {

using namespace program;

namespace {
constexpr std::uint64_t kSlverr = 2;

bool in_staging(std::uint64_t address) { return address >= kRegStaging && address < kRegStaging + 4 * kCommandWords; }
}  // namespace

AxilRegs::AxilRegs(sc_core::sc_module_name name, const CoreParams& params) : sc_module(name), params_(params) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos() << rst_ni.neg();
  dont_initialize();
  SC_METHOD(drive_state);
  sensitive << changed_;
  SC_METHOD(drive_write);
  sensitive << changed_ << push_free_i;
}

AxilRegs::Write AxilRegs::pending_write() const {
  if (!aw_valid_ || !w_valid_ || b_valid_) return Write::kNone;
  if (!w_whole_) return Write::kRefused;
  if (aw_addr_ % 4 == 0 && in_staging(aw_addr_)) return Write::kStaging;
  if (aw_addr_ == kRegPush && push_free_i.read() != 0) return Write::kPush;
  if (aw_addr_ == kRegSnapshot) return Write::kSnapshot;
  if (aw_addr_ % 4 == 0 && aw_addr_ / 32 == kRegIoStaging / 32) return Write::kIoStaging;
  if (aw_addr_ == kRegIoPush) return Write::kIoPush;
  if (aw_addr_ == kRegIoOrder && w_data_ < kLoadOrderNames.size()) return Write::kIoOrder;
  if (aw_addr_ == kRegIoCredits && w_data_ <= params_.io_credits) return Write::kIoCredits;
  return Write::kRefused;
}

void AxilRegs::step_write() {
  const Write write = pending_write();
  const bool take_address = axil_aw_valid_i.read() && !aw_valid_, take_data = axil_w_valid_i.read() && !w_valid_;
  if (b_valid_ && axil_b_ready_i.read()) {
    b_valid_ = false;
    b_resp_ = 0;
  }
  if (take_address) {
    aw_valid_ = true;
    aw_addr_ = axil_aw_addr_i.read();
  }
  if (take_data) {
    w_valid_ = true;
    w_data_ = axil_w_data_i.read();
    w_whole_ = axil_w_strb_i.read() == 0xf;
  }
  if (write == Write::kNone) return;
  aw_valid_ = w_valid_ = false;
  b_valid_ = true;
  const bool refused = write == Write::kRefused || (write == Write::kIoPush && !io_push_accept_i.read());
  b_resp_ = refused ? kSlverr : 0;
  if (write == Write::kStaging) staging_[(aw_addr_ - kRegStaging) / 4] = static_cast<std::uint32_t>(w_data_);
  if (write == Write::kIoStaging) io_staging_[aw_addr_ / 4 % kDescriptorWords] = static_cast<std::uint32_t>(w_data_);
  if (write == Write::kIoOrder) io_order_ = w_data_;
  if (write == Write::kIoCredits) io_credits_ = w_data_;
}

std::uint64_t AxilRegs::read_register(std::uint64_t address, bool& good) const {
  good = true;
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
    case kRegStatus:
      return push_free_i.read() << 8 | std::uint64_t{io_error_i.read()} << 4 |
             std::uint64_t{command_error_i.read()} << 3 | std::uint64_t{resp_error_i.read()} << 2 |
             std::uint64_t{shift_error_i.read()} << 1 | std::uint64_t{busy_i.read()};
    case kRegIoOrder:
      return io_order_;
    case kRegIoCredits:
      return io_credits_;
    case kRegIoStatus:
      return io_outstanding_i.read() << 8 | io_free_i.read();
    case kRegIoJobs:
      return io_jobs_released_i.read() << 16 | io_jobs_used_i.read();
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
    if (address / 8 == kRegCycles / 8 || address / 512 == kRegCounters / 512) return window_data_i.read();
  }
  good = false;
  return 0;
}

void AxilRegs::step_read() {
  const bool take = axil_ar_valid_i.read() && !ar_valid_, answer = ar_valid_ && !r_valid_;
  if (r_valid_ && axil_r_ready_i.read()) {
    r_valid_ = false;
    r_data_ = r_resp_ = 0;
  }
  if (take) {
    ar_valid_ = true;
    ar_addr_ = axil_ar_addr_i.read();
  }
  if (answer) {
    bool good = false;
    ar_valid_ = false;
    r_valid_ = true;
    r_data_ = read_register(ar_addr_, good);
    r_resp_ = good ? 0 : kSlverr;
  }
}

void AxilRegs::on_clock() {
  if (!rst_ni.read()) {
    aw_valid_ = w_valid_ = w_whole_ = b_valid_ = ar_valid_ = r_valid_ = false;
    aw_addr_ = w_data_ = b_resp_ = ar_addr_ = r_data_ = r_resp_ = 0;
    staging_ = {};
    io_staging_ = {};
    io_order_ = 0;
    io_credits_ = params_.io_credits;
    changed_.notify(sc_core::SC_ZERO_TIME);
    return;
  }
  if (!(aw_valid_ || w_valid_ || b_valid_ || ar_valid_ || r_valid_ || axil_aw_valid_i.read() || axil_w_valid_i.read() ||
        axil_ar_valid_i.read())) {
    return;
  }
  step_read();  // first: it sees the staging words of before the edge
  step_write();
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void AxilRegs::drive_state() {
  axil_aw_ready_o.write(!aw_valid_);
  axil_w_ready_o.write(!w_valid_);
  axil_b_valid_o.write(b_valid_);
  axil_b_resp_o.write(b_resp_);
  axil_ar_ready_o.write(!ar_valid_);
  axil_r_valid_o.write(r_valid_);
  axil_r_data_o.write(r_data_);
  axil_r_resp_o.write(r_resp_);
  window_addr_o.write(ar_valid_ ? ar_addr_ / 4 : 0);
  io_order_o.write(io_order_);
  io_credits_o.write(io_credits_);
}

void AxilRegs::drive_write() {
  const Write write = pending_write();
  push_valid_o.write(write == Write::kPush);
  push_cmd_o.write(write == Write::kPush ? Command::unpack(staging_) : Command{});
  snapshot_o.write(write == Write::kSnapshot);
  io_push_valid_o.write(write == Write::kIoPush);
  io_push_desc_o.write(write == Write::kIoPush ? Descriptor::unpack(io_staging_) : Descriptor{});
}

}  // namespace moesaic::cycle
