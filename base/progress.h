#pragma once
/// One line on a terminal's standard error with the share done and the time left; nothing at all in a pipe.
///   base::Progress progress("calibrate", experts);  for (...) progress.step();
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace moesaic::base {

class Progress {
 public:
  /// With `parts` steps are parts, so many of each of the `total`.
  Progress(std::string label, std::int64_t total, std::int64_t parts = 1);
  ~Progress();  ///< clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void step(std::int64_t more = 1);  ///< may be called from several threads
  /// The line as it would be shown after `elapsed_s` seconds: "calibrate: 25 % (4 of 16), 3 s left".
  static std::string line(const std::string& label, std::int64_t done, std::int64_t total, double elapsed_s,
                          std::int64_t parts = 1);

 private:
  std::string label_;
  std::int64_t total_, parts_;
  std::int64_t done_ = 0;
  bool shown_ = false;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, last_;
  std::mutex mutex_;
};

}  // namespace moesaic::base
