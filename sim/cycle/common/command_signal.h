#pragma once
#include <ostream>
#include <string>
#include <systemc>

#include "sim/program/commands.h"

// What SystemC asks of a type that a signal carries.
namespace moesaic::program {

template <class Words>
std::ostream& write_words(std::ostream& out, const Words& words) {
  for (std::size_t i = 0; i < words.size(); ++i) out << (i == 0 ? "" : " ") << std::hex << words[i] << std::dec;
  return out;
}

inline std::ostream& operator<<(std::ostream& out, const Command& command) { return write_words(out, command.pack()); }
inline std::ostream& operator<<(std::ostream& out, const Descriptor& d) { return write_words(out, d.pack()); }

/// A traced command shows its opcode, n and k.
inline void sc_trace(sc_core::sc_trace_file* file, const Command& command, const std::string& name) {
  sc_core::sc_trace(file, reinterpret_cast<const unsigned char&>(command.opcode), name + ".opcode");
  sc_core::sc_trace(file, command.n, name + ".n");
  sc_core::sc_trace(file, command.k, name + ".k");
}

/// A traced descriptor shows its job, expert and plane.
inline void sc_trace(sc_core::sc_trace_file* file, const Descriptor& d, const std::string& name) {
  sc_core::sc_trace(file, d.job, name + ".job");
  sc_core::sc_trace(file, d.expert, name + ".expert");
  sc_core::sc_trace(file, d.plane, name + ".plane");
}

}  // namespace moesaic::program
