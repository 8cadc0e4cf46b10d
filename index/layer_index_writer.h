#pragma once

// LayerIndexWriter: collects what becomes a layer index file while the layer passes by, and writes
// the file at the end. What grows with the layer's data is spooled to disk; the tree is handed over
// at the end, entry by entry in the order of the file. One thread. Destruction leaves
// nothing behind but what was committed.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/layer_index.h"
#include "index/layer_index_format.h"
#include "index/spool.h"

namespace lamina {

// A run of bytes in the strings section.
struct StringPlace {
  uint64_t offset = 0;
  uint32_t length = 0;
};

class LayerIndexWriter {
 public:
  // `path` is the final name of the index file. `make_room` is asked where the disk is full.
  explicit LayerIndexWriter(std::string path, MakeRoom make_room = {});

  // The number of the record; records are numbered from 0 in the order in which they are added.
  Result<uint32_t> AddExtent(const FileExtent& extent);
  Result<uint32_t> AddXattr(std::string_view name, std::string_view value);
  // `lead`: see CheckpointView.
  Result<uint32_t> AddCheckpoint(const Checkpoint& checkpoint, ByteSpan lead = {});
  // Each of these in the order of its offsets.
  Status AddMark(const BlobMark& mark);
  Status AddSpan(const BlobSpan& span);
  Status AddPiece(const FlatPiece& piece);
  Result<uint32_t> AddInode(const index_format::InodeRecord& inode);
  Status AddEntry(const index_format::EntryRecord& entry);
  // The next bytes of the names section.
  Status AddNames(std::string_view names);
  Status AddChunk(const ChunkRecord& chunk);
  Status AddSegment(const Segment& segment);

  Result<StringPlace> AddString(std::string_view text);
  // A string that was added before.
  Result<std::string> ReadString(StringPlace place) const;

  // Writes the file, which gets its name when the caller commits it. The counts in `facts` are
  // ignored. `origin`: see LayerIndex::origin().
  Result<AtomicFile> Write(const LayerFacts& facts, std::string_view origin,
                           const std::vector<std::string>& warnings);

  // A spool beside those of the file, for what is made on the way to it.
  Spool NewSpool() const { return Spool(folder_, make_room_); }

 private:
  Result<uint32_t> NumberOf(index_format::Section section) const;
  Result<AtomicFile> WriteFile(index_format::Header header) const;
  Result<StringPlace> AddNote(std::string_view text);
  Status AddWarnings(const std::vector<std::string>& warnings);
  index_format::Header MakeHeader(const LayerFacts& facts, StringPlace origin) const;

  const std::string path_;
  const std::string folder_;
  const MakeRoom make_room_;
  std::array<Spool, index_format::kSectionCount> sections_;
};

}  // namespace lamina
