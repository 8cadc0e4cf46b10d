#pragma once

// Which neighbouring chunks of a layer come by one request, and what that costs. Pure functions
// over immutable data; any thread.

#include <cstdint>

#include "index/layer_index.h"

namespace lamina {

// A joined request fetches no more of the blob. With the mark or span behind it, it is still one
// fetch of VerifiedRange.
inline constexpr uint64_t kMostJoined = 15u << 19;
// Nor does it decode to more of the flat address space.
inline constexpr uint64_t kMostJoinedFlat = 24u << 20;

// The last chunk, at most `last`, that comes by one request together with the data chunk `first`:
// within `most_bytes` of the blob (at most kMostJoined), counted from the checkpoint of `first`.
// What follows within the same zstd frame belongs to it whatever its size, since a decoder that
// stopped before it would have to begin anew. Where there is more than fits, a run ends before a
// checkpoint, so that nothing is fetched for two. `first` itself where nothing can be joined.
uint64_t LastOfRun(const LayerIndex& index, uint64_t first, uint64_t last, uint64_t most_bytes);

// The last data chunk, at most 8 further, that is decoded from the checkpoint of `chunk` as well.
uint64_t LastOfCheckpoint(const LayerIndex& index, uint64_t chunk);

// Bytes of the blob that the chunks `first` to `last` need, decoding from the checkpoint of
// `first`.
uint64_t RunBytes(const LayerIndex& index, uint64_t first, uint64_t last);

}  // namespace lamina
