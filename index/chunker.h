#pragma once

// Chunker: takes the bytes of the flat address space in order, cuts them into chunks, sums up each,
// and hands the bytes on. Long runs of zeros become chunks of their own, which cost nothing. The
// cuts depend on the tar stream alone, not on how it came in buffers. One thread.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/result.h"
#include "index/blob_hash.h"
#include "index/compression.h"
#include "index/layer_index.h"
#include "index/layer_index_writer.h"
#include "index/layer_indexer.h"

namespace lamina {

// Shorter runs of zeros stay inside their chunk: a record costs 56 bytes and a cut may cost a
// checkpoint.
inline constexpr uint64_t kZeroRun = 64u << 10;

// A place from which decoding can resume.
struct ResumePoint {
  std::unique_ptr<DecoderSnapshot> snapshot;
  HashMark mark;                       // of the blob, where the snapshot resumes
  std::optional<uint32_t> checkpoint;  // its number in the index, once it is there
};

// A buffer of the raw stream, as far as a chunk that has payload in it must know.
struct BufferMark {
  std::shared_ptr<ResumePoint> resume;  // the last one at or before its start
  uint64_t hash_begin = 0;              // offset of the mark at its start
  HashMark end;                         // of the blob, behind all that it needs
  uint64_t blob_end = 0;                // compressed bytes that had to be read for all of it
};

class Chunker {
 public:
  // `sink` may be null. Both outlive the chunker.
  Chunker(LayerIndexWriter& writer, FlatSink* sink);

  // What comes next was decoded into this buffer.
  void SetBuffer(std::shared_ptr<BufferMark> mark) { mark_ = std::move(mark); }

  // A file of `payload` bytes begins; its header is at `raw_offset`. The position is aligned.
  Status BeginFile(uint64_t payload, uint64_t raw_offset);
  Status AddPayload(ByteSpan bytes, uint64_t raw_offset);
  // Padding and holes inside granules; any length.
  Status AddZeros(uint64_t length);
  // At the end; the position is aligned.
  Status Finish();
  // After it: what is left of the marks, and the last one, the digest of the whole blob.
  Status FinishMarks(const Digest& digest, uint64_t blob_size);

  // Flat bytes taken so far.
  uint64_t position() const { return flat_ + fill_; }

 private:
  // Where the payload of a stretch comes from.
  struct Source {
    uint64_t payload = 0;  // bytes; 0: the rest is unset
    uint64_t raw_begin = 0;
    uint64_t raw_end = 0;
    std::shared_ptr<BufferMark> mark;  // of the buffer that holds raw_begin
    std::shared_ptr<BufferMark> last;  // of the one that holds raw_end

    void Append(Source next);
  };
  struct Stretch {
    uint64_t begin = 0;  // flat
    uint64_t length = 0;
    Source source;
  };

  Status AddBlock(ByteSpan block, Source source);
  Status AddZeroBlocks(uint64_t length, Source source);
  Status AddDataBlock(ByteSpan block, Source source);
  bool IsFull() const;
  void AbsorbRun();
  void OpenChunk(uint64_t begin);
  Status CloseChunk();
  Status EmitZeroChunk();
  void AppendOut(ByteSpan block);
  void FlushOut();
  Result<uint32_t> CheckpointOf(ResumePoint& point);
  void KeepMark(const HashMark& mark);
  Status EmitMarks(uint64_t up_to);

  LayerIndexWriter& writer_;
  FlatSink* const sink_;
  std::shared_ptr<BufferMark> mark_;

  uint64_t flat_ = 0;  // whole blocks taken
  std::array<uint8_t, kFlatAlign> partial_{};
  size_t fill_ = 0;  // bytes in partial_
  Source partial_source_;

  bool open_ = false;
  Stretch chunk_;  // the open data chunk, without the run
  Stretch run_;    // zero blocks at the end, not yet part of any chunk; shorter than kZeroRun while
                   // one is open
  uint32_t checksum_ = 0;
  std::vector<uint8_t> out_;  // blocks of the open chunk that are neither summed nor handed on yet
  uint64_t out_begin_ = 0;

  std::optional<uint32_t> last_checkpoint_;
  uint64_t last_raw_offset_ = 0;
  std::map<uint64_t, HashState> marks_;  // by offset, not yet written
  std::optional<uint64_t> last_mark_;    // offset of the last one written
};

}  // namespace lamina
