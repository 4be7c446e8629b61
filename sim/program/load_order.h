#pragma once
/// The order in which the I/O queue issues descriptors: the definition that RTL and twin are held to
/// (docs/io_queue.md).
#include <cstddef>
#include <string>
#include <vector>

#include "sim/program/commands.h"

namespace moesaic::program {

/// Index of the descriptor in `waiting` (oldest first) that goes next; `waiting` is not empty. An expert is a
/// (layer, expert) pair, lower layer first.
///   fifo          the oldest
///   expert_index  the lowest expert, of its planes the lowest rank, of those the oldest
///   hebf          hottest expert bit first: every expert offers its lowest waiting rank (of equal ranks the oldest);
///                 of these the one with the most requests, then of the lowest expert
std::size_t next_load(const std::vector<Descriptor>& waiting, LoadOrder order);

/// The order in which a fixed set of descriptors goes, as indices into it: next_load until none is left.
std::vector<std::size_t> load_sequence(const std::vector<Descriptor>& descriptors, LoadOrder order);

/// "fifo", "expert_index" or "hebf"; anything else is a ConfigError.
LoadOrder parse_load_order(const std::string& name, const std::string& where, const std::string& key);

}  // namespace moesaic::program
