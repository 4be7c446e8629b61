#pragma once
/// What a CUDA launcher answers: kOk, or what was wrong in one line. Nothing has been launched unless it is kOk.
#include <cstdint>
#include <string>
#include <utility>

namespace moesaic::cuda {

enum class StatusCode : std::uint8_t {
  kOk,
  kBadShape,      ///< an extent is out of its range; the text names it and its limit
  kNullPointer,   ///< an operand is missing; the text names it
  kLaunchFailed,  ///< the CUDA runtime refused or failed; the text is its own
  kOutOfMemory,   ///< the device has not that much memory free
};

class Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string text) : code_(code), text_(std::move(text)) {}
  bool is_ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& text() const { return text_; }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string text_;
};

}  // namespace moesaic::cuda
