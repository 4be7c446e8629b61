#include "base/progress.h"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace moesaic::base {

Progress::Progress(std::string label, std::int64_t total, std::int64_t parts)
    : label_(std::move(label)),
      total_(total),
      parts_(parts),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

std::string Progress::line(const std::string& label, std::int64_t done, std::int64_t total, double elapsed_s,
                           std::int64_t parts) {
  const std::int64_t all = total * parts;
  std::string text = label + ": " + std::to_string(all > 0 ? 100 * done / all : 100) + " % (" +
                     std::to_string(done / parts) + " of " + std::to_string(total) + ")";
  if (done > 0 && done < all) {
    const double left = elapsed_s * static_cast<double>(all - done) / static_cast<double>(done);
    const auto seconds = static_cast<std::int64_t>(left + 0.5);
    if (seconds >= 60) text += ", " + std::to_string(seconds / 60) + " min";
    text += (seconds >= 60 ? " " : ", ") + std::to_string(seconds % 60) + " s left";
  }
  return text;
}

void Progress::step(std::int64_t more) {
  const std::lock_guard<std::mutex> lock(mutex_);
  done_ += more;
  if (!terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (shown_ && now - last_ < std::chrono::milliseconds(200) && done_ < total_ * parts_) return;
  last_ = now;
  shown_ = true;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  std::fprintf(stderr, "\r%s\033[K", line(label_, done_, total_, elapsed, parts_).c_str());
  std::fflush(stderr);
}

}  // namespace moesaic::base
