/// Token files: what a network reads. Raw bytes (any name; one byte is one token, for byte-level models) or a
/// safetensors file (.safetensors) with one tensor `tokens` of U8, I32 or I64, any shape, read in row-major order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moesaic::workloads {

/// Throws base::InputError when unreadable, of another type or negative.
std::vector<std::uint32_t> read_tokens(const std::string& path);

/// The bytes of a text as tokens.
std::vector<std::uint32_t> read_text(const std::string& path);

}  // namespace moesaic::workloads
