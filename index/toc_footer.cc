#include "index/toc_footer.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace lamina {
namespace {

// An empty gzip member: the header with FEXTRA, the extra field, one empty stored block, the
// trailer.
constexpr size_t kGzipHeader = 10;
constexpr size_t kGzipEnd = 5 + 8;
constexpr std::array<uint8_t, 4> kGzipStart = {0x1F, 0x8B, 8, 4};
constexpr std::array<uint8_t, kGzipEnd> kGzipEndBytes = {1, 0, 0, 0xFF, 0xFF};
constexpr std::string_view kMagic = "STARGZ";
constexpr std::string_view kExternalMagic = "STARGZEXTERNALTOC";
constexpr size_t kOffsetDigits = 16;

constexpr size_t kFrameHeader = 8;
constexpr std::array<uint8_t, 4> kSkippable = {0x50, 0x2A, 0x4D, 0x18};
constexpr std::string_view kOldZstdMagic = "GnUlInUx";
constexpr std::string_view kNewZstdMagic = "GNUlInUx";
constexpr size_t kOldZstdFooter = 40;
constexpr size_t kNewZstdFooter = 64;
constexpr uint64_t kManifestType = 1;  // the only one there is

template <size_t size>
bool StartsWith(ByteSpan bytes, const std::array<uint8_t, size>& what) {
  return bytes.size() >= size && std::equal(what.begin(), what.end(), bytes.begin());
}

std::optional<uint64_t> ParseHex(std::string_view digits) {
  uint64_t value = 0;
  for (const char c : digits) {
    const bool decimal = c >= '0' && c <= '9';
    if (!decimal && (c < 'a' || c > 'f')) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(decimal ? c - '0' : c - 'a' + 10);
  }
  return value;
}

// The extra field of the empty member that the tail ends in, where the field has `size` bytes.
std::optional<std::string_view> GzipExtra(ByteSpan tail, size_t size) {
  const size_t whole = kGzipHeader + 2 + size + kGzipEnd;
  if (tail.size() < whole) return std::nullopt;
  const ByteSpan member = tail.last(whole);
  if (!StartsWith(member, kGzipStart) || !StartsWith(member.last(kGzipEnd), kGzipEndBytes) ||
      LoadLe<uint16_t>(member.data() + kGzipHeader) != size)
    return std::nullopt;
  return AsText(member.subspan(kGzipHeader + 2, size));
}

// What stands in a field that holds one subfield "SG" and nothing else.
std::optional<std::string_view> Subfield(std::optional<std::string_view> extra) {
  if (!extra || !extra->starts_with("SG") ||
      LoadLe<uint16_t>(AsBytes(*extra).data() + 2) != extra->size() - 4)
    return std::nullopt;
  return extra->substr(4);
}

std::optional<TocFooter> OfGzip(std::optional<std::string_view> text, size_t extra_size) {
  if (!text || text->substr(kOffsetDigits) != kMagic) return std::nullopt;
  const std::optional<uint64_t> offset = ParseHex(text->substr(0, kOffsetDigits));
  if (!offset) return std::nullopt;
  return TocFooter{.size = kGzipHeader + 2 + extra_size + kGzipEnd, .toc_offset = *offset};
}

std::optional<TocFooter> ParseGzip(ByteSpan tail) {
  constexpr size_t kPlain = kOffsetDigits + kMagic.size();
  if (const auto found = OfGzip(Subfield(GzipExtra(tail, 4 + kPlain)), 4 + kPlain)) return found;
  if (const auto found = OfGzip(GzipExtra(tail, kPlain), kPlain)) return found;
  constexpr size_t kExternal = 4 + kExternalMagic.size();
  if (Subfield(GzipExtra(tail, kExternal)) != kExternalMagic) return std::nullopt;
  return TocFooter{.beside = true, .size = kGzipHeader + 2 + kExternal + kGzipEnd};
}

std::optional<TocFooter> ParseZstd(ByteSpan tail, size_t payload, std::string_view magic) {
  if (tail.size() < kFrameHeader + payload || !AsText(tail).ends_with(magic)) return std::nullopt;
  const ByteSpan frame = tail.last(kFrameHeader + payload);
  const uint8_t* const fields = frame.data() + kFrameHeader;
  if (!StartsWith(frame, kSkippable) || LoadLe<uint32_t>(frame.data() + 4) != payload ||
      LoadLe<uint64_t>(fields + 24) != kManifestType)
    return std::nullopt;
  return TocFooter{.compression = Compression::kZstd,
                   .size = frame.size(),
                   .toc_offset = LoadLe<uint64_t>(fields),
                   .toc_length = LoadLe<uint64_t>(fields + 8),
                   .json_length = LoadLe<uint64_t>(fields + 16)};
}

}  // namespace

std::optional<TocFooter> ParseTocFooter(ByteSpan tail) {
  if (const auto found = ParseGzip(tail)) return found;
  if (const auto found = ParseZstd(tail, kOldZstdFooter, kOldZstdMagic)) return found;
  return ParseZstd(tail, kNewZstdFooter, kNewZstdMagic);
}

}  // namespace lamina
