#pragma once

// RawReader: forward reads of the raw tar stream between a checkpoint and a known end, fetching
// only that compressed range of the blob. Memory is bounded by one fetch (8 MiB) and one piece of
// output. One thread.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/layer_index.h"

namespace lamina {

// A range of at most this size is fetched at once, a larger one in steps.
inline constexpr uint64_t kOneFetch = 8u << 20;
inline constexpr uint64_t kFetchStep = 4u << 20;

class RawReader {
 public:
  // Reads nothing yet. `windows` may be null. `blob_end` and `raw_end` are those of the last chunk
  // to be read.
  static Result<RawReader> Open(Compression compression, const CheckpointView& checkpoint,
                                uint64_t blob_end, uint64_t raw_end, BlobSource& blob,
                                const Deadline& deadline, WindowBudget* windows = nullptr);

  // Goes on from where it is, for another read of the same blob.
  void Resume(uint64_t blob_end, uint64_t raw_end, BlobSource& blob, const Deadline& deadline);

  // Exactly out.size() bytes of the raw stream from `raw_offset`, which never goes back from call
  // to call. kTimeout when the deadline passes on the way to `raw_offset`; what was asked for is
  // then still ahead, and can be read after Resume().
  Status Read(uint64_t raw_offset, MutableByteSpan out);

  // False once the decoder has failed: then Resume() leads nowhere.
  bool usable() const { return usable_; }

  // The bytes before this have passed.
  uint64_t raw_position() const { return decoder_->raw_offset() - piece_.size(); }

 private:
  RawReader(BlobSource& blob, const Deadline& deadline)
      : blob_(&blob), deadline_(std::make_shared<Deadline>(deadline)) {}
  Status FillPiece();
  Status Fetch();
  Status CheckDeadline() const;

  std::unique_ptr<StreamDecoder> decoder_;
  uint64_t fetched_ = 0;  // blob bytes before this were fetched or lie before the checkpoint
  uint64_t blob_end_ = 0;
  uint64_t raw_end_ = 0;
  bool may_pad_ = false;  // see Fetch()
  bool usable_ = true;
  BlobSource* blob_;
  std::shared_ptr<Deadline> deadline_;  // the decoder waits by it too
  std::vector<uint8_t> input_storage_;
  ByteSpan input_;  // not yet decoded
  std::vector<uint8_t> piece_storage_;
  ByteSpan piece_;  // decoded, not yet taken; ends at decoder_->raw_offset()
};

}  // namespace lamina
