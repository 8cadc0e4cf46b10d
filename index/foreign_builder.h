#pragma once

// ForeignBuilder: gives the files of a foreign index their flat addresses, as the pass over the
// layer would, and collects the layer index. One thread.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "index/foreign_chunks.h"
#include "index/layer_index_writer.h"
#include "index/layer_indexer.h"
#include "index/layer_tree.h"
#include "index/toc.h"
#include "index/ztoc.h"

namespace lamina {

class ForeignBuilder {
 public:
  explicit ForeignBuilder(const IndexRequest& request);

  Status AddPieces(const TarEntry& entry, std::span<const TocPiece> pieces);
  // The spans first, then the entries.
  Status AddSpans(const Ztoc& ztoc);
  Status AddAt(const TarEntry& entry, uint64_t payload_offset);

  // The file, which is not committed; `facts` lacks the flat size and the counts.
  Result<AtomicFile> Write(LayerFacts facts, const std::string& origin);

 private:
  Result<std::optional<uint64_t>> Place(const TarEntry& entry);
  Status PlacePieces(uint64_t flat_offset, std::span<const TocPiece> pieces);
  Status PlaceSegment(const Segment& segment);
  Status CompleteChunk(ChunkRecord* chunk) const;
  void Warn(std::string text);

  LayerIndexWriter writer_;
  LayerTree tree_;
  ForeignChunks chunks_;
  uint64_t flat_end_ = 0;
  std::vector<ZtocSpan> spans_;
  std::vector<std::string> warnings_;
};

}  // namespace lamina
