#pragma once

// FlatLayout: gives the regular files of a layer their flat addresses, and brings their data to the
// chunker and the segment table. One thread.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "index/chunker.h"
#include "index/layer_index.h"
#include "index/layer_index_writer.h"
#include "index/tar.h"

namespace lamina {

// 2^32 blocks of 4096 bytes: what an EROFS device can address.
inline constexpr uint64_t kMaxFlat = uint64_t{16} << 40;

struct FilePlace {
  uint64_t flat_offset = 0;
  uint32_t extent_first = 0;  // of a sparse file
  uint32_t extent_count = 0;
};

class FlatLayout {
 public:
  FlatLayout(LayerIndexWriter& writer, Chunker& chunker) : writer_(writer), chunker_(chunker) {}

  // A file with a size begins; its data follows.
  Result<FilePlace> BeginFile(const TarEntry& entry);
  Status AddData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset);
  // Fills up to the next file's place. Harmless without a file.
  Status EndFile();
  // After the last file.
  Status Finish();

 private:
  Result<FilePlace> PlaceSparse(const TarEntry& entry);
  Status TakeAddresses(uint64_t length);
  uint64_t FlatOffsetOf(uint64_t file_offset);
  Status AddSegment(const Segment& segment);

  LayerIndexWriter& writer_;
  Chunker& chunker_;
  uint64_t end_ = 0;                 // of the addresses that are given away
  std::vector<FileExtent> extents_;  // of the present file; one for a plain one
  size_t extent_ = 0;                // the one that the next data belongs to
  Segment segment_;                  // the last one, still growing
};

}  // namespace lamina
