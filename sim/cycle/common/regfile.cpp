#include "sim/cycle/common/regfile.h"

namespace moesaic::cycle {

Regfile::Regfile(const sc_core::sc_module_name& name, unsigned depth, unsigned reads)
    : sc_module(name), memory_(depth), reads_(reads) {
  SC_METHOD(on_clock);
  sensitive << clk_i.pos();
  dont_initialize();
  SC_METHOD(drive_read_data);
  sensitive << read_addr_i << changed_;
}

void Regfile::on_clock() {
  if (!write_i.read()) return;
  memory_[write_addr_i.read()] = write_data_i.read();
  changed_.notify(sc_core::SC_ZERO_TIME);
}

void Regfile::drive_read_data() {
  Lanes<std::uint64_t> data(reads_);
  for (unsigned r = 0; r < reads_; ++r) data[r] = memory_[read_addr_i.read().at_or_zero(r)];
  read_data_o.write(data);
}

}  // namespace moesaic::cycle
