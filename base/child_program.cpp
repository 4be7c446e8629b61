#include "base/child_program.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "base/leftovers.h"

namespace moesaic::base {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kNotFound = 127;  // the shell's word for it

[[noreturn]] void become(char* const* arguments, pid_t parent, const SignalsWait& signals) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kNotFound);  // it died before the line above
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (null < 0 || dup2(null, fd) < 0) _exit(kNotFound);
  signals.end_in_child();
  execvp(arguments[0], arguments);
  _exit(kNotFound);
}

/// Whether it has ended. It stays to be waited for, so that its number is nobody else's before it is forgotten.
bool has_ended(pid_t child, int options) {
  siginfo_t info{};
  while (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT | options) != 0)
    if (errno != EINTR) throw std::logic_error(std::string("waitid: ") + std::strerror(errno));
  return info.si_pid == child;
}

}  // namespace

std::optional<ProgramEnd> run_program(const std::vector<std::string>& words,
                                      std::optional<std::chrono::duration<double>> limit) {
  std::vector<std::string> copies = words;
  std::vector<char*> arguments;
  for (std::string& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const auto begin = Clock::now();
  pid_t child = 0;
  Leftover leftover;
  {
    const SignalsWait signals_wait;  // none between its start and its being known
    const pid_t parent = getpid();
    child = fork();
    if (child < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (child == 0) become(arguments.data(), parent, signals_wait);
    leftover = Leftover::child(child);
  }
  ProgramEnd end;
  if (limit) {
    auto pause = std::chrono::milliseconds(1);
    while (!has_ended(child, WNOHANG)) {
      if (Clock::now() - begin >= *limit) {
        end.timed_out = true;
        kill(child, SIGKILL);
        break;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(pause * 2, std::chrono::milliseconds(20));
    }
  }
  has_ended(child, 0);
  leftover.forget();
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) throw std::logic_error(std::string("waitpid: ") + std::strerror(errno));
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (end.status == kNotFound) return std::nullopt;
  return end;
}

}  // namespace moesaic::base
