#include "index/toc_files.h"

#include <algorithm>
#include <array>

#include "base/digest.h"
#include "base/text.h"
#include "index/layer_path.h"
#include "index/toc_entry.h"

namespace lamina {
namespace {

constexpr size_t kMaxPieces = 1u << 20;  // of one file

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

Result<uint64_t> Natural(const std::optional<int64_t>& value, const char* what) {
  if (value.value_or(0) >= 0) return static_cast<uint64_t>(value.value_or(0));
  return Invalid("its " + std::string(what) + " is " + std::to_string(*value));
}

}  // namespace

bool IsStargzOwnFile(std::string_view path) {
  static constexpr std::array<std::string_view, 3> kNames = {
      "stargz.index.json", ".prefetch.landmark", ".no.prefetch.landmark"};
  const std::vector<std::string_view> components = CleanPath(path);
  return components.size() == 1 &&
         std::find(kNames.begin(), kNames.end(), components[0]) != kNames.end();
}

TocFiles::TocFiles(TocDialect dialect, uint64_t data_end, NextOffset next, TocSink sink)
    : dialect_(dialect), data_end_(data_end), next_(std::move(next)), sink_(std::move(sink)) {}

Error TocFiles::Within(const Error& error) const { return error.Within(Quote(name_)); }

Status TocFiles::Add(const TocRecord& record) {
  const bool chunk = record.type == "chunk";
  if (!chunk) RETURN_IF_ERROR(Flush());
  if (chunk && (!open_ || record.name != name_))
    return Invalid(Quote(record.name) + ": it is a chunk that does not follow its file");
  Status added;
  if (chunk) {
    added = AddPiece(record, record.chunk_digest);
  } else {
    name_ = record.name;
    added = StartEntry(record);
  }
  return added ? Status() : Status(Within(added.error()));
}

Status TocFiles::Finish() { return Flush(); }

Status TocFiles::StartEntry(const TocRecord& record) {
  ASSIGN_OR_RETURN(entry_, TocEntryOf(record));
  open_ = true;
  hidden_ = dialect_ == TocDialect::kStargz && IsStargzOwnFile(record.name);
  pieces_.clear();
  covered_ = 0;
  if (entry_.type != EntryType::kRegular || entry_.size == 0) return {};
  ASSIGN_OR_RETURN(file_end_, Natural(record.end_offset, "endOffset"));
  // A file of one piece may have the digest of the whole alone.
  const bool whole =
      record.chunk_digest.empty() && (!record.chunk_size || *record.chunk_size == 0 ||
                                      static_cast<uint64_t>(*record.chunk_size) == entry_.size);
  return AddPiece(record, whole ? record.digest : record.chunk_digest);
}

Status TocFiles::AddPiece(const TocRecord& record, std::string_view digest) {
  if (entry_.type != EntryType::kRegular) return Invalid("it is no regular file and has a chunk");
  if (pieces_.size() >= kMaxPieces)
    return Error{Code::kLimit,
                 "it has more chunks than the limit of " + std::to_string(kMaxPieces)};
  TocPiece piece;
  ASSIGN_OR_RETURN(piece.file_offset, Natural(record.chunk_offset, "chunkOffset"));
  ASSIGN_OR_RETURN(const uint64_t size, Natural(record.chunk_size, "chunkSize"));
  if (piece.file_offset != covered_ || covered_ >= entry_.size)
    return Invalid("its chunks do not follow each other (one is at " +
                   std::to_string(piece.file_offset) + ", expected at " + std::to_string(covered_) +
                   ")");
  piece.length = size == 0 ? entry_.size - covered_ : size;
  if (piece.length > entry_.size - covered_) return Invalid("its chunks are longer than the file");
  covered_ += piece.length;
  piece.zero = dialect_ == TocDialect::kChunked && record.chunk_type == "zeros";
  if (!record.chunk_type.empty() && !piece.zero && dialect_ == TocDialect::kChunked)
    return Invalid("it has a chunk of the unknown type " + Quote(record.chunk_type, 40));
  RETURN_IF_ERROR(SetPlace(record, &piece));
  if (!piece.zero) {
    if (digest.empty())
      return Error{Code::kUnsupported, "the table of contents has no digest for the bytes from " +
                                           std::to_string(piece.file_offset)};
    ASSIGN_OR_RETURN(const Digest parsed, Digest::Parse(digest));
    if (parsed.algorithm() != Digest::Algorithm::kSha256)
      return Error{Code::kUnsupported, "it has a digest other than sha256"};
    std::copy(parsed.bytes().begin(), parsed.bytes().end(), piece.sha256.begin());
  }
  pieces_.push_back(piece);
  return {};
}

// Offsets ascend as the tar does: readers of both dialects find where a stretch ends by that.
Status TocFiles::SetPlace(const TocRecord& record, TocPiece* piece) {
  ASSIGN_OR_RETURN(piece->blob_offset, Natural(record.offset, "offset"));
  if (dialect_ == TocDialect::kStargz) {
    ASSIGN_OR_RETURN(piece->inner_offset, Natural(record.inner_offset, "innerOffset"));
  }
  if (piece->blob_offset >= data_end_)
    return Invalid("its offset " + std::to_string(piece->blob_offset) +
                   " is not among the data of the blob");
  if (piece->blob_offset < last_offset_)
    return Invalid("its offset " + std::to_string(piece->blob_offset) +
                   " lies before that of the chunk before it");
  last_offset_ = piece->blob_offset;
  return {};
}

Status TocFiles::SetEnds() {
  if (dialect_ == TocDialect::kStargz) {
    for (TocPiece& piece : pieces_) {
      ASSIGN_OR_RETURN(piece.blob_end, next_(piece.blob_offset));
    }
    return {};
  }
  if (file_end_ > data_end_)
    return Invalid("its endOffset " + std::to_string(file_end_) +
                   " is not among the data of the blob");
  uint64_t end = file_end_;
  for (auto piece = pieces_.rbegin(); piece != pieces_.rend(); ++piece) {
    if (piece->blob_offset >= end) return Invalid("it has a chunk without bytes in the blob");
    piece->blob_end = end;
    end = piece->blob_offset;
  }
  return {};
}

Status TocFiles::CloseFile() {
  if (entry_.type == EntryType::kRegular && covered_ != entry_.size)
    return Invalid("its chunks have " + std::to_string(covered_) + " bytes, the file " +
                   std::to_string(entry_.size));
  RETURN_IF_ERROR(SetEnds());
  for (TocPiece& piece : pieces_)
    if (piece.zero) piece.blob_offset = piece.blob_end = 0;
  return {};
}

Status TocFiles::Flush() {
  if (!open_) return {};
  open_ = false;
  if (Status closed = CloseFile(); !closed) return Within(closed.error());
  return hidden_ ? Status() : sink_(entry_, pieces_);
}

}  // namespace lamina
