#include "sim/cycle/core/core.h"

namespace moesaic::cycle {

using program::Block;

Core::Core(sc_core::sc_module_name name, const CoreParams& params)
    : sc_module(name),
      regs_("regs", params),
      counters_("counters"),
      queue_("queue", params),
      io_queue_("io_queue", params),
      dispatch_("dispatch"),
      scheduler_("scheduler", params),
      weight_fetch_("weight_fetch", params),
      weight_reader_("weight_reader", params),
      weight_loader_("weight_loader", params),
      act_loader_("act_loader", params),
      act_reader_("act_reader", params),
      act_buffer_("act_buffer", params),
      hidden_buffer_("hidden_buffer", params),
      sequencer_("sequencer", params),
      array_("array", params),
      dequant_("dequant", params),
      acc_buffer_("acc_buffer", params),
      drain_("drain", params),
      requant_("requant"),
      swiglu_("swiglu"),
      output_dma_("output_dma", params),
      activity_(program::kNumBlocks) {
  const auto clock = [this](auto&... blocks) { ((blocks.clk_i.bind(clk_i), blocks.rst_ni.bind(rst_ni)), ...); };
  clock(regs_, counters_, queue_, io_queue_, dispatch_, scheduler_, weight_fetch_, weight_reader_, weight_loader_,
        act_loader_, act_reader_, hidden_buffer_, sequencer_, array_, dequant_, acc_buffer_, drain_, requant_, swiglu_,
        output_dma_);
  act_buffer_.clk_i.bind(clk_i);
  const auto watch = [this](Block block, sc_core::sc_out<std::uint64_t>& port) {
    const auto index = static_cast<unsigned>(block);
    activity_[index] = &wire(port, counters_.activity_i[index]);
  };
  watch(Block::kCommandQueue, queue_.activity_o);
  watch(Block::kScheduler, scheduler_.activity_o);
  watch(Block::kWeightFetch, weight_fetch_.activity_o);
  watch(Block::kWeightReader, weight_reader_.activity_o);
  watch(Block::kWeightLoader, weight_loader_.activity_o);
  watch(Block::kActLoader, act_loader_.activity_o);
  watch(Block::kActReader, act_reader_.activity_o);
  watch(Block::kTileSequencer, sequencer_.activity_o);
  watch(Block::kPeArray, array_.activity_o);
  watch(Block::kGroupDequant, dequant_.activity_o);
  watch(Block::kAccBuffer, acc_buffer_.activity_o);
  watch(Block::kDrain, drain_.activity_o);
  watch(Block::kRequant, requant_.activity_o);
  watch(Block::kSwiglu, swiglu_.activity_o);
  watch(Block::kOutputDma, output_dma_.activity_o);
  watch(Block::kIoQueue, io_queue_.activity_o);

  // Commands.
  regs_.axil_aw_valid_i.bind(axil_aw_valid_i);
  regs_.axil_aw_ready_o.bind(axil_aw_ready_o);
  regs_.axil_aw_addr_i.bind(axil_aw_addr_i);
  regs_.axil_w_valid_i.bind(axil_w_valid_i);
  regs_.axil_w_ready_o.bind(axil_w_ready_o);
  regs_.axil_w_data_i.bind(axil_w_data_i);
  regs_.axil_w_strb_i.bind(axil_w_strb_i);
  regs_.axil_b_valid_o.bind(axil_b_valid_o);
  regs_.axil_b_ready_i.bind(axil_b_ready_i);
  regs_.axil_b_resp_o.bind(axil_b_resp_o);
  regs_.axil_ar_valid_i.bind(axil_ar_valid_i);
  regs_.axil_ar_ready_o.bind(axil_ar_ready_o);
  regs_.axil_ar_addr_i.bind(axil_ar_addr_i);
  regs_.axil_r_valid_o.bind(axil_r_valid_o);
  regs_.axil_r_ready_i.bind(axil_r_ready_i);
  regs_.axil_r_data_o.bind(axil_r_data_o);
  regs_.axil_r_resp_o.bind(axil_r_resp_o);
  wire(regs_.push_valid_o, queue_.push_valid_i);
  wire(regs_.push_cmd_o, queue_.push_cmd_i);
  wire(queue_.push_ready_o);
  wire(queue_.free_o, regs_.push_free_i);
  wire(regs_.snapshot_o, counters_.snapshot_i);
  wire(regs_.window_addr_o, counters_.window_addr_i);
  wire(counters_.window_data_o, regs_.window_data_i);
  wire(requant_.shift_error_o, regs_.shift_error_i);
  wire(scheduler_.command_error_o, regs_.command_error_i);
  resp_errors_ = {&wire(weight_reader_.resp_error_o), &wire(act_reader_.resp_error_o), &wire(output_dma_.resp_error_o)};
  regs_.resp_error_i.bind(resp_error_);
  wire(io_queue_.error_o, regs_.io_error_i);
  wire(regs_.io_push_valid_o, io_queue_.push_valid_i);
  wire(io_queue_.push_accept_o, regs_.io_push_accept_i);
  wire(regs_.io_push_desc_o, io_queue_.push_desc_i);
  wire(regs_.io_order_o, io_queue_.order_i);
  wire(regs_.io_credits_o, io_queue_.credits_i);
  wire(io_queue_.free_o, regs_.io_free_i);
  wire(io_queue_.outstanding_o, regs_.io_outstanding_i);
  wire(io_queue_.jobs_used_o, regs_.io_jobs_used_i);
  wire(io_queue_.jobs_released_o, regs_.io_jobs_released_i, scheduler_.released_i);
  wire(io_queue_.jobs_fetchable_o, queue_.fetchable_i);
  wire(queue_.pass_o, io_queue_.pass_i);
  wire(queue_.pass_job_o, io_queue_.pass_job_i);
  wire(scheduler_.retire_o, io_queue_.retire_i);
  wire(scheduler_.retire_job_o, io_queue_.retire_job_i);
  io_queue_.io_req_valid_o.bind(io_req_valid_o);
  io_queue_.io_req_ready_i.bind(io_req_ready_i);
  io_queue_.io_req_id_o.bind(io_req_id_o);
  io_queue_.io_req_source_o.bind(io_req_source_o);
  io_queue_.io_req_destination_o.bind(io_req_destination_o);
  io_queue_.io_req_bytes_o.bind(io_req_bytes_o);
  io_queue_.io_done_valid_i.bind(io_done_valid_i);
  io_queue_.io_done_ready_o.bind(io_done_ready_o);
  io_queue_.io_done_id_i.bind(io_done_id_i);
  wire(queue_.fetch_valid_o, dispatch_.in_valid_i);
  wire(dispatch_.in_ready_o, queue_.fetch_ready_i);
  wire(queue_.fetch_cmd_o, dispatch_.in_cmd_i);
  wire(dispatch_.fetch_valid_o, weight_fetch_.cmd_valid_i);
  wire(weight_fetch_.cmd_ready_o, dispatch_.fetch_ready_i);
  wire(dispatch_.fetch_cmd_o, weight_fetch_.cmd_i);
  wire(dispatch_.load_valid_o, weight_loader_.cmd_valid_i);
  wire(weight_loader_.cmd_ready_o, dispatch_.load_ready_i);
  wire(dispatch_.load_cmd_o, weight_loader_.cmd_i);
  exec_valid_ = &wire(queue_.exec_valid_o, scheduler_.exec_valid_i, regs_.busy_i);
  exec_ready_ = &wire(scheduler_.exec_ready_o, queue_.exec_ready_i);
  exec_cmd_ = &wire(queue_.exec_cmd_o, scheduler_.exec_cmd_i, act_loader_.cmd_i, sequencer_.cmd_i, drain_.cmd_i);
  wire(scheduler_.load_start_o, act_loader_.start_i);
  wire(act_loader_.done_o, scheduler_.load_done_i);
  wire(scheduler_.sequence_start_o, sequencer_.start_i);
  wire(sequencer_.done_o, scheduler_.sequence_done_i);
  wire(scheduler_.drain_start_o, drain_.start_i);
  wire(drain_.done_o, scheduler_.drain_done_i);
  wire(dequant_.idle_o, scheduler_.dequant_idle_i);
  wire(act_loader_.row_token_o, scheduler_.load_token_i);
  wire(scheduler_.load_in_addr_o, act_loader_.row_in_addr_i);
  wire(drain_.shift_token_o, scheduler_.shift_token_i, hidden_buffer_.eh_token_b_i);
  wire(scheduler_.shift_o, drain_.shift_i);
  wire(drain_.out_token_o, scheduler_.out_token_i);
  wire(scheduler_.out_addr_o, drain_.out_addr_i);
  wire(scheduler_.aux_addr_o, drain_.aux_addr_i);

  // Weights.
  wire(weight_fetch_.seg_valid_o, weight_reader_.seg_valid_i);
  wire(weight_reader_.seg_ready_o, weight_fetch_.seg_ready_i);
  wire(weight_fetch_.seg_addr_o, weight_reader_.seg_addr_i);
  wire(weight_fetch_.seg_bytes_o, weight_reader_.seg_bytes_i);
  wire(weight_fetch_.seg_keep_o, weight_reader_.seg_keep_i);
  wire(weight_fetch_.seg_resume_o, weight_reader_.seg_resume_i);
  weight_reader_.ar_valid_o.bind(wgt_ar_valid_o);
  weight_reader_.ar_ready_i.bind(wgt_ar_ready_i);
  weight_reader_.ar_addr_o.bind(wgt_ar_addr_o);
  weight_reader_.ar_len_o.bind(wgt_ar_len_o);
  weight_reader_.ar_size_o.bind(wgt_ar_size_o);
  weight_reader_.ar_burst_o.bind(wgt_ar_burst_o);
  weight_reader_.r_valid_i.bind(wgt_r_valid_i);
  weight_reader_.r_ready_o.bind(wgt_r_ready_o);
  weight_reader_.r_data_i.bind(wgt_r_data_i);
  weight_reader_.r_resp_i.bind(wgt_r_resp_i);
  weight_reader_.r_last_i.bind(wgt_r_last_i);
  wire(weight_reader_.idle_o);
  wire(weight_reader_.avail_o, weight_loader_.avail_i);
  wire(weight_reader_.data_o, weight_loader_.data_i);
  wire(weight_loader_.pop_o, weight_reader_.pop_i);
  wire(weight_loader_.w_valid_o, array_.w_valid_i);
  wire(array_.w_ready_o, weight_loader_.w_ready_i);
  wire(weight_loader_.w_plane_o, array_.w_plane_i);
  wire(weight_loader_.w_first_col_o, array_.w_first_col_i);
  wire(weight_loader_.w_bits_o, array_.w_bits_i);
  wire(weight_loader_.w_mask_o, array_.w_mask_i);
  wire(weight_loader_.w_last_o, array_.w_last_i);
  wire(weight_loader_.param_valid_o, dequant_.param_valid_i);
  wire(dequant_.param_ready_o, weight_loader_.param_ready_i);
  wire(weight_loader_.param_s_o, dequant_.param_s_i);
  wire(weight_loader_.param_z_o, dequant_.param_z_i);
  wire(weight_loader_.param_up_o, dequant_.param_up_i);
  wire(weight_loader_.rq_valid_o, drain_.rq_valid_i);
  wire(drain_.rq_ready_o, weight_loader_.rq_ready_i);
  wire(weight_loader_.rq_mu_o, drain_.rq_mu_i);
  wire(weight_loader_.rq_sigma_o, drain_.rq_sigma_i);

  // Activations.
  wire(act_loader_.seg_valid_o, act_reader_.seg_valid_i);
  wire(act_reader_.seg_ready_o, act_loader_.seg_ready_i);
  wire(act_loader_.seg_addr_o, act_reader_.seg_addr_i);
  wire(act_loader_.seg_bytes_o, act_reader_.seg_bytes_i);
  act_reader_.seg_keep_i.bind(no_keep_);
  act_reader_.seg_resume_i.bind(no_resume_);
  act_reader_.ar_valid_o.bind(act_ar_valid_o);
  act_reader_.ar_ready_i.bind(act_ar_ready_i);
  act_reader_.ar_addr_o.bind(act_ar_addr_o);
  act_reader_.ar_len_o.bind(act_ar_len_o);
  act_reader_.ar_size_o.bind(act_ar_size_o);
  act_reader_.ar_burst_o.bind(act_ar_burst_o);
  act_reader_.r_valid_i.bind(act_r_valid_i);
  act_reader_.r_ready_o.bind(act_r_ready_o);
  act_reader_.r_data_i.bind(act_r_data_i);
  act_reader_.r_resp_i.bind(act_r_resp_i);
  act_reader_.r_last_i.bind(act_r_last_i);
  wire(act_reader_.idle_o);
  wire(act_reader_.avail_o, act_loader_.avail_i);
  wire(act_reader_.data_o, act_loader_.data_i);
  wire(act_loader_.pop_o, act_reader_.pop_i);
  wire(act_loader_.act_write_valid_o, act_buffer_.write_valid_i);
  wire(act_loader_.act_write_addr_o, act_buffer_.write_addr_i);
  wire(act_loader_.act_write_data_o, act_buffer_.write_data_i);
  wire(sequencer_.read_addr_o, act_buffer_.read_addr_i);
  wire(act_buffer_.read_data_o, sequencer_.read_data_i);
  wire(drain_.hidden_valid_o, hidden_buffer_.write_valid_i);
  wire(drain_.hidden_addr_o, hidden_buffer_.write_addr_i);
  wire(drain_.hidden_token_o, hidden_buffer_.write_token_i);
  wire(drain_.hidden_mask_o, hidden_buffer_.write_mask_i);
  wire(drain_.hidden_data_o, hidden_buffer_.write_data_i);
  wire(drain_.hidden_clear_o, hidden_buffer_.clear_i);
  hidden_buffer_.store_i.bind(store_hidden_);
  hidden_buffer_.act_bits_i.bind(act_bits_);
  wire(act_loader_.hidden_addr_o, hidden_buffer_.read_addr_i);
  wire(hidden_buffer_.read_data_o, act_loader_.hidden_data_i);
  wire(act_loader_.eh_token_o, hidden_buffer_.eh_token_a_i);
  wire(hidden_buffer_.eh_a_o, act_loader_.eh_i);
  wire(hidden_buffer_.eh_b_o, drain_.hidden_shift_i);
  wire(act_loader_.direct_valid_o, dequant_.direct_valid_i);
  wire(dequant_.direct_ready_o, act_loader_.direct_ready_i);
  wire(act_loader_.direct_token_o, dequant_.direct_token_i);
  wire(act_loader_.direct_s_o, dequant_.direct_s_i);
  wire(act_loader_.direct_d_o, dequant_.direct_d_i);
  wire(act_loader_.direct_first_o, dequant_.direct_first_i);
  wire(act_loader_.direct_done_o, dequant_.direct_done_i);

  // Array and accumulators.
  beat_valid_ = &wire(sequencer_.beat_valid_o, array_.beat_valid_i);
  beat_ready_ = &wire(array_.beat_ready_o, sequencer_.beat_ready_i);
  wire(sequencer_.beat_x_o, array_.beat_x_i);
  wire(sequencer_.beat_plane_o, array_.beat_plane_i);
  wire(sequencer_.beat_enable_o, array_.beat_enable_i);
  wire(sequencer_.beat_shift_o, array_.beat_shift_i);
  wire(sequencer_.beat_tag_o, array_.beat_tag_i);
  beat_last_ = &wire(sequencer_.beat_last_o, array_.beat_last_i);
  sum_valid_ = &wire(array_.sum_valid_o, dequant_.sum_valid_i);
  sum_ready_ = &wire(dequant_.sum_ready_o, array_.sum_ready_i);
  wire(array_.sum_o, dequant_.sum_i);
  wire(array_.rowsum_o, dequant_.rowsum_i);
  wire(array_.sum_tag_o, dequant_.sum_tag_i);
  sequencer_.sum_fire_i.bind(sum_fire_);
  dequant_.tokens_i.bind(tokens_);
  wire(dequant_.add_valid_o, acc_buffer_.add_valid_i);
  wire(acc_buffer_.add_ready_o, dequant_.add_ready_i);
  wire(dequant_.add_token_o, acc_buffer_.add_token_i);
  wire(dequant_.add_first_o, acc_buffer_.add_first_i);
  wire(dequant_.add_done_o, acc_buffer_.add_done_i);
  wire(dequant_.add_value_o, acc_buffer_.add_value_i);
  wire(acc_buffer_.full_o, drain_.acc_full_i);
  wire(drain_.acc_token_o, acc_buffer_.read_token_i);
  wire(drain_.acc_chunk_o, acc_buffer_.read_chunk_i);
  wire(acc_buffer_.read_acc_o, drain_.acc_i);
  wire(drain_.acc_release_o, acc_buffer_.release_i);

  // Results.
  wire(drain_.requant_valid_o, requant_.in_valid_i);
  wire(requant_.in_ready_o, drain_.requant_ready_i);
  wire(drain_.requant_acc_o, requant_.in_acc_i);
  wire(drain_.requant_mu_o, requant_.in_mu_i);
  wire(drain_.requant_sigma_o, requant_.in_sigma_i);
  wire(drain_.requant_mask_o, requant_.in_mask_i);
  wire(drain_.requant_shift_o, requant_.in_shift_i);
  wire(drain_.requant_out_bits_o, requant_.in_out_bits_i);
  wire(drain_.requant_meta_o, requant_.in_meta_i);
  wire(requant_.out_valid_o, drain_.result_valid_i);
  wire(drain_.result_ready_o, requant_.out_ready_i);
  wire(requant_.out_y_o, drain_.result_y_i);
  wire(requant_.out_acc_o, drain_.result_acc_i);
  wire(requant_.out_meta_o, drain_.result_meta_i);
  wire(drain_.swiglu_valid_o, swiglu_.in_valid_i);
  wire(swiglu_.in_ready_o, drain_.swiglu_ready_i);
  wire(drain_.swiglu_g_o, swiglu_.in_g_i);
  wire(drain_.swiglu_u_o, swiglu_.in_u_i);
  wire(drain_.swiglu_meta_o, swiglu_.in_meta_i);
  wire(drain_.swiglu_sigma_h_o, swiglu_.in_sigma_h_i);
  wire(swiglu_.out_valid_o, drain_.h_valid_i);
  wire(drain_.h_ready_o, swiglu_.out_ready_i);
  wire(swiglu_.out_h_o, drain_.h_i);
  wire(swiglu_.out_meta_o, drain_.h_meta_i);
  wire(drain_.dma_valid_o, output_dma_.in_valid_i);
  wire(output_dma_.in_ready_o, drain_.dma_ready_i);
  wire(drain_.dma_addr_o, output_dma_.in_addr_i);
  wire(drain_.dma_bytes_o, output_dma_.in_bytes_i);
  wire(drain_.dma_data_o, output_dma_.in_data_i);
  wire(drain_.dma_flush_o, output_dma_.flush_i);
  wire(output_dma_.idle_o, drain_.dma_idle_i);
  output_dma_.aw_valid_o.bind(out_aw_valid_o);
  output_dma_.aw_ready_i.bind(out_aw_ready_i);
  output_dma_.aw_addr_o.bind(out_aw_addr_o);
  output_dma_.aw_len_o.bind(out_aw_len_o);
  output_dma_.aw_size_o.bind(out_aw_size_o);
  output_dma_.aw_burst_o.bind(out_aw_burst_o);
  output_dma_.w_valid_o.bind(out_w_valid_o);
  output_dma_.w_ready_i.bind(out_w_ready_i);
  output_dma_.w_data_o.bind(out_w_data_o);
  output_dma_.w_strb_o.bind(out_w_strb_o);
  output_dma_.w_last_o.bind(out_w_last_o);
  output_dma_.b_valid_i.bind(out_b_valid_i);
  output_dma_.b_ready_o.bind(out_b_ready_o);
  output_dma_.b_resp_i.bind(out_b_resp_i);

  SC_METHOD(drive_fields);
  sensitive << *exec_cmd_;
  SC_METHOD(drive_status);
  sensitive << *exec_valid_ << *exec_ready_ << *sum_valid_ << *sum_ready_;
  for (auto* error : resp_errors_) sensitive << *error;
  SC_METHOD(drive_activity);
  for (auto* activity : activity_) sensitive << *activity;
}

void Core::drive_fields() {
  const program::Command& command = exec_cmd_->read();
  store_hidden_.write(command.write_hidden);
  act_bits_.write(command.act_bits);
  tokens_.write(command.tokens);
}

void Core::drive_status() {
  idle_o.write(!exec_valid_->read());
  retired_o.write(exec_valid_->read() && exec_ready_->read());
  sum_fire_.write(sum_valid_->read() && sum_ready_->read());
  bool error = false;
  for (const auto* each : resp_errors_) error = error || each->read();
  resp_error_.write(error);
}

void Core::drive_activity() {
  std::uint64_t packed = 0;
  for (std::size_t b = 0; b < activity_.size(); ++b) packed |= activity_[b]->read() << (2 * b);
  activity_o.write(packed);
}

}  // namespace moesaic::cycle
