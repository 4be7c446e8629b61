#include "reference/numerics/swiglu.h"

namespace moesaic::numerics {

const std::array<std::uint16_t, 65> kSigmoidRom = {
    16384, 17407, 18421, 19420, 20397, 21344, 22255, 23127, 23955, 24737, 25471, 26155, 26790,
    27377, 27917, 28411, 28862, 29272, 29644, 29979, 30282, 30555, 30799, 31018, 31214, 31389,
    31545, 31684, 31807, 31917, 32015, 32102, 32179, 32247, 32307, 32361, 32408, 32450, 32487,
    32520, 32549, 32574, 32597, 32617, 32635, 32650, 32664, 32676, 32687, 32696, 32705, 32712,
    32719, 32725, 32730, 32734, 32738, 32742, 32745, 32747, 32750, 32752, 32754, 32756, 32757};

std::int32_t sigmoid(std::int16_t g) {
  const std::int32_t a = g < 0 ? -static_cast<std::int32_t>(g) : g;
  std::int32_t s = kSigmoidRom[64];
  if (a < 8192) {
    const auto i = static_cast<std::size_t>(a >> 7);
    const std::int32_t f = a & 127;
    s = kSigmoidRom[i] + (((kSigmoidRom[i + 1] - kSigmoidRom[i]) * f + 64) >> 7);
  }
  return g < 0 ? 32768 - s : s;
}

std::int16_t swiglu(std::int16_t g, std::int16_t u, int sigma_h) {
  const std::int64_t gated = rshift_round(static_cast<std::int64_t>(g) * sigmoid(g), 15);
  return static_cast<std::int16_t>(saturate(rshift_round(gated * u, sigma_h), 16));
}

int hidden_shift(const std::int16_t* h, std::int64_t count, int act_bits) {
  // Rounding is monotonic, so the extremes decide.
  std::int16_t low = 0;
  std::int16_t high = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (h[i] < low) low = h[i];
    if (h[i] > high) high = h[i];
  }
  int e = 0;
  while (!fits(rshift_round(low, e), act_bits) || !fits(rshift_round(high, e), act_bits)) ++e;
  return e;
}

}  // namespace moesaic::numerics
