#pragma once

// PlainDecoder: the StreamDecoder of blobs that are not compressed. Any place is a checkpoint
// without a state.

#include "index/compression.h"

namespace lamina {

class PlainDecoder : public StreamDecoder {
 public:
  explicit PlainDecoder(uint64_t offset);

  Result<size_t> Decode(ByteSpan* input, MutableByteSpan out) override;
  Status Finish() override;
  bool trailing_garbage() const override { return false; }
  std::unique_ptr<DecoderSnapshot> Snapshot() const override;
};

}  // namespace lamina
