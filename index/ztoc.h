#pragma once

// Ztoc: the table of contents that a SOCI index has for one layer: the entries of its tar, and
// checkpoints that cut its decoded stream into spans, each with the digest of its compressed bytes
// (docs/formats-soci.md). Bytes are hostile: everything is checked when it is opened, save what
// ReadEntries() says of single entries. Immutable; any thread.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/tar.h"

namespace lamina {

// A stretch of the decoded stream, from raw_offset to that of the next span that lies further.
struct ZtocSpan {
  uint64_t raw_offset = 0;
  // The compressed bytes that it is decoded from. A byte at the border of two spans belongs to
  // both.
  uint64_t blob_offset = 0;
  uint64_t blob_end = 0;
  std::array<uint8_t, 32> sha256{};  // of these bytes
};

// Takes the entries in the order of the tar. `payload_offset` is where the data of a regular file
// begin in the decoded stream. An error ends the reading and is what ReadEntries() returns.
using ZtocSink = std::function<Status(const TarEntry& entry, uint64_t payload_offset)>;

class Ztoc {
 public:
  // A larger one is refused, and one that has a span of more compressed bytes than that, since a
  // layer would not be lazy by it.
  static constexpr uint64_t kMaxBytes = 150u << 20;
  static constexpr uint64_t kMaxSpanBytes = 64u << 20;

  // kInvalid, kLimit, or kUnsupported, each in words that begin with "the zTOC".
  static Result<Ztoc> Open(std::string bytes);

  Compression compression() const { return compression_; }  // kGzip or kNone
  uint64_t compressed_size() const { return compressed_size_; }
  // Where the tar ends by its end mark; zeros may follow in the decoded stream.
  uint64_t uncompressed_size() const { return uncompressed_size_; }

  // At least one; raw_offset never falls, blob_offset rises.
  const std::vector<ZtocSpan>& spans() const { return spans_; }
  // As Checkpoint::state at the start of spans()[number]: with its raw_offset and blob_offset it is
  // a checkpoint.
  std::vector<uint8_t> CheckpointState(size_t number) const;

  // Bytes in front of the first span: the gzip header.
  uint64_t header_size() const { return spans_.front().blob_offset; }
  // True where the first checkpoint is not written down and stands for a header of 10 bytes, which
  // a blob's need not have.
  bool header_assumed() const { return header_assumed_; }
  // `head` are the first header_size() bytes of the blob. kInvalid where they are no gzip header as
  // a whole: then the checkpoints are not this blob's.
  Status CheckHeader(ByteSpan head) const;

  // kInvalid where the entries do not follow each other inside the tar or one of them cannot be;
  // kUnsupported where the layer has sparse files, of which a zTOC does not say where their data
  // lie.
  Status ReadEntries(const ZtocSink& sink) const;

 private:
  explicit Ztoc(std::string bytes) : bytes_(std::move(bytes)) {}
  Status ReadSizes();
  Status ReadGzipSpans();
  Status ReadPlainSpans();
  Status ReadDigests();
  Status CheckSpans() const;
  ByteSpan Checkpoints() const;
  ByteSpan WrittenCheckpoint(size_t number) const;

  std::string bytes_;
  Compression compression_ = Compression::kNone;
  uint64_t compressed_size_ = 0;
  uint64_t uncompressed_size_ = 0;
  bool header_assumed_ = false;
  std::vector<ZtocSpan> spans_;
};

}  // namespace lamina
