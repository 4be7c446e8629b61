#include "base/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor bytes are read and written as they lie in memory");

namespace moesaic::base {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // as the format's own library

struct DTypeRow {
  DType dtype;
  const char* name;
  std::size_t bytes;
};
constexpr DTypeRow kDTypes[] = {{DType::kI8, "I8", 1},   {DType::kU8, "U8", 1},   {DType::kI16, "I16", 2},
                                {DType::kU16, "U16", 2}, {DType::kI32, "I32", 4}, {DType::kU32, "U32", 4},
                                {DType::kI64, "I64", 8}, {DType::kF16, "F16", 2}, {DType::kBf16, "BF16", 2},
                                {DType::kF32, "F32", 4}, {DType::kF64, "F64", 8}};

const DTypeRow& row_of(DType dtype) {
  for (const auto& row : kDTypes)
    if (row.dtype == dtype) return row;
  throw std::logic_error("a dtype without a name");
}

// pread until all is there: 0, or errno, or -1 at the end of the file.
int read_fully(int fd, std::uint64_t offset, std::size_t bytes, void* to) {
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = pread(fd, at, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) return -1;
    at += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
  return 0;
}

// The JSON library keeps the last of two equal keys; a header with two is refused.
Json parse_header(const std::string& text, const std::string& path) {
  std::map<int, std::set<std::string>> keys;
  const auto on_event = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) keys[depth + 1].clear();
    if (event == Json::parse_event_t::key && !keys[depth].insert(parsed.get<std::string>()).second)
      throw ConfigError(path, "header", "the name '" + parsed.get<std::string>() + "' a second time", "each name once");
    return true;
  };
  try {
    return Json::parse(text, on_event);
  } catch (const Json::exception& error) {
    throw ConfigError(path, "header", error.what(), "a JSON object");
  }
}

// A count of elements or bytes from a header: an unsigned JSON integer below 2^63.
std::uint64_t count_of(const Json& value, const std::string& path, const std::string& key) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMost)
    throw ConfigError(path, key, value.dump(), "an integer from 0 to 2^63 - 1");
  return value.get<std::uint64_t>();
}

TensorInfo tensor_of(const Json& entry, const std::string& path, const std::string& name) {
  const std::string key = "tensor " + name;
  if (!entry.is_object()) throw ConfigError(path, key, entry.type_name(), "an object with dtype, shape, data_offsets");
  for (const auto& item : entry.items())
    if (item.key() != "dtype" && item.key() != "shape" && item.key() != "data_offsets")
      throw ConfigError(path, key, "the key '" + item.key() + "'", "dtype, shape, data_offsets");
  for (const char* needed : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(needed))
      throw ConfigError(path, key, "no " + std::string(needed), "dtype, shape, data_offsets");

  TensorInfo info;
  const Json& dtype = entry["dtype"];
  const DTypeRow* row = nullptr;
  std::string choices;
  for (const auto& candidate : kDTypes) {
    if (dtype.is_string() && dtype.get<std::string>() == candidate.name) row = &candidate;
    choices += (choices.empty() ? "" : ", ") + std::string(candidate.name);
  }
  if (row == nullptr) throw ConfigError(path, key + ": dtype", dtype.dump(), "one of " + choices);
  info.dtype = row->dtype;

  const Json& shape = entry["shape"];
  if (!shape.is_array()) throw ConfigError(path, key + ": shape", shape.type_name(), "a list of extents");
  std::uint64_t bytes = row->bytes;
  for (const Json& extent : shape) {
    const std::uint64_t e = count_of(extent, path, key + ": shape");
    if (e != 0 && bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / e)
      throw ConfigError(path, key + ": shape", shape.dump(), "fewer than 2^63 bytes");
    bytes *= e;
    info.shape.push_back(static_cast<std::int64_t>(e));
  }

  const Json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    throw ConfigError(path, key + ": data_offsets", offsets.dump(), "[begin, end]");
  info.begin = count_of(offsets[0], path, key + ": data_offsets");
  info.end = count_of(offsets[1], path, key + ": data_offsets");
  if (info.end < info.begin || info.end - info.begin != bytes)
    throw ConfigError(path, key + ": data_offsets", offsets.dump(),
                      std::to_string(bytes) + " bytes for " + row->name + " " + shape_text(info.shape));
  return info;
}

}  // namespace

std::size_t dtype_bytes(DType dtype) { return row_of(dtype).bytes; }
const char* dtype_name(DType dtype) { return row_of(dtype).name; }

