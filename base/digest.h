#pragma once

// Digest: the name of a blob by its content, `sha256:<64 hex>` or `sha512:<128 hex>` (OCI
// image-spec, descriptor.md). A value type, valid by construction. Hasher computes one; a Hasher
// belongs to one thread. Between two blocks of its input the state of a Hasher is as short as a
// digest and can be kept: whoever trusts two such states of one blob can verify what lies between
// them alone.

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

class Digest {
 public:
  enum class Algorithm : uint8_t { kSha256 = 1, kSha512 = 2 };

  // Accepts exactly the grammar above, lower case only.
  static Result<Digest> Parse(std::string_view text);
  // `bytes` are the 32 or 64 raw bytes of the algorithm.
  static Digest FromBytes(Algorithm algorithm, ByteSpan bytes);
  static Digest Sha256(ByteSpan content);
  // Of the same algorithm as `like`.
  static Digest Of(ByteSpan content, Algorithm algorithm);

  Algorithm algorithm() const { return algorithm_; }
  ByteSpan bytes() const { return {bytes_.data(), size()}; }
  std::string hex() const;
  std::string ToString() const;  // sha256:1f2e…
  std::string PathName() const;  // sha256-1f2e…: no ':', a safe path component
  static Result<Digest> FromPathName(std::string_view name);

  friend bool operator==(const Digest&, const Digest&) = default;
  friend std::strong_ordering operator<=>(const Digest&, const Digest&) = default;

 private:
  Digest(Algorithm algorithm, ByteSpan bytes);
  size_t size() const { return algorithm_ == Algorithm::kSha256 ? 32 : 64; }

  Algorithm algorithm_;
  std::array<uint8_t, 64> bytes_{};  // the unused tail is zero, so that == is plain
};

// A multiple of the input block of every algorithm, in bytes.
inline constexpr uint64_t kHashAlign = 128;

// The chaining value of a Hasher; the unused tail of sha256 is zero.
using HashState = std::array<uint8_t, 64>;

class Hasher {
 public:
  explicit Hasher(Digest::Algorithm algorithm = Digest::Algorithm::kSha256);
  // Goes on from a state that was taken after `length` bytes, a multiple of kHashAlign.
  Hasher(Digest::Algorithm algorithm, const HashState& state, uint64_t length);
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();

  void Update(ByteSpan bytes);
  // After a multiple of kHashAlign bytes only.
  HashState state() const;
  // The digest of all that was given; the hasher then starts anew.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lamina

template <>
struct std::hash<lamina::Digest> {
  size_t operator()(const lamina::Digest& digest) const noexcept {
    return lamina::LoadLe<size_t>(digest.bytes().data());
  }
};
