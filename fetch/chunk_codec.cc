#include "fetch/chunk_codec.h"

#include <lz4.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "fetch/sparse_file.h"

namespace lamina {
namespace {

// The fields of a word: how it lies there, then the length of the compressed form.
constexpr uint32_t kPlain = 1;
constexpr uint32_t kLz4 = 2;
constexpr uint32_t kZstd = 3;
constexpr int kLengthShift = 2;

// Higher ones take much longer for little on the contents of layers.
constexpr int kZstdLevel = 1;

// What LZ4 takes, and a length fits in its field.
constexpr size_t kMostBytes = size_t{1} << 29;

char* Chars(uint8_t* bytes) { return reinterpret_cast<char*>(bytes); }
const char* Chars(const uint8_t* bytes) { return reinterpret_cast<const char*>(bytes); }

// Blocks that a plain chunk takes.
size_t DataBlocks(ByteSpan bytes) {
  size_t blocks = 0;
  for (; !bytes.empty(); bytes = bytes.subspan(std::min<size_t>(kHoleBlock, bytes.size())))
    if (!IsAllZero(bytes.first(std::min<size_t>(kHoleBlock, bytes.size())))) ++blocks;
  return blocks;
}

// Reads are many, so each thread keeps its own. Null where there is no memory.
ZSTD_DCtx* Decompressor() {
  thread_local const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                                  &ZSTD_freeDCtx);
  return context.get();
}

// Bytes of the compressed form; 0 where it has more than out.size().
Result<size_t> CompressInto(CacheCompression compression, ByteSpan bytes, MutableByteSpan out) {
  if (compression == CacheCompression::kLz4)
    return static_cast<size_t>(LZ4_compress_default(Chars(bytes.data()), Chars(out.data()),
                                                    static_cast<int>(bytes.size()),
                                                    static_cast<int>(out.size())));
  const size_t length =
      ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), kZstdLevel);
  if (!ZSTD_isError(length)) return length;
  if (ZSTD_getErrorCode(length) == ZSTD_error_dstSize_tooSmall) return size_t{0};
  return Error{Code::kNoSpace,
               "cannot compress a chunk: " + std::string(ZSTD_getErrorName(length))};
}

// Not more than out.size() bytes are written, whatever `stored` says.
std::optional<size_t> Decode(CacheCompression compression, ByteSpan stored, MutableByteSpan out) {
  if (compression == CacheCompression::kLz4) {
    const int got =
        LZ4_decompress_safe(Chars(stored.data()), Chars(out.data()),
                            static_cast<int>(stored.size()), static_cast<int>(out.size()));
    return got < 0 ? std::nullopt : std::optional(static_cast<size_t>(got));
  }
  ZSTD_DCtx* const context = Decompressor();
  if (context == nullptr) return std::nullopt;
  const size_t got =
      ZSTD_decompressDCtx(context, out.data(), out.size(), stored.data(), stored.size());
  return ZSTD_isError(got) ? std::nullopt : std::optional(got);
}

}  // namespace

std::optional<CacheCompression> ParseCacheCompression(std::string_view text) {
  if (text == "none") return CacheCompression::kNone;
  if (text == "lz4") return CacheCompression::kLz4;
  if (text == "zstd") return CacheCompression::kZstd;
  return std::nullopt;
}

uint32_t ChunkForm::ToWord() const {
  switch (compression) {
    case CacheCompression::kNone:
      break;
    case CacheCompression::kLz4:
      return kLz4 | length << kLengthShift;
    case CacheCompression::kZstd:
      return kZstd | length << kLengthShift;
  }
  return kPlain;
}

std::optional<ChunkForm> ChunkForm::FromWord(uint32_t word) {
  if (word == kPlain) return ChunkForm{};
  const uint32_t kind = word % (1u << kLengthShift);
  const uint32_t length = word >> kLengthShift;
  if (length == 0 || (kind != kLz4 && kind != kZstd)) return std::nullopt;
  return ChunkForm{kind == kLz4 ? CacheCompression::kLz4 : CacheCompression::kZstd, length};
}

Result<EncodedChunk> EncodeChunk(CacheCompression compression, ByteSpan bytes) {
  if (compression == CacheCompression::kNone || bytes.size() > kMostBytes) return EncodedChunk{};
  const size_t most = DataBlocks(bytes) * 3 / 4 * kHoleBlock;
  if (most == 0) return EncodedChunk{};
  EncodedChunk encoded{.form = {}, .padded = std::vector<uint8_t>(bytes.size())};
  ASSIGN_OR_RETURN(const size_t length,
                   CompressInto(compression, bytes, MutableByteSpan(encoded.padded).first(most)));
  if (length == 0) return EncodedChunk{};
  // What the compressor may have left behind the end of its output.
  std::fill(encoded.padded.begin() + static_cast<ptrdiff_t>(length),
            encoded.padded.begin() + static_cast<ptrdiff_t>(most), uint8_t{0});
  encoded.form = {compression, static_cast<uint32_t>(length)};
  return encoded;
}

Status DecodeChunkForm(CacheCompression compression, ByteSpan stored, MutableByteSpan out) {
  if (stored.size() > kMostBytes || out.size() > kMostBytes ||
      Decode(compression, stored, out) != out.size())
    return Error{Code::kCorrupt, "its compressed form is not that of a chunk of its length"};
  return {};
}

}  // namespace lamina