template <>
DType dtype_of<std::int8_t>() {
  return DType::kI8;
}
template <>
DType dtype_of<std::uint8_t>() {
  return DType::kU8;
}
template <>
DType dtype_of<std::int16_t>() {
  return DType::kI16;
}
template <>
DType dtype_of<std::uint16_t>() {
  return DType::kU16;
}
template <>
DType dtype_of<std::int32_t>() {
  return DType::kI32;
}
template <>
DType dtype_of<std::uint32_t>() {
  return DType::kU32;
}
template <>
DType dtype_of<std::int64_t>() {
  return DType::kI64;
}
template <>
DType dtype_of<float>() {
  return DType::kF32;
}
template <>
DType dtype_of<double>() {
  return DType::kF64;
}

std::int64_t TensorInfo::elements() const {
  std::int64_t count = 1;
  for (const auto extent : shape) count *= extent;
  return count;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const auto extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path) {
  fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) throw ConfigError(path, "read", std::strerror(errno), "a readable safetensors file");
  try {
    struct stat status {};
    if (fstat(fd_, &status) != 0) throw ConfigError(path, "read", std::strerror(errno), "a readable safetensors file");
    if (!S_ISREG(status.st_mode))
      throw ConfigError(path, "read", S_ISDIR(status.st_mode) ? "a folder" : "no regular file", "a safetensors file");
    const auto size = static_cast<std::uint64_t>(status.st_size);
    std::uint64_t header_bytes = 0;
    if (size < 8) throw ConfigError(path, "size", std::to_string(size) + " bytes", "at least 8");
    if (const int error = read_fully(fd_, 0, 8, &header_bytes); error != 0)
      throw ConfigError(path, "read", error > 0 ? std::strerror(error) : "a shrinking file", "8 bytes");
    const std::uint64_t most = std::min(size - 8, kMaxHeaderBytes);
    if (header_bytes > most)
      throw ConfigError(
          path, "header length", std::to_string(header_bytes),
          "at most " + std::to_string(most) + (most < kMaxHeaderBytes ? " (the file's size less 8)" : ""));
    std::string header(static_cast<std::size_t>(header_bytes), '\0');
    if (const int error = read_fully(fd_, 8, header.size(), header.data()); error != 0)
      throw ConfigError(path, "read", error > 0 ? std::strerror(error) : "a shrinking file", "the header");
    data_begin_ = 8 + header_bytes;

    const Json json = parse_header(header, path);
    if (!json.is_object()) throw ConfigError(path, "header", json.type_name(), "a JSON object");
    for (const auto& item : json.items()) {
      if (item.key() != "__metadata__") {
        tensors_[item.key()] = tensor_of(item.value(), path, item.key());
        continue;
      }
      if (!item.value().is_object()) throw ConfigError(path, "__metadata__", item.value().type_name(), "an object");
      for (const auto& pair : item.value().items()) {
        if (!pair.value().is_string())
          throw ConfigError(path, "__metadata__." + pair.key(), pair.value().dump(), "a string");
        metadata_[pair.key()] = pair.value().get<std::string>();
      }
    }

    std::vector<std::pair<std::uint64_t, std::string>> order;  // by begin, then end, so that empty tensors come first
    for (const auto& [name, info] : tensors_) order.emplace_back(info.begin, name);
    std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
      return std::make_pair(a.first, tensors_[a.second].end) < std::make_pair(b.first, tensors_[b.second].end);
    });
    std::uint64_t expected_begin = 0;
    for (const auto& [begin, name] : order) {
      if (begin != expected_begin)
        throw ConfigError(
            path, "tensor " + name + ": data_offsets", std::to_string(begin),
            std::to_string(expected_begin) + " (no " + (begin < expected_begin ? "overlap" : "hole") + ")");
      expected_begin = tensors_[name].end;
    }
    if (expected_begin != size - data_begin_)
      throw ConfigError(path, "size", std::to_string(size - data_begin_) + " bytes of tensors",
                        std::to_string(expected_begin) + " as the header says");
  } catch (...) {
    close(fd_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() {
  if (fd_ >= 0) close(fd_);
}

SafetensorsFile::SafetensorsFile(SafetensorsFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      data_begin_(other.data_begin_),
      tensors_(std::move(other.tensors_)),
      metadata_(std::move(other.metadata_)) {}

SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(data_begin_, other.data_begin_);
  std::swap(tensors_, other.tensors_);
  std::swap(metadata_, other.metadata_);
  return *this;
}

const TensorInfo& SafetensorsFile::info(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw ConfigError(path_, "tensor " + name, "nothing", "this tensor");
  return found->second;
}

void SafetensorsFile::read_bytes(const std::string& name, std::uint64_t first, std::size_t bytes, void* to) const {
  const TensorInfo& tensor = info(name);
  if (first > tensor.end - tensor.begin || bytes > tensor.end - tensor.begin - first)
    throw std::out_of_range("read past the end of tensor " + name);
  if (const int error = read_fully(fd_, data_begin_ + tensor.begin + first, bytes, to); error != 0)
    throw ConfigError(path_, "tensor " + name, error > 0 ? std::strerror(error) : "a shrinking file",
                      std::to_string(bytes) + " bytes");
}

std::vector<float> SafetensorsFile::read_float(const std::string& name) const {
  return read_float(name, 0, info(name).elements());
}

std::vector<float> SafetensorsFile::read_float(const std::string& name, std::int64_t first, std::int64_t count) const {
  const TensorInfo& tensor = info(name);
  const auto n = static_cast<std::size_t>(count);
  const std::size_t element = dtype_bytes(tensor.dtype);
  const std::uint64_t offset = static_cast<std::uint64_t>(first) * element;
  std::vector<float> values(n);
  switch (tensor.dtype) {
    case DType::kF32:
      read_bytes(name, offset, n * element, values.data());
      break;
    case DType::kF64: {
      std::vector<double> raw(n);
      read_bytes(name, offset, n * element, raw.data());
      for (std::size_t i = 0; i < n; ++i) values[i] = static_cast<float>(raw[i]);
      break;
    }
    case DType::kF16:
    case DType::kBf16: {
      std::vector<std::uint16_t> raw(n);
      read_bytes(name, offset, n * element, raw.data());
      const bool half = tensor.dtype == DType::kF16;
      for (std::size_t i = 0; i < n; ++i) values[i] = half ? f16_to_float(raw[i]) : bf16_to_float(raw[i]);
      break;
    }
    default:
      throw ConfigError(path_, "tensor " + name + ": dtype", dtype_name(tensor.dtype), "F16, BF16, F32 or F64");
  }
  return values;
}

namespace detail {

void check_view(std::size_t elements, const std::vector<std::int64_t>& shape) {
  std::size_t count = 1;
  for (const auto extent : shape) count *= static_cast<std::size_t>(extent);
  if (count != elements)
    throw std::logic_error("a view of " + std::to_string(elements) + " elements with shape " + shape_text(shape));
}

void check_dtype(const SafetensorsFile& file, const std::string& name, DType expected) {
  const DType got = file.info(name).dtype;
  if (got != expected)
    throw ConfigError(file.path(), "tensor " + name + ": dtype", dtype_name(got), dtype_name(expected));
}

void check_shape(const SafetensorsFile& file, const std::string& name, const std::vector<std::int64_t>& expected) {
  const auto& got = file.info(name).shape;
  if (got != expected)
    throw ConfigError(file.path(), "tensor " + name + ": shape", shape_text(got), shape_text(expected));
}

}  // namespace detail

float bf16_to_float(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

std::uint16_t float_to_bf16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // keep a NaN a NaN
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31u;
  const std::uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormal: fraction * 2^-24
    const float value = static_cast<float>(fraction) * 0x1.0p-24f;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | (fraction << 13);
  float value = 0;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) header += "\"__metadata__\":" + Json(metadata).dump();
  std::uint64_t offset = 0;
  std::vector<std::size_t> sizes;
  for (const auto& [name, tensor] : tensors) {
    std::size_t bytes = dtype_bytes(tensor.dtype);
    std::string shape;
    for (const auto extent : tensor.shape) {
      bytes *= static_cast<std::size_t>(extent);
      shape += (shape.empty() ? "" : ",") + std::to_string(extent);
    }
    if (header.size() > 1) header += ",";
    header += Json(name).dump() + ":{\"dtype\":\"" + dtype_name(tensor.dtype) + "\",\"shape\":[" + shape +
              "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(offset + bytes) + "]}";
    offset += bytes;
    sizes.push_back(bytes);
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');

  AtomicFile file(path);
  const std::uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header);
  std::size_t i = 0;
  for (const auto& entry : tensors) file.write(entry.second.data, sizes[i++]);
  file.commit();
}

}  // namespace moesaic::base
