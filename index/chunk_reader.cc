#include "index/chunk_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "index/chunk_run.h"
#include "index/piece_reader.h"
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

// A chunk on its way from the blob.
struct ChunkWork {
  const LayerIndex& index;
  uint64_t number;
  const ChunkRecord& chunk;
  BlobSource& blob;
  MutableByteSpan out;
  const Deadline& deadline;
  const PassingChunk& passing;
  DecodeResources* shared;  // null: nothing is paused
};

// Decodes what lies before the chunk and is still ahead of the reader, and offers what is whole and
// right.
Status OfferPassing(const ChunkWork& work, RawReader& reader) {
  std::vector<uint8_t> bytes;
  const uint64_t first = FirstOfCheckpoint(work.index, work.number, work.chunk.checkpoint);
  for (uint64_t at = first; at < work.number; ++at) {
    ASSIGN_OR_RETURN(const ChunkRecord chunk, work.index.Chunk(at));
    if (chunk.zero || chunk.flat_length > kMaxChunkFlat) continue;
    if (chunk.raw_begin < reader.raw_position()) continue;
    if (work.deadline.passed())
      return Error{Code::kTimeout, fmt::format("decoding came to chunk {} in time", at)};
    bytes.resize(chunk.flat_length);
    RETURN_IF_ERROR(PlacePayload(work.index, chunk, reader, bytes));
    if (VerifyChunk(work.index, at, bytes)) work.passing(at, bytes);
  }
  return {};
}

// Only zstd: other streams are entered right before each chunk.
bool MayPause(const ChunkWork& work) {
  return work.shared != nullptr && work.index.facts().compression == Compression::kZstd;
}

Result<RawReader> OpenReader(const ChunkWork& work) {
  const ChunkRecord& chunk = work.chunk;
  if (MayPause(work)) {
    std::optional<RawReader> paused =
        work.shared->paused.Take(work.index.facts().blob_digest, chunk.checkpoint, chunk.raw_begin);
    if (paused) {
      paused->Resume(work.index, chunk, work.blob, work.deadline);
      return *std::move(paused);
    }
  }
  return RawReader::Open(work.index, chunk, work.blob, work.deadline,
                         work.shared == nullptr ? nullptr : &work.shared->windows);
}

// For whoever wants the chunk `next`, or one behind it, of the same frame.
void Pause(const ChunkWork& work, uint64_t next, bool gave_up, RawReader reader) {
  if (!MayPause(work) || !reader.usable()) return;
  const auto chunk = work.index.Chunk(next);
  if (!chunk) return;
  const auto checkpoint = work.index.CheckpointAt(chunk->checkpoint);
  const bool inside = checkpoint && reader.raw_position() >= checkpoint->raw_offset;
  work.shared->paused.Put(work.index.facts().blob_digest,
                          inside ? chunk->checkpoint : work.chunk.checkpoint, gave_up,
                          std::move(reader));
}

Status Decode(const ChunkWork& work) {
  ASSIGN_OR_RETURN(RawReader reader, OpenReader(work));
  Status done;
  if (work.passing) done = OfferPassing(work, reader);
  if (done) done = PlacePayload(work.index, work.chunk, reader, work.out);
  if (done) return VerifyChunk(work.index, work.number, work.out);
  if (done.error().code == Code::kTimeout)
    Pause(work, work.number, /*gave_up=*/true, std::move(reader));
  return done;
}

// The chunks from `work.number` to `last`, one after another. `*next` is the first that is missing.
Status TakeInOrder(const ChunkWork& work, uint64_t last, RawReader& reader, const ChunkTaker& take,
                   uint64_t* next) {
  RETURN_IF_ERROR(OfferPassing(work, reader));
  // What comes by one fetch has come before the first chunk is decoded, and would come again.
  const bool in_steps = RunBytes(work.index, work.number, last) > kOneFetch;
  for (; *next <= last; ++*next) {
    ASSIGN_OR_RETURN(const ChunkRecord chunk, work.index.Chunk(*next));
    if (chunk.zero) continue;
    if (chunk.flat_length > kMaxChunkFlat)
      return Error{Code::kCorrupt, fmt::format("chunk {} has {} bytes, the limit is {}", *next,
                                               chunk.flat_length, kMaxChunkFlat)};
    if (in_steps && *next > work.number && work.deadline.passed())
      return Error{Code::kTimeout, fmt::format("decoding came to chunk {} in time", *next)};
    std::vector<uint8_t> bytes(chunk.flat_length);
    RETURN_IF_ERROR(PlacePayload(work.index, chunk, reader, bytes));
    RETURN_IF_ERROR(VerifyChunk(work.index, *next, bytes));
    take(*next, std::move(bytes));
  }
  return {};
}

