// The chunks that drain hands to the output DMA, against a list made token by token.
#include "sim/fast/feeds.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "sim/program/memory_image.h"

using namespace moesaic;
using program::Command;
using program::MemoryPort;
using program::Opcode;

namespace {

struct Place {
  std::uint64_t address = 0;
  fast::Item item = 0;
};

/// Where the rows of results lie.
struct Rows {
  std::vector<std::uint64_t> out, aux;
};

/// What a matmul hands over: per block of columns and token, four columns at a time, sums before values.
void list_chunks(const program::CoreParams& core, const Command& c, const Rows& rows, std::vector<Place>& chunks) {
  const std::uint64_t beat_bytes = core.beat_bytes();
  const auto add = [&](std::uint64_t address, unsigned bytes) {
    fast::Chunk chunk;
    chunk.offset = static_cast<std::uint8_t>(address % beat_bytes);
    chunk.bytes = static_cast<std::uint8_t>(bytes);
    if (!chunks.empty()) {
      const Place& last = chunks.back();
      chunk.same_beat = (last.address + fast::Chunk::unpack(last.item).bytes - 1) / beat_bytes == address / beat_bytes;
    }
    chunks.push_back({address, chunk.pack()});
  };
  const unsigned element = c.elem_bytes == 2 ? 2 : 1;
  for (std::uint32_t block = 0; block < c.n; block += core.cols)
    for (unsigned token = 0; token < c.tokens; ++token)
      for (std::uint32_t col = block; col < std::min(block + core.cols, c.n); col += 4) {
        const unsigned count = std::min(std::min(block + core.cols, c.n) - col, 4U);
        if (c.write_acc) add(rows.aux[token] + c.aux_offset + std::uint64_t{8} * col, 8 * count);
        if (c.write_y) add(rows.out[token] + c.offset + std::uint64_t{element} * col, element * count);
      }
}

/// Beats that a command's chunks are written in: one is when it is full, or when one behind it begins.
std::uint64_t count_beats(const std::vector<Place>& chunks, std::size_t first, std::uint64_t beat_bytes) {
  std::uint64_t beats = 0, beat = 0, filled = 0;
  for (std::size_t i = first; i < chunks.size(); ++i)
    for (unsigned byte = 0; byte < fast::Chunk::unpack(chunks[i].item).bytes; ++byte) {
      const std::uint64_t address = chunks[i].address + byte;
      if (filled != 0 && beat != address / beat_bytes) {
        ++beats;
        filled = 0;
      }
      beat = address / beat_bytes;
      filled |= std::uint64_t{1} << address % beat_bytes;
      if (filled != ~std::uint64_t{0} >> (64 - beat_bytes)) continue;
      ++beats;
      filled = 0;
    }
  return beats + (filled != 0 ? 1 : 0);
}

}  // namespace

