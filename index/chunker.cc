#include "index/chunker.h"

#include <algorithm>

namespace lamina {
namespace {

constexpr size_t kOutBytes = 256u << 10;
// A chunk spans at most about so much of the raw stream, or many entries without data between two
// small files would have to be decoded with it.
constexpr uint64_t kMaxRawSpan = 4 * kChunkBytes;

constexpr std::array<uint8_t, kZeroRun> kZeros{};

}  // namespace

void Chunker::Source::Append(Source next) {
  if (next.payload == 0) return;
  if (payload == 0) {
    *this = std::move(next);
    return;
  }
  payload += next.payload;
  raw_end = next.raw_end;
  last = std::move(next.last);
}

Chunker::Chunker(LayerIndexWriter& writer, FlatSink* sink) : writer_(writer), sink_(sink) {
  out_.reserve(kOutBytes);
}

Status Chunker::BeginFile(uint64_t payload, uint64_t raw_offset) {
  if (!open_) return {};
  const uint64_t held = chunk_.source.payload + run_.source.payload;
  const bool fits = payload <= kChunkBytes && held + payload <= kChunkBytes;
  const bool far = raw_offset - chunk_.source.raw_begin >= kMaxRawSpan;
  if ((held < kChunkBytes / 2 || fits) && !far) return {};
  AbsorbRun();
  return CloseChunk();
}

Status Chunker::AddPayload(ByteSpan bytes, uint64_t raw_offset) {
  while (!bytes.empty()) {
    const size_t take = std::min<size_t>(bytes.size(), kFlatAlign - fill_);
    Source source{take, raw_offset, raw_offset + take, mark_, mark_};
    const ByteSpan piece = bytes.first(take);
    bytes = bytes.subspan(take);
    raw_offset += take;
    if (take == kFlatAlign) {
      RETURN_IF_ERROR(AddBlock(piece, std::move(source)));
      continue;
    }
    std::copy(piece.begin(), piece.end(), partial_.begin() + static_cast<ptrdiff_t>(fill_));
    fill_ += take;
    partial_source_.Append(std::move(source));
    if (fill_ < kFlatAlign) return {};
    fill_ = 0;
    RETURN_IF_ERROR(AddBlock(partial_, std::exchange(partial_source_, {})));
  }
  return {};
}

Status Chunker::AddZeros(uint64_t length) {
  if (fill_ > 0) {
    const size_t take = static_cast<size_t>(std::min<uint64_t>(length, kFlatAlign - fill_));
    std::fill_n(partial_.begin() + static_cast<ptrdiff_t>(fill_), take, uint8_t{0});
    fill_ += take;
    length -= take;
    if (fill_ < kFlatAlign) return {};
    fill_ = 0;
    RETURN_IF_ERROR(AddBlock(partial_, std::exchange(partial_source_, {})));
  }
  // With a chunk open each block may end it; without one any length is one step.
  for (; open_ && length >= kFlatAlign; length -= kFlatAlign)
    RETURN_IF_ERROR(AddZeroBlocks(kFlatAlign, {}));
  const uint64_t whole = AlignDown(length, kFlatAlign);
  if (whole > 0) RETURN_IF_ERROR(AddZeroBlocks(whole, {}));
  fill_ = static_cast<size_t>(length - whole);
  std::fill_n(partial_.begin(), fill_, uint8_t{0});
  return {};
}

Status Chunker::Finish() {
  if (open_) {
    AbsorbRun();
    return CloseChunk();
  }
  return run_.length > 0 ? EmitZeroChunk() : Status();
}

Status Chunker::FinishMarks(const Digest& digest, uint64_t blob_size) {
  if (blob_size > 0) RETURN_IF_ERROR(EmitMarks(blob_size - 1));
  BlobMark last{blob_size, {}};
  std::ranges::copy(digest.bytes(), last.state.begin());
  return writer_.AddMark(last);
}

Status Chunker::AddBlock(ByteSpan block, Source source) {
  return IsAllZero(block) ? AddZeroBlocks(kFlatAlign, std::move(source))
                          : AddDataBlock(block, std::move(source));
}

Status Chunker::AddZeroBlocks(uint64_t length, Source source) {
  if (run_.length == 0) run_.begin = flat_;
  run_.length += length;
  run_.source.Append(std::move(source));
  flat_ += length;
  if (!open_) return {};
  if (run_.length >= kZeroRun) return CloseChunk();
  if (!IsFull()) return {};
  AbsorbRun();
  return CloseChunk();
}

Status Chunker::AddDataBlock(ByteSpan block, Source source) {
  if (run_.length > 0) {
    if (!open_ && run_.length >= kZeroRun) RETURN_IF_ERROR(EmitZeroChunk());
    AbsorbRun();
  }
  if (!open_) OpenChunk(flat_);
  AppendOut(block);
  chunk_.length += kFlatAlign;
  chunk_.source.Append(std::move(source));
  flat_ += kFlatAlign;
  return IsFull() ? CloseChunk() : Status();
}

bool Chunker::IsFull() const {
  return chunk_.source.payload + run_.source.payload >= kChunkBytes ||
         chunk_.length + run_.length >= kMaxChunkFlat;
}

// The run becomes the end, or the start, of the open chunk. It is shorter than kZeroRun.
void Chunker::AbsorbRun() {
  if (run_.length == 0) return;
  if (!open_) OpenChunk(run_.begin);
  FlushOut();
  checksum_ = Crc32c(ByteSpan(kZeros).first(static_cast<size_t>(run_.length)), checksum_);
  chunk_.length += run_.length;
  chunk_.source.Append(std::move(run_.source));
  run_ = Stretch();
}

void Chunker::OpenChunk(uint64_t begin) {
  open_ = true;
  chunk_ = Stretch();
  chunk_.begin = begin;
  checksum_ = Crc32c({});
}

Status Chunker::CloseChunk() {
  FlushOut();
  open_ = false;
  const Source& source = chunk_.source;
  // Whatever comes later begins behind hash_begin or at a mark that is kept already.
  KeepMark(source.mark->resume->mark);
  RETURN_IF_ERROR(EmitMarks(source.mark->hash_begin));
  KeepMark(source.last->end);
  ASSIGN_OR_RETURN(const uint32_t checkpoint, CheckpointOf(*source.mark->resume));
  ChunkRecord record;
  record.flat_offset = chunk_.begin;
  record.flat_length = chunk_.length;
  record.checksum = checksum_;
  record.raw_begin = source.raw_begin;
  record.raw_end = source.raw_end;
  record.blob_end = source.last->blob_end;
  record.checkpoint = checkpoint;
  chunk_ = Stretch();
  return writer_.AddChunk(record);
}

Status Chunker::EmitZeroChunk() {
  ChunkRecord record;
  record.flat_offset = run_.begin;
  record.flat_length = run_.length;
  record.zero = true;
  run_ = Stretch();
  return writer_.AddChunk(record);
}

void Chunker::AppendOut(ByteSpan block) {
  if (out_.size() + block.size() > kOutBytes) FlushOut();
  if (out_.empty()) out_begin_ = flat_;
  out_.insert(out_.end(), block.begin(), block.end());
}

void Chunker::FlushOut() {
  if (out_.empty()) return;
  checksum_ = Crc32c(out_, checksum_);
  if (sink_ != nullptr) sink_->Write(out_begin_, out_);
  out_.clear();
}

Result<uint32_t> Chunker::CheckpointOf(ResumePoint& point) {
  if (point.checkpoint.has_value()) return *point.checkpoint;
  const Checkpoint checkpoint = point.snapshot->Encode();
  point.snapshot.reset();
  // Codecs that resume at frames only give the same place for many buffers.
  if (!last_checkpoint_.has_value() || checkpoint.raw_offset != last_raw_offset_) {
    ASSIGN_OR_RETURN(last_checkpoint_, writer_.AddCheckpoint(checkpoint, point.mark.lead));
    last_raw_offset_ = checkpoint.raw_offset;
  }
  point.checkpoint = last_checkpoint_;
  return *point.checkpoint;
}

void Chunker::KeepMark(const HashMark& mark) {
  if (mark.known && (!last_mark_ || mark.offset > *last_mark_))
    marks_.try_emplace(mark.offset, mark.state);
}

// Those at or before `up_to`, which is not behind any that is still to come and new.
Status Chunker::EmitMarks(uint64_t up_to) {
  while (!marks_.empty() && marks_.begin()->first <= up_to) {
    last_mark_ = marks_.begin()->first;
    RETURN_IF_ERROR(writer_.AddMark({*last_mark_, marks_.begin()->second}));
    marks_.erase(marks_.begin());
  }
  return {};
}

}  // namespace lamina
