#pragma once

// Which table of contents the manifest names for a layer, and where it lies in the blob. Only a
// digest in the manifest counts: what a blob says of itself (its footer) is no more than a place to
// look at. Pure functions, save that LocateToc() reads the end of the blob; any thread.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/toc_files.h"

namespace lamina {

// Of the compressed table, and of its JSON.
inline constexpr uint64_t kMaxTocBlob = 64u << 20;
inline constexpr uint64_t kMaxTocJson = 150u << 20;

// What the annotations of a layer's descriptor say.
struct TocClaim {
  std::optional<Digest> json_digest;  // of the JSON: eStargz, zstd:chunked of stargz-snapshotter
  std::optional<Digest> blob_digest;  // of the compressed table: zstd:chunked
  struct Position {
    uint64_t offset = 0;
    uint64_t length = 0;       // compressed
    uint64_t json_length = 0;  // decoded
  };
  std::optional<Position> position;  // where the annotations say it

  TocDialect dialect() const { return json_digest ? TocDialect::kStargz : TocDialect::kChunked; }
};

// Absent where the annotations name none: the layer is a plain one. kInvalid in words where they
// contradict each other or are malformed.
Result<std::optional<TocClaim>> TocClaimOf(const std::map<std::string, std::string>& annotations);

enum class TocKind : uint8_t {
  kEstargz,        // gzip; also the legacy form
  kStargzZstd,     // zstd:chunked of stargz-snapshotter
  kChunked,        // zstd:chunked of containers/storage
  kEstargzBeside,  // gzip; the table is a file of another image (external TOC)
};
const char* TocKindName(TocKind kind);

struct TocPlace {
  TocKind kind = TocKind::kEstargz;
  Compression compression = Compression::kGzip;
  uint64_t offset = 0;       // of the compressed table in the blob; 0 where it lies beside
  uint64_t length = 0;       // 0 where it lies beside
  uint64_t json_length = 0;  // as the blob or the manifest says; 0: not said
  uint64_t data_end = 0;     // from here on the blob has no data of files
  // The end of the blob, where it was read: what of the table is in it need not be fetched again.
  std::vector<uint8_t> tail = {};
  uint64_t tail_offset = 0;  // of `tail` in the blob
};

// One read of the blob, none where the annotations have the position. kInvalid where no footer is
// found or it points outside the blob: the manifest has promised a table.
Result<TocPlace> LocateToc(const TocClaim& claim, BlobSource& blob, const Deadline& deadline);

}  // namespace lamina
