#include "base/digest.h"

// The functions of OpenSSL that show a state between blocks are deprecated, and nothing has taken
// their place: EVP hides it. They run the same code on the same instructions.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/text.h"

namespace lamina {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

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

// Takes no memory, which EVP does and the functions that do it in one call: without any they could
// only abort, or crash.
Digest Digest::Of(ByteSpan content, Algorithm algorithm) {
  std::array<uint8_t, 64> bytes{};
  if (algorithm == Algorithm::kSha256) {
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, content.data(), content.size());
    SHA256_Final(bytes.data(), &context);
  } else {
    SHA512_CTX context;
    SHA512_Init(&context);
    SHA512_Update(&context, content.data(), content.size());
    SHA512_Final(bytes.data(), &context);
  }
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

Result<Digest> Digest::FromPathName(std::string_view name) {
  std::string text(name);
  if (const size_t dash = text.find('-'); dash != std::string::npos) text[dash] = ':';
  return Parse(text);
}

// One of the two contexts, as the algorithm says.
struct Hasher::State {
  Digest::Algorithm algorithm;
  SHA256_CTX sha256;
  SHA512_CTX sha512;

  bool IsShort() const { return algorithm == Digest::Algorithm::kSha256; }
  void Start() {
    if ((IsShort() ? SHA256_Init(&sha256) : SHA512_Init(&sha512)) != 1) std::abort();
  }
};

Hasher::Hasher(Digest::Algorithm algorithm) : state_(std::make_unique<State>()) {
  state_->algorithm = algorithm;
  state_->Start();
}

Hasher::Hasher(Digest::Algorithm algorithm, const HashState& state, uint64_t length)
    : Hasher(algorithm) {
  State& to = *state_;
  if (to.IsShort()) {
    std::memcpy(to.sha256.h, state.data(), sizeof to.sha256.h);
    // The length in bits, in two words.
    to.sha256.Nl = static_cast<SHA_LONG>(length << 3);
    to.sha256.Nh = static_cast<SHA_LONG>(length >> 29);
  } else {
    std::memcpy(to.sha512.h, state.data(), sizeof to.sha512.h);
    to.sha512.Nl = length << 3;
    to.sha512.Nh = length >> 61;
  }
}

Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::Update(ByteSpan bytes) {
  if (bytes.empty()) return;
  const int done = state_->IsShort() ? SHA256_Update(&state_->sha256, bytes.data(), bytes.size())
                                     : SHA512_Update(&state_->sha512, bytes.data(), bytes.size());
  if (done != 1) std::abort();
}

HashState Hasher::state() const {
  HashState out{};
  if (state_->IsShort())
    std::memcpy(out.data(), state_->sha256.h, sizeof state_->sha256.h);
  else
    std::memcpy(out.data(), state_->sha512.h, sizeof state_->sha512.h);
  return out;
}

Digest Hasher::Finish() {
  std::array<uint8_t, 64> bytes{};
  const int done = state_->IsShort() ? SHA256_Final(bytes.data(), &state_->sha256)
                                     : SHA512_Final(bytes.data(), &state_->sha512);
  if (done != 1) std::abort();
  state_->Start();
  return Digest::FromBytes(state_->algorithm, bytes);
}

}  // namespace lamina
