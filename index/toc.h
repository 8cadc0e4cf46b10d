#pragma once

// What the tables of contents of foreign layer indexes (eStargz, zstd:chunked) say of a layer, in
// one form: the entries of its tar in order, and for each regular file where the pieces of its
// content lie in the blob. Plain values; any thread.

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "index/tar.h"

namespace lamina {

// A stretch of a file's content that is decoded and verified by itself.
struct TocPiece {
  uint64_t file_offset = 0;
  uint64_t length = 0;  // decoded bytes, above 0
  bool zero = false;    // a hole: nothing below is set
  // The gzip member or zstd frame that holds the piece starts here; decoded from here, the piece
  // begins after `inner_offset` bytes. All that is needed lies before blob_end.
  uint64_t blob_offset = 0;
  uint64_t blob_end = 0;
  uint64_t inner_offset = 0;
  std::array<uint8_t, 32> sha256{};  // of the decoded bytes
};

// Takes the entries in the order of the tar. `pieces` cover the file from 0 to its size without
// gaps; none for anything but regular files with a size. `entry.header_offset` is 0. An error ends
// the reading and is what the reader returns.
using TocSink = std::function<Status(const TarEntry& entry, std::span<const TocPiece> pieces)>;

}  // namespace lamina
