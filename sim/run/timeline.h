#pragma once
/// A run as a timeline that opens in the Perfetto UI (https://ui.perfetto.dev) or chrome://tracing: the JSON form of
/// the Trace Event Format. One process, named after the chip, with these tracks:
///
///   layers          each (step, layer); its arguments give cycles by cause and bytes by port
///   experts         each expert's commands ("expert 3, int2"), with rows, the combination, and products of whole
///   layers commands        load_act, matmul and combine; set_row entries, a cycle each, are left out storage with
///   experts in a storage: each request to it, from the cycle in which it was accepted to the one
///                   in which it was done. They overlap; beside them counters of waiting descriptors and outstanding
///                   requests
///   DRAM channel c  of a memory that refreshes: its refreshes and, between two of them, what it moved (bandwidth, row
///                   hits); beside it counters of its bandwidth, read and written. Of long runs only every 2nd, 4th, …
///                   refresh is there (memory::History)
///
/// and one counter a memory port, in bytes per cycle, constant over a layer. A command's span begins when the command
/// before it was executed. Times are exact: whole femtoseconds, written as microseconds with nine decimals.
#include <cstddef>
#include <string>

#include "sim/run/summary.h"

namespace moesaic::run {

/// `most`: phases, commands and requests that are shown at most, so that a file stays below 100 MB whatever the run;
/// the timeline then ends with a phase, and the process's name says in which cycle of how many.
std::string timeline_json(const Run& run, std::size_t most = 100000);

}  // namespace moesaic::run
