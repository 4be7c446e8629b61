/// Text files by lines, plain or compressed: .gz and .zst by the end of the name. Streaming both ways, so that a trace
/// larger than memory can be read and written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace moesaic::workloads {

/// The name without .gz or .zst.
std::string uncompressed_name(const std::string& path);

class LineReader {
 public:
  /// Throws base::InputError when the file cannot be read.
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(LineReader&&) noexcept;
  LineReader& operator=(LineReader&&) noexcept;

  /// The next line without its newline; false after the last. Throws base::ConfigError for a truncated or damaged
  /// archive, a last line without a newline (the sign of a truncated text) and a line longer than 1 MiB.
  bool next(std::string& line);
  std::uint64_t line_number() const;  ///< of the line next() gave last, from 1
  std::string where() const;          ///< "file:line" of that line

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Written whole or not at all: nothing is at `path` before commit(). The same text gives the same bytes.
class TextWriter {
 public:
  explicit TextWriter(const std::string& path);
  ~TextWriter();
  TextWriter(TextWriter&&) noexcept;
  TextWriter& operator=(TextWriter&&) noexcept;

  void write(std::string_view text);
  void commit();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moesaic::workloads
