#pragma once
/// What the option parser lets pass and no command means.
#include <CLI/CLI.hpp>

namespace moesaic::cli {

/// Lets the command and its subcommands refuse, before they run: an empty value, as of a shell variable that is not
/// set; a whole number in anything but decimal digits, or one that its type does not hold; and an output file that is
/// one of the command's input files. base::ConfigError.
void check_option_values(CLI::App& command);

}  // namespace moesaic::cli
