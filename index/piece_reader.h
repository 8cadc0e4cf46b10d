#pragma once

// Decodes single chunks of a layer whose index came from a TOC: each piece of a file has a place in
// the blob and a digest of its own. Pure functions over immutable data; any thread; they block on
// the source.

#include <functional>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/layer_index.h"
#include "index/window_budget.h"

namespace lamina {

// A piece is verified as a whole, whatever part of it is wanted.
inline constexpr uint64_t kMaxPieceBytes = 32u << 20;

// Fills `out`, the flat bytes of `chunk`: kCorrupt where a piece does not have its digest. Pieces
// that lie near each other in the blob come by one ReadAt. `windows` may be null. `chunk` may also
// stand for a run of chunks: `reached`, which may be empty, is then told of each flat offset before
// which all is there; its error ends the work.
Status DecodePieces(const LayerIndex& index, const ChunkRecord& chunk, BlobSource& blob,
                    MutableByteSpan out, const Deadline& deadline, WindowBudget* windows,
                    const std::function<Status(uint64_t flat_offset)>& reached = {});

}  // namespace lamina
