#pragma once

// Walks the chunks that a range of the flat address space overlaps. Allocates nothing and never
// trusts the table: a gap, an overlap or an empty chunk ends the walk. Pure functions; any thread.

#include <algorithm>
#include <cstdint>

#include "fetch/chunk_cache.h"

namespace lamina {

// The part of one chunk that a range covers.
struct ChunkPart {
  uint64_t chunk = 0;
  ChunkExtent extent;
  uint64_t begin = 0;   // flat offset, inside the extent
  uint64_t length = 0;  // bytes, at least 1
};

// The last chunk that begins at or before `flat_offset`, by halving; 0 where there is none.
inline uint64_t LastChunkFrom(const ChunkOwner& owner, uint64_t flat_offset) {
  uint64_t low = 0;
  uint64_t high = owner.chunk_count();
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    (owner.Extent(middle).flat_offset <= flat_offset ? low : high) = middle;
  }
  return low;
}

// bool visit(const ChunkPart&), in order, until it returns false. True when all of the range was
// visited.
template <typename Visit>
bool VisitChunks(const ChunkOwner& owner, uint64_t flat_offset, uint64_t length, Visit visit) {
  if (length == 0) return true;
  const uint64_t count = owner.chunk_count();
  for (uint64_t chunk = LastChunkFrom(owner, flat_offset); chunk < count; ++chunk) {
    const ChunkExtent extent = owner.Extent(chunk);
    if (flat_offset < extent.flat_offset) return false;
    const uint64_t inside = flat_offset - extent.flat_offset;
    if (inside >= extent.flat_length) return false;
    const uint64_t take = std::min(length, extent.flat_length - inside);
    if (!visit(ChunkPart{chunk, extent, flat_offset, take})) return false;
    flat_offset += take;
    length -= take;
    if (length == 0) return true;
  }
  return false;
}

}  // namespace lamina
