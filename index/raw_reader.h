#pragma once

// RawReader: forward reads of the raw tar stream between a checkpoint and a known end, fetching
// only that compressed range of the blob, verified before it is decoded. Memory is bounded by one
// fetch and one piece of output. One thread.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/layer_index.h"
#include "index/verified_range.h"

namespace lamina {

class RawReader {
 public:
  // Up to the end of `last`, from its checkpoint. Reads nothing yet. `windows` may be null.
  static Result<RawReader> Open(const LayerIndex& index, const ChunkRecord& last, BlobSource& blob,
                                const Deadline& deadline, WindowBudget* windows = nullptr);

  // Goes on from where it is, for another read of the same blob.
  void Resume(const LayerIndex& index, const ChunkRecord& last, BlobSource& blob,
              const Deadline& deadline);

  // Exactly out.size() bytes of the raw stream from `raw_offset`, which never goes back from call
  // to call. kTimeout when the deadline passes on the way to `raw_offset`; what was asked for is
  // then still ahead, and can be read after Resume().
  Status Read(uint64_t raw_offset, MutableByteSpan out);

  // False once the decoder has failed: then Resume() leads nowhere.
  bool usable() const { return usable_; }

  // The bytes before this have passed.
  uint64_t raw_position() const { return decoder_->raw_offset() - piece_.size(); }

 private:
  RawReader(VerifiedRange range, BlobSource& blob, const Deadline& deadline)
      : range_(std::move(range)), blob_(&blob), deadline_(std::make_shared<Deadline>(deadline)) {}
  Status FillPiece();
  Status Fetch();
  Status CheckDeadline() const;

  std::unique_ptr<StreamDecoder> decoder_;
  VerifiedRange range_;
  uint64_t raw_end_ = 0;
  bool may_pad_ = false;  // see Fetch()
  bool usable_ = true;
  BlobSource* blob_;
  std::shared_ptr<Deadline> deadline_;  // the decoder waits by it too
  std::vector<uint8_t> lead_;
  ByteSpan input_;  // not yet decoded
  std::vector<uint8_t> piece_storage_;
  ByteSpan piece_;  // decoded, not yet taken; ends at decoder_->raw_offset()
};

}  // namespace lamina
