#include "index/chunk_run.h"

#include <algorithm>

namespace lamina {
namespace {

// From here on a decoder of the chunk reads the blob.
uint64_t BlobBegin(const LayerIndex& index, const ChunkRecord& chunk) {
  const auto checkpoint = index.CheckpointAt(chunk.checkpoint);
  return checkpoint ? checkpoint->blob_offset + checkpoint->lead.size() : 0;
}

// Bytes of the blob that the chunks from `first` on need, up to one after the other: each piece is
// looked at once.
class BytesFrom {
 public:
  BytesFrom(const LayerIndex& index, const ChunkRecord& first)
      : index_(index),
        pieces_(index.piece_count() > 0),
        begin_(pieces_ ? 0 : BlobBegin(index, first)),
        next_(pieces_ ? index.FirstPieceAfter(first.flat_offset) : 0) {}

  // No chunk before the last one.
  uint64_t UpTo(const ChunkRecord& last) {
    return pieces_ ? OfPieces(last.flat_offset + last.flat_length)
                   : std::max(begin_, last.blob_end) - begin_;
  }

 private:
  // Pieces may share what they are decoded from.
  uint64_t OfPieces(uint64_t flat_end) {
    for (;; ++next_) {
      const auto piece = index_.PieceAt(next_);
      if (!piece || piece->flat_offset >= flat_end) return bytes_;
      const uint64_t begin = std::max(counted_, piece->blob_offset);
      if (piece->blob_end > begin) bytes_ += piece->blob_end - begin;
      counted_ = std::max(counted_, piece->blob_end);
    }
  }

  const LayerIndex& index_;
  const bool pieces_;
  const uint64_t begin_;  // in the blob, where there are no pieces
  uint64_t next_;         // piece
  uint64_t counted_ = 0;  // up to this blob offset
  uint64_t bytes_ = 0;
};

}  // namespace

uint64_t LastOfRun(const LayerIndex& index, uint64_t first, uint64_t last, uint64_t most_bytes) {
  const auto begin = index.Chunk(first);
  if (!begin || begin->zero) return first;
  const bool frames = index.facts().compression == Compression::kZstd && index.piece_count() == 0;
  const uint64_t most = std::min(most_bytes, kMostJoined);
  BytesFrom bytes(index, *begin);
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
    if (!same_frame && (flat > kMostJoinedFlat || bytes.UpTo(*chunk) > most))
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
  if (!begin || !end || begin->zero || end->zero) return 0;
  return BytesFrom(index, *begin).UpTo(*end);
}

}  // namespace lamina
