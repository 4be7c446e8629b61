#pragma once
/// Random matmul commands and what the memory side must make of them, said by numerics alone: the stored layout gives
/// the segments, the bytes and the tiles, the weight matrices give every bit and parameter that must arrive.
#include <cstdint>
#include <vector>

#include "base/rng.h"
#include "reference/numerics/stored_layout.h"
#include "sim/cycle/common/core_params.h"
#include "sim/program/commands.h"

namespace moesaic::cosim {

struct ExpectedTile {
  unsigned tile_k = 0, cols = 0, level = 0;
  bool which = false, group_first = false, group_end = false, rewind = false, acc_first = false;
  bool block_first = false, block_end = false, last = false;
};

struct ExpectedWrite {
  unsigned plane = 0, first_col = 0;
  std::vector<std::uint64_t> column_bits;  // k at bit k
  bool last = false;
};

struct ExpectedParams {
  std::vector<std::uint32_t> s;
  std::vector<std::int32_t> z;
  unsigned up = 0;
};

struct ExpectedRequant {
  std::vector<std::uint32_t> mu, sigma;
};

struct MatmulCase {
  program::Command command;
  std::vector<ExpectedTile> tiles;
  std::vector<numerics::Segment> segments;  // absolute addresses
  std::vector<unsigned> kinds;              // of each: 0 parameters, 1 planes, 2 requantisation
  std::vector<std::uint8_t> stream;         // their bytes
  std::vector<ExpectedWrite> writes;
  std::vector<ExpectedParams> params;
  std::vector<ExpectedRequant> requants;
};

/// The commands of one random object: a product, an expert's gate and up (paired), its down projection, or one block
/// cut into chunks of K; any format and layout, ragged shapes; now and then with its planes
/// scattered over the memory.
std::vector<MatmulCase> random_matmuls(base::Rng& rng, const cycle::CoreParams& params);

}  // namespace moesaic::cosim
