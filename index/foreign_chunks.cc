#include "index/foreign_chunks.h"

#include <algorithm>

#include "index/chunker.h"

namespace lamina {

uint64_t ForeignChunks::Room(uint64_t flat_offset) const {
  return kChunkBytes - std::min(kChunkBytes - kFlatAlign, flat_offset - begin_);
}

// Where a chunk may end that holds all up to here: behind the file's last block, else before the
// block that the next stretch shares.
uint64_t ForeignChunks::EndOf(uint64_t flat_offset) const {
  return flat_offset == file_end_ ? AlignUp(flat_offset, kFlatAlign)
                                  : AlignDown(flat_offset, kFlatAlign);
}

Status ForeignChunks::BeginFile(uint64_t flat_offset, uint64_t size) {
  file_end_ = flat_offset + size;
  return flat_offset - begin_ + size > kChunkBytes ? CloseAt(flat_offset) : Status();
}

Status ForeignChunks::Data(uint64_t flat_offset, uint64_t length, uint64_t raw_offset) {
  if (!has_data_) raw_begin_ = raw_offset;
  has_data_ = true;
  raw_end_ = raw_offset + length;
  data_end_ = flat_offset + length;
  return data_end_ - begin_ >= kChunkBytes ? CloseAt(EndOf(data_end_)) : Status();
}

Status ForeignChunks::Zeros(uint64_t flat_offset, uint64_t length) {
  const uint64_t begin = AlignUp(flat_offset, kFlatAlign);
  const uint64_t end = EndOf(flat_offset + length);
  if (end < begin + kZeroRun)
    return flat_offset + length - begin_ >= kChunkBytes ? CloseAt(EndOf(flat_offset + length))
                                                        : Status();
  RETURN_IF_ERROR(CloseAt(begin));
  return EmitZeros(end);
}

Status ForeignChunks::Finish(uint64_t flat_size) { return CloseAt(flat_size); }

Status ForeignChunks::EmitZeros(uint64_t end) {
  ChunkRecord record;
  record.flat_offset = begin_;
  record.flat_length = end - begin_;
  record.zero = true;
  begin_ = end;
  return writer_.AddChunk(record);
}

Status ForeignChunks::CloseAt(uint64_t end) {
  if (end <= begin_) return {};
  // Zeros alone, and padding: nothing of the blob belongs to it.
  if (!has_data_) return EmitZeros(end);
  while (begin_ < end) {
    ChunkRecord record;
    record.flat_offset = begin_;
    record.flat_length = std::min(end - begin_, kMaxChunkFlat);
    record.raw_begin = raw_begin_;
    record.raw_end = raw_end_;
    begin_ += record.flat_length;
    RETURN_IF_ERROR(complete_(&record));
    RETURN_IF_ERROR(writer_.AddChunk(record));
  }
  has_data_ = data_end_ > end;
  return {};
}

}  // namespace lamina
