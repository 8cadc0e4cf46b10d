#pragma once

// BlobHash: the running digest of a blob while a decoder consumes it, and its states at the places
// where the decoder stands or from where it may resume. Whoever has two such states can verify what
// lies between them without the rest of the blob (see VerifiedRange), so that the one pass over a
// layer needs no second hash for the reads that come later. One thread.

#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"

namespace lamina {

// A state of the digest at `offset`, the first multiple of kHashAlign at or after a place of the
// decoder; `lead` are the bytes from that place up to it. Where the blob ends before, the state is
// not known.
struct HashMark {
  uint64_t offset = 0;
  bool known = true;
  HashState state{};
  std::vector<uint8_t> lead;
};

class BlobHash {
 public:
  explicit BlobHash(Digest::Algorithm algorithm);

  // The decoder has consumed the first `consumed` of `bytes` and may resume at `restart`. Behind
  // what it has consumed, `bytes` has kHashAlign more, or all up to the end of the blob; they stay
  // valid until the next call.
  void Advance(ByteSpan bytes, size_t consumed, uint64_t restart);
  // Bytes of the blob from `offset` on that no decoder consumes. What was seen before is left out.
  void Take(uint64_t offset, ByteSpan bytes);

  // At the place where the decoder stands, and where it may resume.
  HashMark Here();
  const HashMark& Restart() const { return restart_; }

  // After the whole blob.
  Digest Finish() { return hasher_.Finish(); }

 private:
  HashMark MarkAt(uint64_t place);

  Hasher hasher_;
  uint64_t hashed_ = 0;    // bytes of the blob
  uint64_t position_ = 0;  // of the decoder
  uint64_t window_begin_ = 0;
  ByteSpan window_;  // the last bytes given, from window_begin_ on
  uint64_t restart_place_ = 0;
  HashMark restart_;
};

}  // namespace lamina
