#pragma once
/// SHA-256 (FIPS 180-4) by OpenSSL's libcrypto, as 64 lower-case hexadecimal digits.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace moesaic::base {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void add(const void* data, std::size_t bytes);
  void add(std::string_view text) { add(text.data(), text.size()); }
  std::string hex();  ///< ends the sum; call once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string sha256_hex(std::string_view bytes);
/// InputError when unreadable, and for a pipe: who names a file by its hash reads it elsewhere too.
std::string sha256_file(const std::string& path);

}  // namespace moesaic::base
