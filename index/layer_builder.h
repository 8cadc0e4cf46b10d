#pragma once

// LayerBuilder: the tar handler of the indexing pass. Brings every entry into the tree and its data
// into the flat address space, and writes the index at the end. One thread at a time.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "index/chunker.h"
#include "index/flat_layout.h"
#include "index/layer_index_writer.h"
#include "index/layer_indexer.h"
#include "index/layer_tree.h"
#include "index/tar.h"

namespace lamina {

// What a request says of the tree's bounds.
LayerTreeLimits TreeLimitsOf(const IndexRequest& request);

class LayerBuilder : public TarHandler {
 public:
  explicit LayerBuilder(const IndexRequest& request);

  // What is fed to the parser next was decoded into this buffer.
  void SetBuffer(std::shared_ptr<BufferMark> mark) { chunker_.SetBuffer(std::move(mark)); }

  Status OnEntry(const TarEntry& entry) override;
  Status OnData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset) override;
  void OnWarning(std::string text) override;

  // After the parser's Finish().
  Status Finish();
  // Writes the file, which is not committed; `facts` lacks the flat size and the counts. `content`
  // is the digest of the blob's bytes.
  Result<AtomicFile> Write(LayerFacts facts, const Digest& content);

 private:
  Status AddEntry(const TarEntry& entry);

  LayerIndexWriter writer_;
  LayerTree tree_;
  Chunker chunker_;
  FlatLayout layout_;
  std::vector<std::string> warnings_;
  const bool hides_stargz_files_;
  uint64_t more_warnings_ = 0;  // counted, not kept
  bool keeps_data_ = false;     // the data that comes belongs to a file of the tree
};

}  // namespace lamina
