#pragma once
/// The project's errors. The program's exit code follows from the type: InputError 2, CheckError 1, anything else 3.
/// Texts are one line: `where: key: got X, expected Y`; `where` is `file:line` when the value came from a text file.
#include <stdexcept>
#include <string>

namespace moesaic::base {

/// Bad input or usage: the caller can mend it. Exit code 2.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A value in a file or on the command line that was refused: `where: key: got X, expected Y`.
class ConfigError : public InputError {
 public:
  ConfigError(const std::string& where, const std::string& key, const std::string& got, const std::string& expected)
      : InputError(where + ": " + key + ": got " + got + ", expected " + expected) {}
};

/// A comparison that had to hold did not: two implementations differ, a bound is broken. Exit code 1.
class CheckError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace moesaic::base