// A zstd decoder in the middle of a frame is kept for who goes on reading.
Status DecodeInOrder(const ChunkWork& work, uint64_t last, const ChunkTaker& take) {
  ASSIGN_OR_RETURN(RawReader reader, OpenReader(work));
  uint64_t next = work.number;
  Status done = TakeInOrder(work, last, reader, take, &next);
  const auto end = work.index.Chunk(last);
  const auto behind = work.index.Chunk(last + 1);
  const bool same_frame = end && behind && !behind->zero && end->checkpoint == behind->checkpoint;
  const bool gave_up = !done && done.error().code == Code::kTimeout;
  if (gave_up || (done && same_frame)) Pause(work, next, gave_up, std::move(reader));
  return done;
}

// Pieces may lie across the bounds of chunks, so that all are decoded into one buffer.
Status DecodePieceRun(const ChunkWork& work, uint64_t last, const ChunkTaker& take) {
  std::vector<uint8_t> all(work.chunk.flat_length);
  uint64_t next = work.number;
  const auto reached = [&](uint64_t flat_offset) -> Status {
    for (; next <= last; ++next) {
      ASSIGN_OR_RETURN(const ChunkRecord chunk, work.index.Chunk(next));
      if (chunk.flat_offset + chunk.flat_length > flat_offset) return {};
      if (chunk.zero) continue;
      const auto begin =
          all.begin() + static_cast<ptrdiff_t>(chunk.flat_offset - work.chunk.flat_offset);
      std::vector<uint8_t> bytes(begin, begin + static_cast<ptrdiff_t>(chunk.flat_length));
      RETURN_IF_ERROR(VerifyChunk(work.index, next, bytes));
      take(next, std::move(bytes));
    }
    return {};
  };
  RETURN_IF_ERROR(DecodePieces(work.index, work.chunk, work.blob, all, work.deadline,
                               work.shared == nullptr ? nullptr : &work.shared->windows, reached));
  return reached(work.chunk.flat_offset + work.chunk.flat_length);
}

Error WithinChunk(const LayerIndex& index, uint64_t number, const Error& error) {
  return error.Within(
      fmt::format("chunk {} of layer {}", number, index.facts().blob_digest.ToString()));
}

}  // namespace

Status DecodeChunk(const LayerIndex& index, uint64_t number, BlobSource& blob, MutableByteSpan out,
                   const Deadline& deadline, const PassingChunk& passing, DecodeResources* shared) {
  ASSIGN_OR_RETURN(const ChunkRecord chunk, index.Chunk(number));
  if (out.size() != chunk.flat_length) {
    return Error{Code::kInternal, fmt::format("chunk {} has {} bytes, the buffer {}", number,
                                              chunk.flat_length, out.size())};
  }
  if (chunk.zero) {
    std::fill(out.begin(), out.end(), uint8_t{0});
    return {};
  }
  const bool pieces = index.piece_count() > 0;
  const ChunkWork work{index, number, chunk, blob, out, deadline, passing, shared};
  const Status status = pieces ? DecodePieces(index, chunk, blob, out, deadline,
                                              shared == nullptr ? nullptr : &shared->windows)
                               : Decode(work);
  return status ? status : WithinChunk(index, number, status.error());
}

Status DecodeRun(const LayerIndex& index, uint64_t first, uint64_t last, BlobSource& blob,
                 const Deadline& deadline, const ChunkTaker& take, DecodeResources* shared) {
  ASSIGN_OR_RETURN(ChunkRecord run, index.Chunk(first));
  ASSIGN_OR_RETURN(const ChunkRecord end, index.Chunk(last));
  const bool pieces = index.piece_count() > 0;
  const uint64_t flat_length = end.flat_offset + end.flat_length - run.flat_offset;
  if (first > last || run.zero || end.zero || (pieces && flat_length > kMostJoinedFlat))
    return Error{Code::kInternal, fmt::format("chunks {} to {} are no run", first, last)};
  run.flat_length = flat_length;
  run.raw_end = end.raw_end;
  run.blob_end = end.blob_end;
  const PassingChunk passing = [&](uint64_t number, ByteSpan flat) {
    take(number, {flat.begin(), flat.end()});
  };
  const ChunkWork work{index, first, run, blob, {}, deadline, passing, shared};
  const Status status = pieces ? DecodePieceRun(work, last, take) : DecodeInOrder(work, last, take);
  return status ? status : WithinChunk(index, first, status.error());
}

Status VerifyChunk(const LayerIndex& index, uint64_t number, ByteSpan flat_bytes) {
  ASSIGN_OR_RETURN(const ChunkRecord chunk, index.Chunk(number));
  if (flat_bytes.size() != chunk.flat_length)
    return Error{Code::kCorrupt, fmt::format("chunk {} has {} bytes, not {}", number,
                                             flat_bytes.size(), chunk.flat_length)};
  if (chunk.zero ? !IsAllZero(flat_bytes) : chunk.checksum && Crc32c(flat_bytes) != *chunk.checksum)
    return Error{Code::kCorrupt,
                 fmt::format("the bytes of chunk {} do not fit their checksum", number)};
  return {};
}

}  // namespace lamina
