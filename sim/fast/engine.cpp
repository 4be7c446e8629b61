#include "sim/fast/engine.h"

#include "sim/fast/machine.h"
#include "sim/fast/repeat.h"

namespace moesaic::fast {

Run run(const program::CoreParams& params, program::HostAgent& agent, const program::MemoryImage& image,
        const Options& options) {
  Machine machine(params, agent, image, options);
  if (!options.shortcuts || options.stall_seed) {
    while (!machine.done()) {
      machine.step();
      machine.tell();
    }
  } else if (machine.asks()) {
    repeat_core(machine);
  } else {
    repeat_all(machine);
  }
  return machine.finish();
}

Run run(const program::CoreParams& params, const std::vector<program::Command>& commands,
        const std::vector<std::size_t>& phases, const program::MemoryImage& image, const Options& options,
        const program::LoadProgram* loads) {
  program::FixedProgram program(commands, phases, loads);
  return run(params, program, image, options);
}

}  // namespace moesaic::fast
