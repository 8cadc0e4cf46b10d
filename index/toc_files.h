#pragma once

// TocFiles: makes entries with their pieces of the records of a table of contents, in the two
// dialects that there are. Where the pieces of a file do not cover it exactly, or lie outside the
// data of the blob or out of order, the table is refused; a layer whose table has no digest for
// some piece is kUnsupported, since its bytes could not be verified one by one. Errors name the
// entry. One thread; holds one file's pieces.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/toc.h"
#include "index/toc_json.h"

namespace lamina {

enum class TocDialect : uint8_t {
  kStargz,   // eStargz, legacy stargz, and the zstd:chunked of stargz-snapshotter
  kChunked,  // the zstd:chunked of containers/storage
};

// Files in the root that an eStargz writer adds for its own use: its table of contents and the
// landmarks. They are no part of the image, in whichever way the layer is read. Not so in the
// dialect of containers/storage, which has none: there they are files like any other.
bool IsStargzOwnFile(std::string_view path);

// Where the next compressed stretch begins, or the data of the blob ends, after a stretch that
// begins at `offset`. Asked for ascending offsets.
using NextOffset = std::function<Result<uint64_t>(uint64_t offset)>;

class TocFiles {
 public:
  // `data_end`: what lies in the blob from there on is no data of files. `next` is for the dialect
  // kStargz, whose records do not say where they end.
  TocFiles(TocDialect dialect, uint64_t data_end, NextOffset next, TocSink sink);

  Status Add(const TocRecord& record);
  // After the last record.
  Status Finish();

 private:
  Status StartEntry(const TocRecord& record);
  Status AddPiece(const TocRecord& record, std::string_view digest);
  Status SetPlace(const TocRecord& record, TocPiece* piece);
  Status CloseFile();
  Status SetEnds();
  Status Flush();
  Error Within(const Error& error) const;

  const TocDialect dialect_;
  const uint64_t data_end_;
  const NextOffset next_;
  const TocSink sink_;

  bool open_ = false;    // there is an entry that waits for its further pieces
  bool hidden_ = false;  // and is not handed out
  std::string name_;     // of it, as written
  TarEntry entry_;
  uint64_t file_end_ = 0;  // in the blob, of the open file; of the dialect kChunked
  std::vector<TocPiece> pieces_;
  uint64_t covered_ = 0;      // bytes of the open file that its pieces cover
  uint64_t last_offset_ = 0;  // in the blob, of any piece
};

}  // namespace lamina
