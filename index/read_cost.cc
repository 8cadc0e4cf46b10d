#include "index/read_cost.h"

#include <algorithm>

#include "index/chunk_run.h"

namespace lamina {
namespace {

constexpr uint64_t kMostChunks = 1024;

// From its checkpoint to the mark or the end of the span behind it.
uint64_t RangeBytes(const LayerIndex& index, const ChunkRecord& chunk) {
  const auto checkpoint = index.CheckpointAt(chunk.checkpoint);
  if (!checkpoint) return 0;
  uint64_t end = chunk.blob_end;
  if (const auto mark = index.MarkAt(index.FirstMarkFrom(chunk.blob_end))) end = mark->blob_offset;
  const uint64_t begin = checkpoint->blob_offset + checkpoint->lead.size();
  return end - std::min(begin, end);
}

}  // namespace

ReadCost ColdReadCost(const LayerIndex& index) {
  ReadCost cost;
  uint64_t sum = 0;
  uint64_t count = 0;
  const uint64_t chunks = index.facts().chunk_count;
  const uint64_t step = chunks / kMostChunks + 1;
  for (uint64_t number = 0; number < chunks; number += step) {
    const auto chunk = index.Chunk(number);
    if (!chunk || chunk->zero) continue;
    const uint64_t bytes =
        index.piece_count() > 0 ? RunBytes(index, number, number) : RangeBytes(index, *chunk);
    cost.most = std::max(cost.most, bytes);
    sum += bytes;
    ++count;
  }
  if (count > 0) cost.mean = sum / count;
  return cost;
}

}  // namespace lamina
