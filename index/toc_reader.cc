#include "index/toc_reader.h"

#include <algorithm>

#include "base/text.h"
#include "index/toc_offsets.h"
#include "index/toc_stream.h"

namespace lamina {
namespace {

constexpr const char* kWhat = "table of contents";

bool InTar(TocKind kind) { return kind == TocKind::kEstargz || kind == TocKind::kEstargzBeside; }

bool HasPiece(const TocRecord& record) {
  return record.type == "chunk" || (record.type == "reg" && record.size.value_or(0) > 0);
}

Error Mismatch(const char* of, const Digest& wanted, const Digest& got) {
  return Error{Code::kCorrupt, std::string(of) + " has the digest " + got.ToString() +
                                   ", the manifest says " + wanted.ToString()};
}

}  // namespace

Result<Toc> Toc::Fetch(const TocClaim& claim, TocPlace place, BlobSource& blob,
                       const Deadline& deadline, WindowAccount account) {
  if (place.kind == TocKind::kEstargzBeside)
    return Error{Code::kInternal, "an external table of contents is not in the blob"};
  Toc toc(claim, std::move(place), std::move(account));
  RETURN_IF_ERROR(toc.FetchBlob(blob, deadline));
  RETURN_IF_ERROR(toc.Verify(claim));
  return toc;
}

Result<Toc> Toc::FetchBeside(const TocClaim& claim, const TocPlace& place, BlobSource& beside,
                             const Deadline& deadline) {
  if (beside.size() > kMaxTocBlob)
    return Error{Code::kLimit, std::string("its external ") + kWhat + " has " +
                                   HumanSize(beside.size()) + ", the limit is " +
                                   HumanSize(kMaxTocBlob)};
  Toc toc(claim, place, {});
  toc.blob_.resize(beside.size());
  RETURN_IF_ERROR(beside.ReadAt(0, toc.blob_, deadline));
  RETURN_IF_ERROR(toc.Verify(claim));
  return toc;
}

// What the tail does not have is one range before it.
Status Toc::FetchBlob(BlobSource& blob, const Deadline& deadline) {
  blob_.resize(place_.length);
  const uint64_t end = place_.offset + place_.length;
  const uint64_t tail_begin = place_.tail.empty() ? end : std::min(place_.tail_offset, end);
  const uint64_t missing = tail_begin > place_.offset ? tail_begin - place_.offset : 0;
  if (missing > 0)
    RETURN_IF_ERROR(blob.ReadAt(place_.offset, MutableByteSpan(blob_).first(missing), deadline));
  if (missing < blob_.size()) {
    const uint64_t skip = place_.offset + missing - place_.tail_offset;
    std::copy_n(place_.tail.begin() + static_cast<ptrdiff_t>(skip), blob_.size() - missing,
                blob_.begin() + static_cast<ptrdiff_t>(missing));
  }
  place_.tail = {};
  return {};
}

Status Toc::Verify(const TocClaim& claim) const {
  if (claim.blob_digest) {
    const Digest got = Digest::Of(blob_, claim.blob_digest->algorithm());
    if (got != *claim.blob_digest)
      return Mismatch("the compressed table of contents", *claim.blob_digest, got);
  }
  const Status sound = VerifyJson(claim.json_digest);
  return sound ? Status() : Status(sound.error().Within(kWhat));
}

// From its start.
TocStream Toc::Json() const {
  const auto bytes = [this, given = false]() mutable -> Result<ByteSpan> {
    return std::exchange(given, true) ? ByteSpan() : ByteSpan(blob_);
  };
  return TocStream(place_.compression, InTar(place_.kind), bytes, account_);
}

// Also that it can be decoded, and has as many bytes as was said.
Status Toc::VerifyJson(const std::optional<Digest>& digest) const {
  Hasher hasher(digest ? digest->algorithm() : Digest::Algorithm::kSha256);
  uint64_t size = 0;
  TocStream stream = Json();
  for (;;) {
    ASSIGN_OR_RETURN(const ByteSpan piece, stream.Next());
    if (piece.empty()) break;
    hasher.Update(piece);
    size += piece.size();
  }
  const Digest got = hasher.Finish();
  if (digest && got != *digest) return Mismatch("its JSON", *digest, got);
  if (place_.json_length != 0 && place_.json_length != size)
    return Error{Code::kInvalid, "its JSON has " + std::to_string(size) + " bytes, not the " +
                                     std::to_string(place_.json_length) + " that are said"};
  return {};
}

Status Toc::ReadRecords(const TocRecordSink& sink) const {
  TocStream stream = Json();
  return ReadTocJson([&] { return stream.Next(); }, sink);
}

Status Toc::Read(const TocSink& sink) const {
  TocOffsets offsets;
  if (dialect_ == TocDialect::kStargz) {
    const Status collected = ReadRecords([&](const TocRecord& record) -> Status {
      if (HasPiece(record) && record.offset.value_or(0) > 0)
        offsets.Add(static_cast<uint64_t>(*record.offset));
      return {};
    });
    if (!collected) return collected.error().Within(kWhat);
  }
  const uint64_t end = place_.data_end;
  TocFiles files(
      dialect_, end,
      [&](uint64_t offset) -> Result<uint64_t> {
        return std::min(offsets.After(offset, end), end);
      },
      sink);
  Status read = ReadRecords([&](const TocRecord& record) { return files.Add(record); });
  if (read) read = files.Finish();
  return read ? Status() : Status(read.error().Within(kWhat));
}

}  // namespace lamina