TEST_CASE("chunks and their bytes are those of a list made token by token, however rows lie and chunks are taken",
          "[unit][fast]") {
  base::Rng rng(83);
  int apart = 0, alike = 0;
  for (int i = 0; i < 300; ++i) {
    program::CoreParams core;
    core.cols = 4U << rng.below(4);
    core.axi_data_bits = 64U << rng.below(4);
    core.max_tokens = static_cast<unsigned>(rng.range(1, 24));
    // Rows one behind the other, some in one beat, or anywhere; each at the same place in a beat or not.
    const bool in_order = rng.chance(1, 2), in_beats = rng.chance(2, 3);
    program::MemoryImage image = program::MemoryImage::without_bytes();
    const std::uint64_t size = std::uint64_t{1} << 20;
    const std::uint64_t out = image.allocate("y", program::Kind::kOutputs, size),
                        aux = image.allocate("sums", program::Kind::kOutputs, size);
    fast::Feeds one(core, &image), many(core, &image);
    std::vector<Place> chunks;
    std::uint64_t beats = 0;
    const auto append = [&](const Command& command) {
      one.append(command);
      many.append(command);
    };
    for (int command = 0; command < 3; ++command) {
      Command c;
      c.opcode = Opcode::kMatmul;
      c.k_last = true;
      c.tokens = static_cast<std::uint8_t>(rng.range(1, core.max_tokens));
      c.n = static_cast<std::uint32_t>(rng.range(1, 80));
      c.elem_bytes = static_cast<std::uint8_t>(rng.range(1, 2));
      c.write_acc = rng.chance(1, 3);
      c.write_y = !c.write_acc || rng.chance(1, 2);
      c.offset = static_cast<std::uint32_t>(rng.range(0, 100));
      c.aux_offset = static_cast<std::uint32_t>(8 * rng.range(0, 10));
      Rows rows;
      const std::uint64_t pitch = in_beats ? core.beat_bytes() << rng.below(5) : 1000 + rng.below(100);
      for (unsigned t = 0; t < c.tokens; ++t) {
        const std::uint64_t at = in_order ? t : static_cast<std::uint64_t>(rng.range(0, 200));
        rows.out.push_back(out + pitch * at);
        rows.aux.push_back(aux + pitch * (rng.chance(1, 2) ? at : t));
        Command row;
        row.opcode = Opcode::kSetRow;
        row.token = static_cast<std::uint8_t>(t);
        row.params_addr = rows.out.back();
        row.requant_addr = rows.aux.back();
        append(row);
      }
      append(c);
      const std::size_t first = chunks.size();
      list_chunks(core, c, rows, chunks);
      beats += count_beats(chunks, first, core.beat_bytes());
    }
    (in_beats ? alike : apart) += 1;
    INFO("case " << i << ": " << core.cols << " columns, beats of " << core.beat_bytes() << " bytes");
    std::size_t taken = 0;
    while (taken < chunks.size()) {
      const auto count = static_cast<unsigned>(
          std::min<std::uint64_t>(static_cast<std::uint64_t>(rng.range(1, 40)), chunks.size() - taken));
      REQUIRE(many.peek(fast::Feed::kChunk, count - 1) != fast::kNoItem);
      for (unsigned k = 0; k < count; ++k) {
        REQUIRE(many.peek(fast::Feed::kChunk, k) == chunks[taken + k].item);
        REQUIRE(one.take(fast::Feed::kChunk) == chunks[taken + k].item);
        REQUIRE(one.address(fast::Feed::kChunk) == chunks[taken + k].address);
      }
      many.take_seen(fast::Feed::kChunk, count);
      taken += count;
      REQUIRE(many.address(fast::Feed::kChunk) == chunks[taken - 1].address);
    }
    REQUIRE(one.peek(fast::Feed::kChunk) == fast::kNoItem);
    REQUIRE(one.total(MemoryPort::kWrite) == beats * core.beat_bytes());
    REQUIRE(many.total(MemoryPort::kWrite) == beats * core.beat_bytes());
    for (std::size_t counter = 0; counter < image.counters(); ++counter)
      REQUIRE(many.traffic().counted(MemoryPort::kWrite, counter) ==
              one.traffic().counted(MemoryPort::kWrite, counter));
  }
  CHECK(apart > 50);
  CHECK(alike > 100);
}

TEST_CASE("a row of results that passes the last address is refused, taken at once or one by one", "[unit][fast]") {
  const std::uint64_t end = std::uint64_t{1} << program::CoreParams::kAddrBits;
  program::MemoryImage image = program::MemoryImage::without_bytes(end - 64);
  REQUIRE(image.allocate("y", program::Kind::kOutputs, 64) == end - 64);
  program::CoreParams core;
  core.cols = 16;
  for (const bool at_once : {false, true}) {
    fast::Feeds feeds(core, &image);
    Command row;
    row.opcode = Opcode::kSetRow;
    row.params_addr = end - 16;
    feeds.append(row);
    Command c;
    c.opcode = Opcode::kMatmul;
    c.k_last = c.write_y = true;
    c.tokens = 1;
    c.n = 16;
    c.elem_bytes = 2;
    feeds.append(c);
    REQUIRE(feeds.peek(fast::Feed::kChunk, 3) != fast::kNoItem);
    const auto take = [&] {
      if (at_once) return feeds.take_seen(fast::Feed::kChunk, 4);
      for (int i = 0; i < 4; ++i) feeds.take(fast::Feed::kChunk);
    };
    CHECK_THROWS_AS(take(), base::CheckError);
  }
}
