#pragma once

// Decodes single chunks of an indexed layer from a compressed range of its blob, and verifies them.
// Pure functions over immutable data; any thread; they block on the source.

#include <cstdint>
#include <functional>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/layer_index.h"
#include "index/paused_readers.h"
#include "index/window_budget.h"

namespace lamina {

// Offered other whole chunks that had to be decoded on the way (zstd frames, chunks of one
// checkpoint), verified.
using PassingChunk = std::function<void(uint64_t chunk, ByteSpan flat_bytes)>;

// What the reads of a process share; the windows also with its indexing passes.
struct DecodeResources {
  WindowBudget windows;  // before those who hold some
  PausedReaders paused;
};

// Fills `out` (flat_length bytes of chunk `number`). kCorrupt where the bytes of the blob are not
// those that the index vouches for (see VerifiedRange). Fetches only what the chunk needs, from its
// checkpoint on, in one ReadAt where that is at most 8 MiB, else in steps. kTimeout when the
// deadline passes on the way to the chunk; a zstd decoder is then left in `shared`, and the next
// call goes on from there. `shared` may be null.
Status DecodeChunk(const LayerIndex& index, uint64_t number, BlobSource& blob, MutableByteSpan out,
                   const Deadline& deadline, const PassingChunk& passing = {},
                   DecodeResources* shared = nullptr);

// Takes a chunk that is whole and verified.
using ChunkTaker = std::function<void(uint64_t chunk, std::vector<uint8_t> flat_bytes)>;

// One attempt at the data chunks from `first` to `last`, which are data chunks themselves (see
// LastOfRun()): what they need of the blob is fetched once, in one ReadAt where that is at most
// 8 MiB, and decoded once. `take` gets each chunk as soon as it is there, in order, and others that
// had to be decoded before `first`. An error as of DecodeChunk(); what was taken before it is
// right.
Status DecodeRun(const LayerIndex& index, uint64_t first, uint64_t last, BlobSource& blob,
                 const Deadline& deadline, const ChunkTaker& take, DecodeResources* shared);

// kCorrupt unless the flat bytes have the chunk's checksum, where it is known (all zeros for a zero
// chunk): whoever decoded them did what the pass did.
Status VerifyChunk(const LayerIndex& index, uint64_t number, ByteSpan flat_bytes);

}  // namespace lamina
