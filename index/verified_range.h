#pragma once

// VerifiedRange: the bytes of a blob from a checkpoint of its index up to an end, fetched in steps,
// and each step verified before a byte of it is given: by the states of the blob's own digest at
// the marks of an own index, by the digests of the spans of a SOCI index. So nothing that was not
// there when the index was made, or that its maker does not vouch for, ever comes to a decoder. One
// thread.

#include <cstdint>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/result.h"
#include "index/layer_index.h"

namespace lamina {

// A range of at most this size is fetched at once, a larger one in steps of about the other.
inline constexpr uint64_t kOneFetch = 8u << 20;
inline constexpr uint64_t kFetchStep = 4u << 20;

class VerifiedRange {
 public:
  // Of `index`, which outlives the next call of Next(). Reads nothing yet.
  static Result<VerifiedRange> Open(const LayerIndex& index, uint64_t begin, uint64_t end);
  // The same range with another end, and the same index elsewhere in memory.
  void Continue(const LayerIndex& index, uint64_t end);

  // The next bytes, which stay valid until the next call; none at the end, which may lie behind the
  // one that was asked for. kCorrupt where they are not what the index vouches for.
  Result<ByteSpan> Next(BlobSource& blob, const Deadline& deadline);

 private:
  // The end of the step that begins at next_, where something can be verified.
  struct Step {
    uint64_t fetch_begin = 0;
    uint64_t end = 0;
    uint64_t number = 0;  // of the mark at the end, or of the first span
  };
  VerifiedRange(const LayerIndex& index, uint64_t begin, uint64_t end)
      : index_(&index), next_(begin), end_(end) {}
  Result<Step> PlanMarks() const;
  Result<Step> PlanSpans() const;
  Status CheckMark(const Step& step);
  Status CheckSpans(const Step& step) const;

  const LayerIndex* index_;
  uint64_t next_;  // the first byte that was not given yet
  uint64_t end_;
  bool first_ = true;
  Hasher hasher_;  // of the blob up to next_, where the index has marks
  std::vector<uint8_t> storage_;
};

}  // namespace lamina
