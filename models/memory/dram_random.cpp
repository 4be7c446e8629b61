#include "models/memory/dram_random.h"

#include <algorithm>
#include <stdexcept>

namespace moesaic::memory {

namespace {

std::int64_t power(base::Rng& rng, std::int64_t least, std::int64_t most) {
  return std::int64_t{1} << rng.range(least, most);
}

void draw_part(base::Rng& rng, DramConfig& c) {
  c.bank_groups = power(rng, 0, 2);
  c.banks = power(rng, 0, 2);
  c.transfers_per_clock = power(rng, 0, 2);
  c.burst_length = c.transfers_per_clock * power(rng, 0, 2);
  const std::int64_t burst_bytes = power(rng, 3, 6);
  c.width_bits = std::max<std::int64_t>(8, 8 * burst_bytes / c.burst_length);
  while (c.burst_bytes() > 64 || c.width_bits > 256) c.width_bits /= 2;
  while (c.burst_bytes() < 8) c.width_bits *= 2;
  c.row_bytes = c.burst_bytes() * power(rng, 1, 6);
  c.clock_period_fs = rng.range(300000, 4000000);

  DramTiming& t = c.timing;
  const std::int64_t burst = c.burst_clocks();
  t.cmd = rng.range(1, 2);
  t.cl = rng.range(2, 30);
  t.cwl = rng.range(1, 30);
  t.rcd = rng.range(1, 30);
  t.rcd_wr = rng.range(1, 30);
  t.rp = rng.range(1, 30);
  t.rp_ab = t.rp + rng.range(0, 6);
  t.ras = t.rcd + rng.range(0, 40);
  t.rc = t.ras + t.rp + rng.range(0, 10);
  t.ccd_s = std::max(burst, 2 * t.cmd) + rng.range(0, 3);
  t.ccd_l = t.ccd_s + rng.range(0, 8);
  t.ccd_l_wr = t.ccd_s + rng.range(0, 16);
  t.ccd_l_mwr = t.ccd_l_wr + rng.range(0, 16);
  t.rrd_s = rng.range(1, 8);
  t.rrd_l = t.rrd_s + rng.range(0, 8);
  t.faw = 4 * t.rrd_s + rng.range(0, 20);
  t.wr = rng.range(1, 40);
  t.wtr_s = rng.range(1, 12);
  t.wtr_l = t.wtr_s + rng.range(0, 12);
  t.rtp = rng.range(1, 16);
  t.rtw = std::max<std::int64_t>(1, t.cl + burst - t.cwl) + rng.range(0, 6);
  t.rfc = rng.range(10, 200);
  t.refi = t.rfc + c.longest_close() + std::max(t.rcd, t.rcd_wr) + burst + rng.range(50, 1500);
}

}  // namespace

DramConfig random_dram(base::Rng& rng) {
  DramConfig c = dram_preset(rng.pick(dram_preset_names()));
  if (rng.chance(2, 3)) draw_part(rng, c);
  c.channels = power(rng, 0, 2);
  c.rows = (std::int64_t{1} << 40) / (c.channels * c.banks_per_channel() * c.row_bytes);
  std::vector<AddressField> order(c.mapping.begin(), c.mapping.end());
  if (rng.chance(2, 3)) rng.shuffle(order);
  std::copy(order.begin(), order.end(), c.mapping.begin());
  c.read_queue = rng.range(8, 40);
  c.write_queue = rng.range(8, 40);
  c.write_high = rng.range(1, c.write_queue);
  c.write_low = rng.range(0, c.write_high - 1);
  c.starvation_cap = rng.chance(1, 3) ? rng.range(1, 3) : rng.range(4, 32);
  if (const auto fault = first_fault(c)) throw std::logic_error("random DRAM: " + fault->keys.front().key);
  return c;
}

}  // namespace moesaic::memory
