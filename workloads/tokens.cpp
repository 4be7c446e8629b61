#include "workloads/tokens.h"

#include <limits>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/safetensors.h"

namespace moesaic::workloads {
namespace {

template <class T>
std::vector<std::uint32_t> checked(const std::vector<T>& values, const std::string& path) {
  std::vector<std::uint32_t> tokens;
  tokens.reserve(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t token = static_cast<std::int64_t>(values[i]);
    if (token < 0 || token > std::numeric_limits<std::uint32_t>::max())
      throw base::ConfigError(path, "tokens[" + std::to_string(i) + "]", std::to_string(token), "0 to 4294967295");
    tokens.push_back(static_cast<std::uint32_t>(token));
  }
  return tokens;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::vector<std::uint32_t> read_text(const std::string& path) {
  const std::string bytes = base::read_file(path);
  std::vector<std::uint32_t> tokens;
  tokens.reserve(bytes.size());
  for (const char c : bytes) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::vector<std::uint32_t> read_tokens(const std::string& path) {
  if (!ends_with(path, ".safetensors")) return read_text(path);
  const base::SafetensorsFile file(path);
  for (const auto& entry : file.tensors())
    if (entry.first != "tokens") throw base::ConfigError(path, entry.first, "a tensor", "only the tensor tokens");
  const base::DType dtype = file.info("tokens").dtype;
  if (dtype == base::DType::kU8) return checked(file.read<std::uint8_t>("tokens"), path);
  if (dtype == base::DType::kI32) return checked(file.read<std::int32_t>("tokens"), path);
  if (dtype == base::DType::kI64) return checked(file.read<std::int64_t>("tokens"), path);
  throw base::ConfigError(path, "tokens", base::dtype_name(dtype), "U8, I32 or I64");
}

}  // namespace moesaic::workloads
