#include "base/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>

#include "base/text.h"

namespace lamina {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

const EVP_MD* Method(Digest::Algorithm algorithm) {
  return algorithm == Digest::Algorithm::kSha256 ? EVP_sha256() : EVP_sha512();
}

const char* Name(Digest::Algorithm algorithm) {
  return algorithm == Digest::Algorithm::kSha256 ? "sha256" : "sha512";
}

Error BadDigest(std::string_view text) {
  return Error{Code::kInvalid, Quote(text, 160) +
                                   " is not a digest (sha256: and 64 lower-case hex digits, or "
                                   "sha512: and 128)"};
}

}  // namespace

Digest::Digest(Algorithm algorithm, ByteSpan bytes) : algorithm_(algorithm) {
  std::copy_n(bytes.begin(), std::min(bytes.size(), size()), bytes_.begin());
}

Result<Digest> Digest::Parse(std::string_view text) {
  Algorithm algorithm = Algorithm::kSha256;
  if (text.starts_with("sha512:")) {
    algorithm = Algorithm::kSha512;
  } else if (!text.starts_with("sha256:")) {
    return BadDigest(text);
  }
  const std::string_view hex = text.substr(7);
  const size_t size = algorithm == Algorithm::kSha256 ? 32 : 64;
  if (hex.size() != 2 * size) return BadDigest(text);
  std::array<uint8_t, 64> bytes{};
  for (size_t i = 0; i < hex.size(); ++i) {
    const size_t digit = kHexDigits.find(hex[i]);
    if (digit == std::string_view::npos) return BadDigest(text);
    bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] << 4 | digit);
  }
  return Digest(algorithm, {bytes.data(), size});
}

Digest Digest::FromBytes(Algorithm algorithm, ByteSpan bytes) { return Digest(algorithm, bytes); }

Digest Digest::Sha256(ByteSpan content) { return Of(content, Algorithm::kSha256); }

Digest Digest::Of(ByteSpan content, Algorithm algorithm) {
  std::array<uint8_t, 64> bytes{};
  if (EVP_Digest(content.data(), content.size(), bytes.data(), nullptr, Method(algorithm),
                 nullptr) != 1)
    std::abort();  // only out of memory can do this
  return Digest(algorithm, bytes);
}

std::string Digest::hex() const {
  std::string out;
  out.reserve(2 * size());
  for (uint8_t byte : bytes()) {
    out += kHexDigits[byte >> 4];
    out += kHexDigits[byte & 15];
  }
  return out;
}

std::string Digest::ToString() const { return std::string(Name(algorithm_)) + ":" + hex(); }
std::string Digest::PathName() const { return std::string(Name(algorithm_)) + "-" + hex(); }

struct Hasher::State {
  Digest::Algorithm algorithm;
  EVP_MD_CTX* context;
  void Start() {
    if (EVP_DigestInit_ex(context, Method(algorithm), nullptr) != 1) std::abort();
  }
};

Hasher::Hasher(Digest::Algorithm algorithm)
    : state_(std::make_unique<State>(State{algorithm, EVP_MD_CTX_new()})) {
  if (state_->context == nullptr) std::abort();
  state_->Start();
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

Hasher::~Hasher() {
  if (state_) EVP_MD_CTX_free(state_->context);
}

void Hasher::Update(ByteSpan bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1) std::abort();
}

Digest Hasher::Finish() {
  std::array<uint8_t, 64> bytes{};
  if (EVP_DigestFinal_ex(state_->context, bytes.data(), nullptr) != 1) std::abort();
  state_->Start();
  return Digest::FromBytes(state_->algorithm, bytes);
}

}  // namespace lamina
