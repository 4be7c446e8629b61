#include "cli/child_process.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "base/error.h"

namespace moesaic::cli {

namespace {

// What the first byte of the child's answer says the rest is.
constexpr char kResult = 'R', kInputError = 'I', kCheckError = 'C', kOtherError = 'E';

std::string answer(const std::function<std::string()>& body) {
  try {
    return kResult + body();
  } catch (const base::InputError& error) {
    return kInputError + std::string(error.what());
  } catch (const base::CheckError& error) {
    return kCheckError + std::string(error.what());
  } catch (const std::exception& error) {
    return kOtherError + std::string(error.what());
  }
}

[[noreturn]] void be_the_child(int to_parent, pid_t parent, const std::function<std::string()>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(3);  // it died before the line above
  const std::string bytes = answer(body);
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = write(to_parent, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) _exit(3);
    done += static_cast<std::size_t>(written);
  }
  std::fflush(nullptr);
  _exit(0);
}

}  // namespace

std::string run_in_child(const std::function<std::string()>& body) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
  std::fflush(nullptr);
  const pid_t parent = getpid(), child = fork();
  if (child < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    close(pipe_ends[0]);
    be_the_child(pipe_ends[1], parent, body);
  }
  close(pipe_ends[1]);
  std::string bytes;
  char part[65536];
  for (;;) {
    const ssize_t got = read(pipe_ends[0], part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    bytes.append(part, static_cast<std::size_t>(got));
  }
  close(pipe_ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status))
    throw std::runtime_error(std::string("the engine's process died: ") + strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0 || bytes.empty())
    throw std::runtime_error("the engine's process ended without an answer");
  const std::string text = bytes.substr(1);
  switch (bytes[0]) {
    case kResult:
      return text;
    case kInputError:
      throw base::InputError(text);
    case kCheckError:
      throw base::CheckError(text);
    default:
      throw std::runtime_error(text);
  }
}

}  // namespace moesaic::cli
