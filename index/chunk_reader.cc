#include "index/chunk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/digest.h"
#include "index/raw_reader.h"

namespace lamina {
namespace {

void FillZero(MutableByteSpan out, uint64_t begin, uint64_t end) {
  const MutableByteSpan gap = out.subspan(begin, end - begin);
  std::fill(gap.begin(), gap.end(), uint8_t{0});
}

// Fills `out`, the flat bytes of `chunk`, from the raw stream: payload where a segment says so,
// zeros elsewhere. `done`, `begin` and `end` are offsets in the chunk.
Status PlacePayload(const LayerIndex& index, const ChunkRecord& chunk, RawReader& reader,
                    MutableByteSpan out) {
  uint64_t done = 0;
  const uint64_t count = index.segment_count();
  for (uint64_t number = index.FirstSegmentAfter(chunk.flat_offset); number < count; ++number) {
    ASSIGN_OR_RETURN(const Segment segment, index.SegmentAt(number));
    const uint64_t here = chunk.flat_offset + done;
    if (segment.flat_offset >= chunk.flat_offset + out.size()) break;
    const uint64_t skip = here > segment.flat_offset ? here - segment.flat_offset : 0;
    if (skip >= segment.length) continue;
    const uint64_t begin = segment.flat_offset + skip - chunk.flat_offset;
    const uint64_t end = begin + std::min(segment.length - skip, out.size() - begin);
    FillZero(out, done, begin);
    RETURN_IF_ERROR(reader.Read(segment.raw_offset + skip, out.subspan(begin, end - begin)));
    done = end;
  }
  FillZero(out, done, out.size());
  return {};
}

// The first of the chunks before `number` that are decoded from the same checkpoint.
uint64_t FirstOfCheckpoint(const LayerIndex& index, uint64_t number, uint32_t checkpoint) {
  uint64_t first = number;
  for (uint64_t at = number; at > 0; --at) {
    const Result<ChunkRecord> chunk = index.Chunk(at - 1);
    if (!chunk || (!chunk->zero && chunk->checkpoint != checkpoint)) break;
    if (!chunk->zero) first = at - 1;
  }
  return first;
}

// Decodes the chunks [first, number) on the way to `number` and offers those that are whole and
// right.
Status OfferPassing(const LayerIndex& index, uint64_t first, uint64_t number, RawReader& reader,
                    const PassingChunk& passing) {
  std::vector<uint8_t> bytes;
  for (uint64_t at = first; at < number; ++at) {
    ASSIGN_OR_RETURN(const ChunkRecord chunk, index.Chunk(at));
    if (chunk.zero || chunk.flat_length > kMaxChunkFlat) continue;
    bytes.resize(chunk.flat_length);
    RETURN_IF_ERROR(PlacePayload(index, chunk, reader, bytes));
    if (VerifyChunk(index, at, bytes)) passing(at, bytes);
  }
  return {};
}

Status Decode(const LayerIndex& index, uint64_t number, const ChunkRecord& chunk, BlobSource& blob,
              MutableByteSpan out, const Deadline& deadline, const PassingChunk& passing) {
  ASSIGN_OR_RETURN(const CheckpointView checkpoint, index.CheckpointAt(chunk.checkpoint));
  ASSIGN_OR_RETURN(RawReader reader,
                   RawReader::Open(index.facts().compression, checkpoint, chunk.blob_end,
                                   chunk.raw_end, blob, deadline));
  if (passing) {
    const uint64_t first = FirstOfCheckpoint(index, number, chunk.checkpoint);
    RETURN_IF_ERROR(OfferPassing(index, first, number, reader, passing));
  }
  RETURN_IF_ERROR(PlacePayload(index, chunk, reader, out));
  return VerifyChunk(index, number, out);
}

}  // namespace

Status DecodeChunk(const LayerIndex& index, uint64_t number, BlobSource& blob, MutableByteSpan out,
                   const Deadline& deadline, const PassingChunk& passing) {
  ASSIGN_OR_RETURN(const ChunkRecord chunk, index.Chunk(number));
  if (out.size() != chunk.flat_length) {
    return Error{Code::kInternal, fmt::format("chunk {} has {} bytes, the buffer {}", number,
                                              chunk.flat_length, out.size())};
  }
  if (chunk.zero) {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return {};
  }
  if (Status status = Decode(index, number, chunk, blob, out, deadline, passing); !status) {
    return status.error().Within(
        fmt::format("chunk {} of layer {}", number, index.facts().blob_digest.ToString()));
  }
  return {};
}

Status VerifyChunk(const LayerIndex& index, uint64_t number, ByteSpan flat_bytes) {
  ASSIGN_OR_RETURN(const ChunkRecord chunk, index.Chunk(number));
  if (flat_bytes.size() != chunk.flat_length)
    return Error{Code::kCorrupt, fmt::format("chunk {} has {} bytes, not {}", number,
                                             flat_bytes.size(), chunk.flat_length)};
  const bool right = chunk.zero
                         ? IsAllZero(flat_bytes)
                         : std::ranges::equal(Digest::Sha256(flat_bytes).bytes(), chunk.digest);
  if (!right)
    return Error{Code::kCorrupt,
                 fmt::format("the bytes of chunk {} do not fit their digest", number)};
  return {};
}

}  // namespace lamina
