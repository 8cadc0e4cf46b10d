#include "index/toc_locate.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/text.h"
#include "index/toc_footer.h"

namespace lamina {
namespace {

constexpr const char* kJsonDigest = "containerd.io/snapshot/stargz/toc.digest";
// Podman, Buildah and Skopeo of today write the first, those of 2022 and stargz-snapshotter the
// second. Both are of the same form.
constexpr std::string_view kStoragePrefix = "io.github.containers.zstd-chunked.";
constexpr std::string_view kOldPrefix = "io.containers.zstd-chunked.";
constexpr uint64_t kManifestType = 1;

// Of the end of a blob, in one read: enough for the table of a layer of a thousand files.
constexpr uint64_t kTailBytes = 128u << 10;
// A skippable frame has its header before what the positions speak of.
constexpr uint64_t kFrameHeader = 8;

using Annotations = std::map<std::string, std::string>;

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

const std::string* Find(const Annotations& annotations, const std::string& key) {
  const auto found = annotations.find(key);
  return found == annotations.end() ? nullptr : &found->second;
}

Result<std::optional<Digest>> FindDigest(const Annotations& annotations, const std::string& key) {
  const std::string* text = Find(annotations, key);
  if (text == nullptr) return std::optional<Digest>();
  Result<Digest> digest = Digest::Parse(*text);
  if (!digest) return digest.error().Within("annotation " + key);
  return std::optional<Digest>(*digest);
}

// "OFFSET:LENGTH:DECODED:TYPE"
Result<TocClaim::Position> ParsePosition(std::string_view text, const std::string& key) {
  const std::vector<std::string_view> parts = Split(text, ':');
  std::array<uint64_t, 4> numbers{};
  bool valid = parts.size() == numbers.size();
  for (size_t i = 0; valid && i < parts.size(); ++i) {
    const char* const end = parts[i].data() + parts[i].size();
    const auto [stop, error] = std::from_chars(parts[i].data(), end, numbers[i]);
    valid = error == std::errc() && stop == end;
  }
  if (!valid) return Invalid("annotation " + key + " is no position: " + Quote(text, 80));
  if (numbers[3] != kManifestType)
    return Error{Code::kUnsupported, "annotation " + key + " speaks of a table of type " +
                                         std::to_string(numbers[3]) + ", only 1 is known"};
  return TocClaim::Position{numbers[0], numbers[1], numbers[2]};
}

Result<bool> ReadChunked(const Annotations& annotations, std::string_view prefix, TocClaim* claim) {
  const std::string start(prefix);
  ASSIGN_OR_RETURN(claim->blob_digest, FindDigest(annotations, start + "manifest-checksum"));
  if (!claim->blob_digest) return false;
  const std::string key = start + "manifest-position";
  if (const std::string* text = Find(annotations, key)) {
    ASSIGN_OR_RETURN(claim->position, ParsePosition(*text, key));
  }
  return true;
}

// The table from `offset` on, before `end`.
Status SetRange(uint64_t offset, uint64_t length, uint64_t end, TocPlace* place) {
  if (length == 0 || offset == 0 || offset > end || length > end - offset)
    return Invalid("its table of contents is said to lie at bytes " + std::to_string(offset) + "+" +
                   std::to_string(length) + ", outside of the blob");
  if (length > kMaxTocBlob)
    return Error{Code::kLimit, "its table of contents has " + HumanSize(length) +
                                   ", the limit is " + HumanSize(kMaxTocBlob)};
  if (place->json_length > kMaxTocJson)
    return Error{Code::kLimit, "its table of contents has " + HumanSize(place->json_length) +
                                   " of JSON, the limit is " + HumanSize(kMaxTocJson)};
  place->offset = offset;
  place->length = length;
  place->data_end = place->compression == Compression::kZstd && offset >= kFrameHeader
                        ? offset - kFrameHeader
                        : offset;
  return {};
}

TocKind ZstdKind(const TocClaim& claim) {
  return claim.dialect() == TocDialect::kStargz ? TocKind::kStargzZstd : TocKind::kChunked;
}

Result<TocPlace> FromPosition(const TocClaim& claim, uint64_t blob_size) {
  TocPlace place{.kind = ZstdKind(claim), .compression = Compression::kZstd};
  place.json_length = claim.position->json_length;
  RETURN_IF_ERROR(SetRange(claim.position->offset, claim.position->length, blob_size, &place));
  return place;
}

Result<TocPlace> FromFooter(const TocClaim& claim, const TocFooter& footer, uint64_t blob_size) {
  TocPlace place{.compression = footer.compression, .json_length = footer.json_length};
  const uint64_t end = blob_size - footer.size;
  if (footer.compression == Compression::kZstd) {
    place.kind = ZstdKind(claim);
    RETURN_IF_ERROR(SetRange(footer.toc_offset, footer.toc_length, end, &place));
    return place;
  }
  if (claim.blob_digest)
    return Invalid("the manifest names a zstd:chunked table of contents, the layer is an eStargz");
  if (footer.beside) {
    place.kind = TocKind::kEstargzBeside;
    place.data_end = end;
    return place;
  }
  const uint64_t length = footer.toc_offset < end ? end - footer.toc_offset : 0;
  RETURN_IF_ERROR(SetRange(footer.toc_offset, length, end, &place));
  return place;
}

}  // namespace

Result<std::optional<TocClaim>> TocClaimOf(const Annotations& annotations) {
  TocClaim claim;
  ASSIGN_OR_RETURN(claim.json_digest, FindDigest(annotations, kJsonDigest));
  TocClaim old;
  ASSIGN_OR_RETURN(const bool is_old, ReadChunked(annotations, kOldPrefix, &old));
  ASSIGN_OR_RETURN(const bool is_new, ReadChunked(annotations, kStoragePrefix, &claim));
  // containers/storage refuses it too: its readers would follow one table, those of
  // stargz-snapshotter the other.
  if (is_new && claim.json_digest)
    return Invalid(
        "the manifest names both a zstd:chunked and an eStargz table of contents for the layer");
  if (is_new && is_old && claim.blob_digest != old.blob_digest)
    return Invalid("the manifest names two zstd:chunked tables of contents for the layer");
  if (is_old && !is_new) {
    claim.blob_digest = old.blob_digest;
    claim.position = old.position;
  }
  if (!claim.json_digest && !claim.blob_digest) return std::optional<TocClaim>();
  return std::optional<TocClaim>(std::move(claim));
}

const char* TocKindName(TocKind kind) {
  switch (kind) {
    case TocKind::kEstargz:
      return "eStargz";
    case TocKind::kStargzZstd:
      return "zstd:chunked of stargz-snapshotter";
    case TocKind::kChunked:
      return "zstd:chunked";
    case TocKind::kEstargzBeside:
      return "eStargz with an external table of contents";
  }
  return "?";
}

Result<TocPlace> LocateToc(const TocClaim& claim, BlobSource& blob, const Deadline& deadline) {
  if (claim.position) return FromPosition(claim, blob.size());
  const uint64_t size = std::min(blob.size(), kTailBytes);
  std::vector<uint8_t> tail(size);
  if (size > 0) RETURN_IF_ERROR(blob.ReadAt(blob.size() - size, tail, deadline));
  const std::optional<TocFooter> footer = ParseTocFooter(tail);
  if (!footer)
    return Invalid(
        "the manifest names a table of contents, but the layer ends in no footer of one");
  ASSIGN_OR_RETURN(TocPlace place, FromFooter(claim, *footer, blob.size()));
  place.tail = std::move(tail);
  place.tail_offset = blob.size() - size;
  return place;
}

}  // namespace lamina
