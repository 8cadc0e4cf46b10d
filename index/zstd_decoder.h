#pragma once

// ZstdDecoder: the StreamDecoder of zstd blobs, over libzstd. It resumes at frame starts only,
// without a state. Frames of other formats, old ones included, end the stream with kCorrupt. One
// thread at a time.

#include <array>
#include <memory>
#include <optional>

#include "index/compression.h"

struct ZSTD_DCtx_s;

namespace lamina {

class ZstdDecoder : public StreamDecoder {
 public:
  // Both offsets are those of a frame start.
  ZstdDecoder(uint64_t raw_offset, uint64_t blob_offset, WindowAccount account = {});
  ~ZstdDecoder() override;

  // Bytes that were decoded before an error are returned first; the error comes with the next call.
  Result<size_t> Decode(ByteSpan* input, MutableByteSpan out) override;
  Status Finish() override;
  bool trailing_garbage() const override { return false; }
  uint64_t restart_offset() const override { return frame_blob_; }
  std::unique_ptr<DecoderSnapshot> Snapshot() const override;

 private:
  Status Step(ByteSpan* input, MutableByteSpan* out);
  Status TakeHead(ByteSpan* input);
  Status Run(ByteSpan* input, MutableByteSpan* out);
  Error Fault(size_t code) const;

  // libzstd's memory, of which large windows go on the account.
  static void* Allocate(void* self, size_t size);
  static void Release(void* self, void* address);

  struct Free {
    void operator()(ZSTD_DCtx_s* context) const;
  };
  const WindowAccount account_;
  bool refused_ = false;                        // the account gave no window in time
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;  // allocates by the members above
  uint64_t frame_raw_;                          // start of the present frame
  uint64_t frame_blob_;
  std::array<uint8_t, 18> head_{};  // the first bytes of the frame, as many as any frame header has
  size_t head_size_ = 0;
  bool output_waits_ = false;     // the last call filled the buffer: more may come without input
  std::optional<Error> failure_;  // told once the bytes before it were taken
};

}  // namespace lamina
