// Any bytes as the JSON of a table of contents, in both dialects, in pieces of any size: files are
// covered by their pieces exactly, inside the data of the blob, and a table is read to the same end
// however it is cut. The first byte chooses the dialect and the size of the pieces.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "index/toc_files.h"
#include "index/toc_json.h"
#include "index/toc_offsets.h"

namespace {

using namespace lamina;  // NOLINT

constexpr uint64_t kDataEnd = 1u << 20;

void Require(bool holds) {
  if (!holds) std::abort();
}

JsonPieces PiecesOf(ByteSpan json, size_t step) {
  return [json, step]() mutable -> Result<ByteSpan> {
    const ByteSpan piece = json.first(std::min(step, json.size()));
    json = json.subspan(piece.size());
    return piece;
  };
}

void CheckFile(TocDialect dialect, const TarEntry& entry, std::span<const TocPiece> pieces) {
  Require(entry.path.find('\0') == std::string::npos && entry.path.size() <= 4096 &&
          entry.mtime_ns < 1'000'000'000);
  if (dialect == TocDialect::kStargz) Require(!IsStargzOwnFile(entry.path));
  Require(pieces.empty() == (entry.type != EntryType::kRegular || entry.size == 0));
  uint64_t covered = 0;
  for (const TocPiece& piece : pieces) {
    Require(piece.file_offset == covered && piece.length > 0);
    covered += piece.length;
    if (!piece.zero) Require(piece.blob_offset < piece.blob_end && piece.blob_end <= kDataEnd);
  }
  if (!pieces.empty()) Require(covered == entry.size);
}

Status ReadTable(TocDialect dialect, ByteSpan json, size_t step, uint64_t* entries) {
  TocOffsets offsets;
  const Status collected =
      ReadTocJson(PiecesOf(json, step), [&](const TocRecord& record) -> Status {
        if (record.offset.value_or(0) > 0) offsets.Add(static_cast<uint64_t>(*record.offset));
        return {};
      });
  if (!collected) return collected;
  TocFiles files(
      dialect, kDataEnd,
      [&](uint64_t offset) -> Result<uint64_t> {
        return std::min(offsets.After(offset, kDataEnd), kDataEnd);
      },
      [&](const TarEntry& entry, std::span<const TocPiece> pieces) -> Status {
        CheckFile(dialect, entry, pieces);
        ++*entries;
        return {};
      });
  RETURN_IF_ERROR(ReadTocJson(PiecesOf(json, step),
                              [&](const TocRecord& record) { return files.Add(record); }));
  return files.Finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const TocDialect dialect = data[0] % 2 == 0 ? TocDialect::kStargz : TocDialect::kChunked;
  const ByteSpan json(data + 1, size - 1);
  uint64_t entries = 0;
  uint64_t entries_cut = 0;
  const Status whole = ReadTable(dialect, json, std::max<size_t>(json.size(), 1), &entries);
  const Status cut = ReadTable(dialect, json, 1 + data[0] / 2, &entries_cut);
  Require(whole.has_value() == cut.has_value() && entries == entries_cut);
  if (!whole) {
    Require(whole.error().message == cut.error().message && whole.error().code != Code::kInternal);
  }
  return 0;
}
