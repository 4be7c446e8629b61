#include "workloads/lines.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <boost/iostreams/concepts.hpp>
#include <boost/iostreams/filter/gzip.hpp>
#include <boost/iostreams/filter/zstd.hpp>
#include <boost/iostreams/filtering_streambuf.hpp>
#include <cerrno>
#include <cstring>
#include <ios>
#include <new>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"

namespace moesaic::workloads {
namespace {

namespace io = boost::iostreams;

constexpr std::size_t kLongestLine = 1 << 20;
constexpr std::size_t kChunk = 1 << 16;

enum class Compression { kNone, kGzip, kZstd };

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Compression compression_of(const std::string& path) {
  if (ends_with(path, ".gz")) return Compression::kGzip;
  if (ends_with(path, ".zst")) return Compression::kZstd;
  return Compression::kNone;
}

constexpr const char* kReadable = "a readable file";

/// A file descriptor as a Boost source.
class DescriptorSource : public io::source {
 public:
  DescriptorSource(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  std::streamsize read(char* to, std::streamsize count) {
    for (;;) {
      const ssize_t got = ::read(fd_, to, static_cast<std::size_t>(count));
      if (got > 0) return got;
      if (got == 0) return -1;
      if (errno != EINTR) throw base::ConfigError(path_, "read", std::strerror(errno), kReadable);
    }
  }

 private:
  int fd_;
  std::string path_;
};

/// A zstd file as a Boost source. Boost's own filter takes a frame that lacks its end for a whole one.
class ZstdSource : public io::source {
 public:
  explicit ZstdSource(DescriptorSource file) : state_(std::make_shared<State>(std::move(file))) {}
  std::streamsize read(char* to, std::streamsize count) {
    State& s = *state_;
    ZSTD_outBuffer out = {to, static_cast<std::size_t>(count), 0};
    while (out.pos == 0) {
      if (s.in.pos == s.in.size && !s.pending) {
        const std::streamsize got = s.file.read(s.compressed, sizeof s.compressed);
        if (got < 0) {
          if (s.inside_frame) throw std::ios_base::failure("the file ends inside a frame");
          return -1;
        }
        s.in = {s.compressed, static_cast<std::size_t>(got), 0};
      }
      const std::size_t left = ZSTD_decompressStream(s.stream.get(), &out, &s.in);
      if (ZSTD_isError(left) != 0) throw std::ios_base::failure(ZSTD_getErrorName(left));
      s.inside_frame = left != 0;
      s.pending = s.inside_frame && out.pos == out.size;  // more output may wait in the decoder
    }
    return static_cast<std::streamsize>(out.pos);
  }

 private:
  struct State {
    explicit State(DescriptorSource f) : file(std::move(f)), stream(ZSTD_createDStream(), ZSTD_freeDStream) {
      if (!stream) throw std::bad_alloc();
    }
    DescriptorSource file;
    std::unique_ptr<ZSTD_DStream, std::size_t (*)(ZSTD_DStream*)> stream;
    char compressed[kChunk];
    ZSTD_inBuffer in = {compressed, 0, 0};
    bool inside_frame = true;  // an empty file is no frame either
    bool pending = false;
  };
  std::shared_ptr<State> state_;  // Boost copies its devices
};

class AtomicSink : public io::sink {
 public:
  explicit AtomicSink(base::AtomicFile* file) : file_(file) {}
  std::streamsize write(const char* from, std::streamsize count) {
    file_->write(from, static_cast<std::size_t>(count));
    return count;
  }

 private:
  base::AtomicFile* file_;
};

}  // namespace

std::string uncompressed_name(const std::string& path) {
  switch (compression_of(path)) {
    case Compression::kGzip:
      return path.substr(0, path.size() - 3);
    case Compression::kZstd:
      return path.substr(0, path.size() - 4);
    case Compression::kNone:
      break;
  }
  return path;
}

struct LineReader::Impl {
  std::string path;
  int fd = -1;
  io::filtering_streambuf<io::input> stream;
  std::string buffer;    // what was decompressed and not handed out
  std::size_t used = 0;  // of buffer
  bool ended = false;
  std::uint64_t number = 0;

