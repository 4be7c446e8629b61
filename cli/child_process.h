#pragma once
/// A function in a process of its own: SystemC elaborates once per process, so every engine runs in a child.
#include <cstdint>
#include <functional>
#include <string>

namespace moesaic::cli {

/// Forks, calls `body` in the child and returns its bytes. An exception of the child is thrown here again: InputError
/// and CheckError as themselves, anything else as std::runtime_error; a child that dies says by which signal. The child
/// dies with its parent. Call it while no other thread runs.
std::string run_in_child(const std::function<std::string()>& body);

}  // namespace moesaic::cli
