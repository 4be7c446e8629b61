#pragma once
#include <ostream>
#include <string>
#include <systemc>

#include "sim/program/commands.h"

// What SystemC asks of a type that a signal carries.
namespace moesaic::program {

inline std::ostream& operator<<(std::ostream& out, const Command& command) {
  const CommandWords words = command.pack();
  for (unsigned i = 0; i < kCommandWords; ++i) out << (i == 0 ? "" : " ") << std::hex << words[i] << std::dec;
  return out;
}

/// A traced command shows its opcode, n and k.
inline void sc_trace(sc_core::sc_trace_file* file, const Command& command, const std::string& name) {
  sc_core::sc_trace(file, reinterpret_cast<const unsigned char&>(command.opcode), name + ".opcode");
  sc_core::sc_trace(file, command.n, name + ".n");
  sc_core::sc_trace(file, command.k, name + ".k");
}

}  // namespace moesaic::program