  ~Impl() {
    if (fd >= 0) ::close(fd);
  }
  void fill();
};

LineReader::LineReader(const std::string& path) : impl_(std::make_unique<Impl>()) {
  Impl& m = *impl_;
  m.path = path;
  m.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (m.fd < 0) throw base::ConfigError(path, "read", std::strerror(errno), kReadable);
  struct stat status = {};
  if (fstat(m.fd, &status) == 0 && S_ISDIR(status.st_mode))
    throw base::ConfigError(path, "read", "a folder", kReadable);
  const Compression compression = compression_of(path);
  if (compression == Compression::kGzip) m.stream.push(io::gzip_decompressor());
  DescriptorSource file(m.fd, path);
  if (compression == Compression::kZstd)
    m.stream.push(ZstdSource(std::move(file)));
  else
    m.stream.push(file);
}

LineReader::~LineReader() = default;
LineReader::LineReader(LineReader&&) noexcept = default;
LineReader& LineReader::operator=(LineReader&&) noexcept = default;

void LineReader::Impl::fill() {
  buffer.erase(0, used);
  used = 0;
  const std::size_t kept = buffer.size();
  buffer.resize(kept + kChunk);
  try {
    const std::streamsize got = stream.sgetn(buffer.data() + kept, kChunk);
    buffer.resize(kept + static_cast<std::size_t>(got));
    ended = got == 0;
  } catch (const std::ios_base::failure& error) {  // io::gzip_error among them
    throw base::ConfigError(path + ":" + std::to_string(number + 1), "archive",
                            "damaged or truncated data (" + std::string(error.what()) + ")",
                            compression_of(path) == Compression::kGzip ? "a whole gzip file" : "a whole zstd file");
  }
}

bool LineReader::next(std::string& line) {
  Impl& m = *impl_;
  std::size_t searched = m.used;
  for (;;) {
    const std::size_t newline = m.buffer.find('\n', searched);
    if (newline != std::string::npos) {
      line.assign(m.buffer, m.used, newline - m.used);
      m.used = newline + 1;
      ++m.number;
      return true;
    }
    if (m.ended) {
      if (m.used == m.buffer.size()) return false;
      throw base::ConfigError(m.path + ":" + std::to_string(m.number + 1), "line", "the end of the file inside it",
                              "a newline at its end (is the file truncated?)");
    }
    if (m.buffer.size() - m.used > kLongestLine)
      throw base::ConfigError(m.path + ":" + std::to_string(m.number + 1), "line", "more than 1 MiB",
                              "a line of at most 1 MiB");
    searched = m.buffer.size() - m.used;
    m.fill();
  }
}

std::uint64_t LineReader::line_number() const { return impl_->number; }
std::string LineReader::where() const { return impl_->path + ":" + std::to_string(impl_->number); }

struct TextWriter::Impl {
  base::AtomicFile file;
  io::filtering_streambuf<io::output> stream;
  explicit Impl(const std::string& path) : file(path) {}
};

TextWriter::TextWriter(const std::string& path) : impl_(std::make_unique<Impl>(path)) {
  const Compression compression = compression_of(path);
  if (compression == Compression::kGzip) impl_->stream.push(io::gzip_compressor());
  if (compression == Compression::kZstd) impl_->stream.push(io::zstd_compressor());
  impl_->stream.push(AtomicSink(&impl_->file));
}

TextWriter::~TextWriter() = default;
TextWriter::TextWriter(TextWriter&&) noexcept = default;
TextWriter& TextWriter::operator=(TextWriter&&) noexcept = default;

void TextWriter::write(std::string_view text) {
  const std::streamsize written = impl_->stream.sputn(text.data(), static_cast<std::streamsize>(text.size()));
  if (written != static_cast<std::streamsize>(text.size())) throw base::InputError("text: the stream took too little");
}

void TextWriter::commit() {
  impl_->stream.reset();  // flushes the compressor into the file
  impl_->file.commit();
}

}  // namespace moesaic::workloads
