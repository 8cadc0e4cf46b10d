#pragma once

// GzipDecoder: the StreamDecoder of gzip blobs, over ISA-L's inflate. It reads headers itself
// (gzip_header.h), lets ISA-L inflate and check each member's CRC-32 and length, and resumes
// anywhere from a copy of ISA-L's state (gzip_state.h), or at the start of a deflate block from the
// window before it (gzip_window.h). The trailer of a member into which it came by a window is
// skipped: its CRC-32 cannot be known. Only .cc files of this folder include this header. One
// thread at a time.

#include <isa-l/igzip_lib.h>

#include <memory>
#include <optional>
#include <vector>

#include "index/compression.h"
#include "index/gzip_header.h"

namespace lamina {

class GzipDecoder : public StreamDecoder {
 public:
  // At the start of a blob (both offsets 0) or of a later member.
  GzipDecoder(uint64_t raw_offset, uint64_t blob_offset);
  static Result<std::unique_ptr<StreamDecoder>> Resume(uint64_t raw_offset, uint64_t blob_offset,
                                                       ByteSpan state);

  // Bytes that were decoded before an error are returned first; the error comes with the next call.
  Result<size_t> Decode(ByteSpan* input, MutableByteSpan out) override;
  Status Finish() override;
  bool trailing_garbage() const override { return trailing_garbage_; }
  bool needs_state() const override { return phase_ == Phase::kBody; }
  uint64_t restart_offset() const override {
    return phase_ == Phase::kBody ? blob_offset_ : member_offset_;
  }
  std::unique_ptr<DecoderSnapshot> Snapshot() const override;

 private:
  enum class Phase : uint8_t { kHeader, kBody, kTrailer, kGarbage };

  Status StartFromWindow(ByteSpan state);
  void TakeFirstBits(ByteSpan* input);
  Status ReadHeader(ByteSpan* input);
  void SkipTrailer(ByteSpan* input);
  Result<size_t> Inflate(ByteSpan* input, MutableByteSpan out);
  void StartMember();
  void EndMember();

  std::unique_ptr<inflate_state> state_;  // valid in kBody
  GzipHeaderParser header_;
  Phase phase_ = Phase::kHeader;
  uint64_t member_offset_;  // in the blob: of the present member (the next one in kTrailer), or of
                            // the garbage
  uint64_t trailer_left_ = 0;         // bytes of it to skip, in kTrailer
  std::vector<uint8_t> first_state_;  // the window's, until the first byte has been fed
  uint32_t skipped_bits_ = 0;         // of the first byte
  std::optional<Error> failure_;      // told once the bytes before it were taken
  bool trailing_garbage_ = false;
};

}  // namespace lamina
