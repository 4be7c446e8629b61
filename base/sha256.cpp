#include "base/sha256.h"

#include <openssl/evp.h>

#include <stdexcept>

#include "base/atomic_file.h"

namespace moesaic::base {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

namespace {
void check(int ok) {
  if (ok != 1) throw std::runtime_error("libcrypto refused a SHA-256 step");
}
}  // namespace

Sha256::Sha256() : state_(std::make_unique<State>()) {
  check(state_->context != nullptr ? EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) : 0);
}
Sha256::~Sha256() = default;

void Sha256::add(const void* data, std::size_t bytes) { check(EVP_DigestUpdate(state_->context, data, bytes)); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(state_->context, digest, &size));
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes);
  return sum.hex();
}

std::string sha256_file(const std::string& path) {
  refuse_pipe(path);
  return sha256_hex(read_file(path));
}

}  // namespace moesaic::base
