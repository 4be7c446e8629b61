#include "base/leftovers.h"

#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <utility>

namespace moesaic::base {

namespace {

constexpr int kSlots = 64;
constexpr int kEndingSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

enum State { kFree, kBeingFilled, kFile, kFolder, kChild };

// Plain memory, because a signal handler may touch nothing else.
struct Slot {
  std::atomic<int> state{kFree};
  pid_t child = 0;
  char name[PATH_MAX] = {};
};
Slot slots[kSlots];

int take_slot(State kind, const std::string& name, pid_t child) {
  if (name.size() >= PATH_MAX) return -1;
  for (int i = 0; i < kSlots; ++i) {
    int free_state = kFree;
    if (!slots[i].state.compare_exchange_strong(free_state, kBeingFilled)) continue;
    std::memcpy(slots[i].name, name.c_str(), name.size() + 1);
    slots[i].child = child;
    slots[i].state = kind;
    return i;
  }
  return -1;
}

// A program that writes goes first, and a folder once its files are gone.
extern "C" void clear_and_die(int signal_number) {
  for (auto& slot : slots)
    if (slot.state == kChild && kill(slot.child, SIGKILL) == 0) waitpid(slot.child, nullptr, 0);
  for (auto& slot : slots)
    if (slot.state == kFile) unlink(slot.name);
  for (auto& slot : slots)
    if (slot.state == kFolder) rmdir(slot.name);
  std::signal(signal_number, SIG_DFL);
  raise(signal_number);
}

}  // namespace

Leftover Leftover::file(const std::string& path) {
  Leftover leftover;
  leftover.slot_ = take_slot(kFile, path, 0);
  return leftover;
}

Leftover Leftover::folder(const std::string& path) {
  Leftover leftover;
  leftover.slot_ = take_slot(kFolder, path, 0);
  return leftover;
}

Leftover Leftover::child(pid_t child) {
  Leftover leftover;
  leftover.slot_ = take_slot(kChild, "", child);
  return leftover;
}

Leftover::Leftover(Leftover&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}

Leftover& Leftover::operator=(Leftover&& other) noexcept {
  std::swap(slot_, other.slot_);
  return *this;
}

void Leftover::forget() {
  if (slot_ >= 0) slots[slot_].state = kFree;
  slot_ = -1;
}

SignalsWait::SignalsWait() {
  sigset_t ending;
  sigemptyset(&ending);
  for (const int signal_number : kEndingSignals) sigaddset(&ending, signal_number);
  pthread_sigmask(SIG_BLOCK, &ending, &before_);
}

SignalsWait::~SignalsWait() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

void SignalsWait::end_in_child() const {
  for (const int signal_number : kEndingSignals) {
    struct sigaction old {};
    sigaction(signal_number, nullptr, &old);
    if (old.sa_handler != SIG_IGN) std::signal(signal_number, SIG_DFL);
  }
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void clear_leftovers_on_signals() {
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the shell's limit is then an error like any other
  for (const int signal_number : kEndingSignals) {
    struct sigaction old {};
    sigaction(signal_number, nullptr, &old);
    if (old.sa_handler == SIG_IGN) continue;  // nohup and its like asked for that
    struct sigaction action {};
    action.sa_handler = clear_and_die;
    sigemptyset(&action.sa_mask);
    sigaction(signal_number, &action, nullptr);
  }
}

}  // namespace moesaic::base
