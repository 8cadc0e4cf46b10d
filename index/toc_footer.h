#pragma once

// The footers by which a blob tells where its table of contents lies: eStargz (51 bytes), legacy
// stargz (47), external table (46), zstd:chunked of stargz-snapshotter and of older
// containers/storage (40 bytes in a skippable frame) and of newer containers/storage (64). Pure
// function; any thread.

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "index/compression.h"

namespace lamina {

struct TocFooter {
  Compression compression = Compression::kGzip;
  bool beside = false;       // the table is in another image
  uint64_t size = 0;         // bytes at the end of the blob that are the footer, its frame included
  uint64_t toc_offset = 0;   // as it says: not checked against anything
  uint64_t toc_length = 0;   // of zstd; 0: up to the footer
  uint64_t json_length = 0;  // of zstd
};

// `tail`: the last bytes of the blob, kMaxTocFooter or more where there are so many. Absent where
// they end in none of the footers.
inline constexpr size_t kMaxTocFooter = 8 + 64;
std::optional<TocFooter> ParseTocFooter(ByteSpan tail);

}  // namespace lamina
