#include "index/chunk_run.h"

#include <algorithm>

namespace lamina {
namespace {

// From here on a decoder of the chunk reads the blob.
uint64_t BlobBegin(const LayerIndex& index, const ChunkRecord& chunk) {
  const auto checkpoint = index.CheckpointAt(chunk.checkpoint);
  return checkpoint ? checkpoint->blob_offset + checkpoint->lead.size() : 0;
}

// Of the pieces that lie in the flat range; pieces may share what they are decoded from.
uint64_t PieceBytes(const LayerIndex& index, uint64_t flat_begin, uint64_t flat_end) {
  uint64_t bytes = 0;
  uint64_t counted = 0;  // up to this blob offset
  for (uint64_t number = index.FirstPieceAfter(flat_begin);; ++number) {
    const auto piece = index.PieceAt(number);
    if (!piece || piece->flat_offset >= flat_end) return bytes;
    const uint64_t begin = std::max(counted, piece->blob_offset);
    if (piece->blob_end > begin) bytes += piece->blob_end - begin;
    counted = std::max(counted, piece->blob_end);
  }
}

uint64_t BytesOf(const LayerIndex& index, const ChunkRecord& first, const ChunkRecord& last) {
  if (index.piece_count() > 0)
    return PieceBytes(index, first.flat_offset, last.flat_offset + last.flat_length);
  const uint64_t begin = BlobBegin(index, first);
  return std::max(begin, last.blob_end) - begin;
}

}  // namespace

uint64_t LastOfRun(const LayerIndex& index, uint64_t first, uint64_t last, uint64_t most_bytes) {
  const auto begin = index.Chunk(first);
  if (!begin || begin->zero) return first;
  const bool frames = index.facts().compression == Compression::kZstd && index.piece_count() == 0;
  const uint64_t most = std::min(most_bytes, kMostJoined);
  uint64_t end = first;
  uint64_t whole = first;  // the last one before another checkpoint
  uint32_t checkpoint = begin->checkpoint;
  for (uint64_t number = first + 1; number <= last; ++number) {
    const auto chunk = index.Chunk(number);
    if (!chunk) break;
    if (chunk->zero) continue;
    const bool same_frame = frames && chunk->checkpoint == checkpoint;
    const uint64_t flat = chunk->flat_offset + chunk->flat_length - begin->flat_offset;
    if (chunk->checkpoint != checkpoint) whole = end;
    if (!same_frame && (flat > kMostJoinedFlat || BytesOf(index, *begin, *chunk) > most))
      return whole > first ? whole : end;
    end = number;
    checkpoint = chunk->checkpoint;
  }
  return end;
}

uint64_t LastOfCheckpoint(const LayerIndex& index, uint64_t chunk) {
  constexpr uint64_t kMostFurther = 8;
  const auto own = index.Chunk(chunk);
  uint64_t last = chunk;
  if (!own || own->zero || index.piece_count() > 0) return last;
  for (uint64_t number = chunk + 1; number <= chunk + kMostFurther; ++number) {
    const auto next = index.Chunk(number);
    if (!next || (!next->zero && next->checkpoint != own->checkpoint)) break;
    if (!next->zero) last = number;
  }
  return last;
}

uint64_t RunBytes(const LayerIndex& index, uint64_t first, uint64_t last) {
  const auto begin = index.Chunk(first);
  const auto end = index.Chunk(last);
  return begin && end && !begin->zero && !end->zero ? BytesOf(index, *begin, *end) : 0;
}

}  // namespace lamina
