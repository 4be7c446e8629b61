#pragma once
/// safetensors files: a strict reader that never loads more than is asked for, and a deterministic writer.
/// Layout: u64 little-endian header length, JSON header, tensor bytes. Refused with an InputError that names the file,
/// the tensor and what was expected: a truncated file, a header longer than the file or than 100 MB, malformed or
/// duplicate keys, an unknown dtype, offsets that overlap, leave holes or do not end at the file's end, shape x dtype
/// != size.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moesaic::base {

enum class DType { kI8, kU8, kI16, kU16, kI32, kU32, kI64, kF16, kBf16, kF32, kF64 };
std::size_t dtype_bytes(DType dtype);
const char* dtype_name(DType dtype);  ///< "I8", "BF16", ... as in the file

/// The DType of a C++ integer or floating type.
template <class T>
DType dtype_of();

struct TensorInfo {
  DType dtype = DType::kU8;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;  ///< byte offset after the header
  std::uint64_t end = 0;
  std::int64_t elements() const;
};
std::string shape_text(const std::vector<std::int64_t>& shape);  ///< "[2, 3]"

/// An open file. Only the header is in memory; read() takes one tensor, or a part of it, from the disk.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&& other) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&& other) noexcept;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }
  const TensorInfo& info(const std::string& name) const;  ///< InputError when absent

  /// The tensor's elements; its dtype must be T's exactly.
  template <class T>
  std::vector<T> read(const std::string& name) const;
  /// As above, and its shape must be `shape`.
  template <class T>
  std::vector<T> read(const std::string& name, const std::vector<std::int64_t>& shape) const;
  /// F16, BF16, F32 or F64 widened or rounded to float.
  std::vector<float> read_float(const std::string& name) const;
  /// As read_float, elements first..first+count-1 in row-major order.
  std::vector<float> read_float(const std::string& name, std::int64_t first, std::int64_t count) const;
  /// Raw bytes first..first+bytes-1 of the tensor.
  void read_bytes(const std::string& name, std::uint64_t first, std::size_t bytes, void* to) const;

 private:
  std::string path_;
  int fd_ = -1;
  std::uint64_t data_begin_ = 0;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

float f16_to_float(std::uint16_t bits);
float bf16_to_float(std::uint16_t bits);
std::uint16_t float_to_bf16(float value);  ///< round to nearest even

/// One tensor to be written; `data` must stay alive until the write.
struct TensorView {
  DType dtype = DType::kU8;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};
template <class T>
TensorView tensor_view(const std::vector<T>& values, std::vector<std::int64_t> shape);

/// Tensors in name order, compact header padded with spaces to 8 bytes, same input same bytes, atomic. Throws
/// std::logic_error when a view's shape does not hold its elements.
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

template <>
DType dtype_of<std::int8_t>();
template <>
DType dtype_of<std::uint8_t>();
template <>
DType dtype_of<std::int16_t>();
template <>
DType dtype_of<std::uint16_t>();
template <>
DType dtype_of<std::int32_t>();
template <>
DType dtype_of<std::uint32_t>();
template <>
DType dtype_of<std::int64_t>();
template <>
DType dtype_of<float>();
template <>
DType dtype_of<double>();

namespace detail {
void check_view(std::size_t elements, const std::vector<std::int64_t>& shape);
void check_dtype(const SafetensorsFile& file, const std::string& name, DType expected);
void check_shape(const SafetensorsFile& file, const std::string& name, const std::vector<std::int64_t>& expected);
}  // namespace detail

template <class T>
std::vector<T> SafetensorsFile::read(const std::string& name) const {
  detail::check_dtype(*this, name, dtype_of<T>());
  std::vector<T> values(static_cast<std::size_t>(info(name).elements()));
  read_bytes(name, 0, values.size() * sizeof(T), values.data());
  return values;
}

template <class T>
std::vector<T> SafetensorsFile::read(const std::string& name, const std::vector<std::int64_t>& shape) const {
  detail::check_dtype(*this, name, dtype_of<T>());
  detail::check_shape(*this, name, shape);
  return read<T>(name);
}

template <class T>
TensorView tensor_view(const std::vector<T>& values, std::vector<std::int64_t> shape) {
  detail::check_view(values.size(), shape);
  return {dtype_of<T>(), std::move(shape), values.data()};
}

}  // namespace moesaic::base
