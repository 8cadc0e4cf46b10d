#include "index/compression.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "index/gzip_decoder.h"
#include "index/plain_decoder.h"
#include "index/zstd_decoder.h"

namespace lamina {
namespace {

using namespace std::string_view_literals;

struct ForeignMagic {
  size_t offset;
  std::string_view bytes;
  const char* name;
};

constexpr ForeignMagic kForeign[] = {
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "xz"},
    {0, "BZh"sv, "bzip2"},
    {0, "LZIP"sv, "lzip"},
    {0, "\x04\x22\x4d\x18"sv, "lz4"},
    {0, "\x02\x21\x4c\x18"sv, "lz4"},
    {0, "\x1f\x9d"sv, "compress"},
    {0, "\x5d\0\0"sv, "lzma"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "7-Zip"},
    {0, "PK\x03\x04"sv, "ZIP"},
    {0, "hsqs"sv, "squashfs"},
    {0, "SFAR"sv, "nydus (RAFS v5)"},
    {1024, "\xe2\xe1\xf5\xe0"sv, "EROFS or nydus (RAFS v6)"},
};

bool HasMagic(std::string_view head, std::string_view magic, size_t offset = 0) {
  return head.size() >= offset && head.substr(offset).substr(0, magic.size()) == magic;
}

// A tar whose first name happens to begin like another format is still a tar: its header says so by
// its checksum.
bool HasTarHeader(ByteSpan head) {
  constexpr size_t kBlock = 512, kField = 148, kFieldSize = 8;
  if (head.size() < kBlock) return false;
  const ByteSpan field = head.subspan(kField, kFieldSize);
  const uint64_t blanks = kFieldSize * ' ';
  const uint64_t sum = std::accumulate(head.begin(), head.begin() + kBlock, blanks) -
                       std::accumulate(field.begin(), field.end(), uint64_t{0});
  uint64_t stored = 0;
  for (const uint8_t digit : field) {
    if (digit >= '0' && digit <= '7') stored = stored * 8 + (digit - '0');
  }
  return stored == sum;
}

}  // namespace

const char* CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "none";
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "zstd";
  }
  return "unknown";
}

Result<Compression> SniffCompression(ByteSpan head) {
  const std::string_view text = AsText(head);
  if (HasMagic(text, "\x1f\x8b"sv)) return Compression::kGzip;
  if (HasMagic(text, "\x28\xb5\x2f\xfd"sv)) return Compression::kZstd;
  if (HasMagic(text, "\x2a\x4d\x18"sv, 1) && (head[0] & 0xf0) == 0x50) return Compression::kZstd;
  if (HasTarHeader(head)) return Compression::kNone;
  for (const ForeignMagic& foreign : kForeign) {
    if (HasMagic(text, foreign.bytes, foreign.offset)) {
      return Error{
          Code::kUnsupported,
          fmt::format("the blob is {}; lamina reads tar, tar+gzip and tar+zstd", foreign.name)};
    }
  }
  return Compression::kNone;
}

std::unique_ptr<StreamDecoder> StreamDecoder::Create(Compression compression,
                                                     WindowAccount account) {
  switch (compression) {
    case Compression::kGzip:
      return std::make_unique<GzipDecoder>(0, 0);
    case Compression::kZstd:
      return std::make_unique<ZstdDecoder>(0, 0, std::move(account));
    case Compression::kNone:
      break;
  }
  return std::make_unique<PlainDecoder>(0);
}

Result<std::unique_ptr<StreamDecoder>> StreamDecoder::Resume(Compression compression,
                                                             uint64_t raw_offset,
                                                             uint64_t blob_offset, ByteSpan state,
                                                             WindowAccount account) {
  if (compression == Compression::kGzip) return GzipDecoder::Resume(raw_offset, blob_offset, state);
  if (!state.empty()) {
    return Error{Code::kCorrupt,
                 fmt::format("a checkpoint of a layer with compression {} has a state",
                             CompressionName(compression))};
  }
  std::unique_ptr<StreamDecoder> decoder;
  if (compression == Compression::kZstd) {
    decoder = std::make_unique<ZstdDecoder>(raw_offset, blob_offset, std::move(account));
  } else if (raw_offset == blob_offset) {
    decoder = std::make_unique<PlainDecoder>(raw_offset);
  } else {
    return Error{Code::kCorrupt, "a checkpoint of a layer without compression has two offsets"};
  }
  return decoder;
}

}  // namespace lamina
