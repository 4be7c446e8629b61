#pragma once
/// What the option parser lets pass and no command means.
#include <CLI/CLI.hpp>
#include <string>

namespace moesaic::cli {

/// Lets the command and its subcommands refuse, before they run: an empty value, as of a shell variable that is not
/// set; a whole number in anything but decimal digits, or one that its type does not hold; a number that is not finite;
/// and an output file that is one of the command's input files. An option of numbers keeps the parser's name of its
/// type, by which it is known here. base::ConfigError.
void check_option_values(CLI::App& command);

/// What the option parser refused, as every refusal is worded: `key: got X, expected Y`. A wording of its own that is
/// not known here stays as it is.
std::string refusal_of(const CLI::ParseError& error);

}  // namespace moesaic::cli
