#pragma once

// Compression of a layer blob, and decoders that can stop and resume: StreamDecoder turns
// compressed bytes into the raw tar stream, and gives checkpoints from which a later decoder goes
// on without what came before. A decoder belongs to one thread at a time. The codec library (ISA-L
// for gzip, libzstd) is hidden behind this seam.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "index/window_budget.h"

namespace lamina {

enum class Compression : uint8_t { kNone = 0, kGzip = 1, kZstd = 2 };

const char* CompressionName(Compression compression);

// By magic, not by media type. `head` holds the first bytes of the blob, 4 or more where there are
// so many. xz, bzip2, EROFS/RAFS and the like are kUnsupported and named.
Result<Compression> SniffCompression(ByteSpan head);

// A place in the stream from which decoding resumes.
struct Checkpoint {
  uint64_t raw_offset = 0;   // bytes of decoded stream before it
  uint64_t blob_offset = 0;  // the first compressed byte to feed
  std::vector<uint8_t>
      state;  // codec's own, compressed; empty at the start of a member, frame or blob
};

// The state of a decoder at an instant, cheap to take (one copy); encode it only when it is kept.
class DecoderSnapshot {
 public:
  virtual ~DecoderSnapshot() = default;
  virtual Checkpoint Encode() const = 0;
};

class StreamDecoder {
 public:
  virtual ~StreamDecoder() = default;

  static std::unique_ptr<StreamDecoder> Create(Compression compression, WindowAccount account = {});
  // `state` as in a Checkpoint. kUnsupported when it was written by another version of the codec
  // library (the layer is then indexed again); kCorrupt when it is damaged, never undefined
  // behaviour.
  static Result<std::unique_ptr<StreamDecoder>> Resume(Compression compression, uint64_t raw_offset,
                                                       uint64_t blob_offset, ByteSpan state,
                                                       WindowAccount account = {});

  // Decodes from the front of `*input`, which it shortens by what it consumed, into `out`; returns
  // the bytes written. Fewer than out.size() only when the input is used up or the stream has
  // ended. Gzip members and zstd frames (skippable ones too) follow each other without a sign to
  // the caller; a million empty members are a loop. Checksums of members and frames are verified.
  // Errors: kCorrupt; kLimit for a zstd window above 128 MiB; kTimeout where the account gave no
  // window. A decoder that has failed once goes on failing.
  virtual Result<size_t> Decode(ByteSpan* input, MutableByteSpan out) = 0;

  // After the last input byte: kCorrupt "truncated" unless a member or frame has ended exactly
  // there.
  virtual Status Finish() = 0;

  // True once bytes that are no gzip member follow a complete one (trailing garbage): such bytes
  // are consumed and ignored, the layer is readable once its digest is verified, and the indexer
  // notes a warning.
  virtual bool trailing_garbage() const = 0;

  uint64_t raw_offset() const {
    return raw_offset_;
  }  // bytes decoded so far, from the start of the blob
  uint64_t blob_offset() const {
    return blob_offset_;
  }  // bytes consumed so far, from the start of the blob

  // Does a checkpoint here need a state, which takes room, or only a place?
  virtual bool needs_state() const { return false; }
  // The blob offset at which Snapshot() resumes.
  virtual uint64_t restart_offset() const { return blob_offset_; }
  // The present position, or, for codecs that resume only at frame starts (zstd), the last such
  // place.
  virtual std::unique_ptr<DecoderSnapshot> Snapshot() const = 0;

 protected:
  uint64_t raw_offset_ = 0;
  uint64_t blob_offset_ = 0;
};

}  // namespace lamina
