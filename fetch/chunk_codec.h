#pragma once

// How a chunk lies at its place in the data file: plain, or compressed as a whole by LZ4 or zstd
// where that saves at least a quarter of its blocks. The same bytes always give the same form. Pure
// functions; any thread. Decoding takes whatever bytes it is given.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

enum class CacheCompression : uint8_t { kNone, kLz4, kZstd };

// "none", "lz4", "zstd".
std::optional<CacheCompression> ParseCacheCompression(std::string_view text);

struct ChunkForm {
  CacheCompression compression = CacheCompression::kNone;
  uint32_t length = 0;  // bytes of the compressed form; 0 where it is plain

  // As the map has it (docs/formats-cache.md). Never 0.
  uint32_t ToWord() const;
  // Nothing where the word is none that says that a chunk is there.
  static std::optional<ChunkForm> FromWord(uint32_t word);
};

struct EncodedChunk {
  ChunkForm form;
  // As long as the chunk: the compressed form, then zeros. Empty where it is plain.
  std::vector<uint8_t> padded;
};
// An error only where memory lacks.
Result<EncodedChunk> EncodeChunk(CacheCompression compression, ByteSpan bytes);

// kCorrupt unless it decodes to exactly out.size() bytes. Not of a plain chunk.
Status DecodeChunkForm(CacheCompression compression, ByteSpan stored, MutableByteSpan out);

}  // namespace lamina
