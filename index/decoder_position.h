#pragma once

// PositionSnapshot: the snapshot of a decoder at a place where it needs no state to resume.
// Immutable; any thread.

#include "index/compression.h"

namespace lamina {

class PositionSnapshot : public DecoderSnapshot {
 public:
  PositionSnapshot(uint64_t raw_offset, uint64_t blob_offset)
      : raw_offset_(raw_offset), blob_offset_(blob_offset) {}
  Checkpoint Encode() const override { return {raw_offset_, blob_offset_, {}}; }

 private:
  uint64_t raw_offset_;
  uint64_t blob_offset_;
};

}  // namespace lamina
