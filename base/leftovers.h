#pragma once
/// What must not outlive the program when a signal ends it: unfinished files, scratch folders, programs that it runs.
#include <signal.h>

#include <string>

namespace moesaic::base {

/// Names one such thing. While the object lives, a signal that ends the program clears the thing away first.
class Leftover {
 public:
  Leftover() = default;
  /// To be unlinked; name it before it exists, so that no signal falls between.
  static Leftover file(const std::string& path);
  /// To be removed, empty once the files in it are unlinked.
  static Leftover folder(const std::string& path);
  /// A child that was not waited for, to be killed before anything is unlinked.
  static Leftover child(pid_t child);
  Leftover(Leftover&& other) noexcept;
  Leftover& operator=(Leftover&& other) noexcept;
  ~Leftover() { forget(); }
  /// It is whole, gone, or waited for.
  void forget();

 private:
  int slot_ = -1;  // -1: nothing, or more at a time than the list has room for
};

/// Holds back the signals that end a program.
class SignalsWait {
 public:
  SignalsWait();
  ~SignalsWait();
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;
  /// As they were handled before: in a new process that is to run another program.
  void end_in_child() const;

 private:
  sigset_t before_;
};

/// From main() once: SIGINT, SIGTERM, SIGHUP and SIGPIPE clear every Leftover away, then act as by default.
void clear_leftovers_on_signals();

}  // namespace moesaic::base
