#pragma once

// LayerPass: one indexing pass with its threads. The caller's thread reads the blob, decodes it and
// hashes it; a second one hashes the raw stream; a third one parses it, sums up the chunks and
// feeds the sink. Run() is called once; the threads end before it returns. Where something goes
// wrong, the blob is read to its end, so that a blob that is not what its digest says is called
// corrupt, not invalid; unless more than 1 GiB of it would be read for that alone.

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/blob_source.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/result.h"
#include "index/blob_hash.h"
#include "index/compression.h"
#include "index/layer_builder.h"
#include "index/layer_indexer.h"
#include "index/raw_ring.h"
#include "index/tar.h"

namespace lamina {

class LayerPass {
 public:
  // Both outlive the pass.
  LayerPass(BlobSource& blob, const IndexRequest& request);
  ~LayerPass();
  LayerPass(const LayerPass&) = delete;
  LayerPass& operator=(const LayerPass&) = delete;

  // The finished index, which the caller commits.
  Result<AtomicFile> Run();

 private:
  Status TakeCompressed(ByteSpan bytes);
  bool HasFailed() const;
  Error Failure() const;
  void ReportProgress();
  Status DecodePiece(ByteSpan bytes);
  void HashHeld();
  Status StartDecoder(ByteSpan next);
  Status DecodeInto(ByteSpan bytes, size_t ahead);
  Status DecodeRest();
  std::shared_ptr<ResumePoint> CurrentResumePoint();
  void OpenBuffer();
  void PublishBuffer();

  void StartReaders();
  void JoinReaders();
  void HashRaw(size_t reader);
  void ParseRaw(size_t reader);
  Status ParseBuffer(RawBuffer& buffer);
  Status ParseAll(size_t reader);

  Status CheckBlob(const Digest& digest) const;
  Status CheckDecoded(const Digest& blob_digest);
  Result<AtomicFile> Write(const Digest& content);

  BlobSource& blob_;
  const IndexRequest& request_;

  // Of the caller's thread.
  BlobHash blob_hash_;
  uint64_t blob_bytes_ = 0;
  bool given_up_ = false;  // before the end of the blob
  std::chrono::steady_clock::time_point next_report_{};
  std::vector<uint8_t> held_;  // the last bytes that came, not yet decoded
  uint64_t held_begin_ = 0;    // offset of the first in the blob
  Compression compression_ = Compression::kNone;
  std::unique_ptr<StreamDecoder> decoder_;
  RawBuffer* buffer_ = nullptr;          // being filled
  std::shared_ptr<ResumePoint> resume_;  // the last one
  uint64_t resume_raw_ = 0;              // where it was taken
  uint64_t resume_blob_ = 0;
  Status decoded_;

  std::unique_ptr<RawRing> ring_;
  std::vector<std::thread> readers_;

  // Of the hashing thread, and of the caller once it has ended.
  Hasher raw_hasher_;
  bool hashes_raw_ = false;
  std::optional<Digest> raw_diff_id_;  // once it is checked

  // Of the parsing thread, and of the caller once it has ended.
  LayerBuilder builder_;
  TarParser parser_;
  Status parsed_;
  std::atomic<bool> parse_failed_{false};  // no more need to decode
};

}  // namespace lamina
