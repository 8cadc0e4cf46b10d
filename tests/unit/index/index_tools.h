#pragma once

// What tests of the index share: a blob in memory, a sink that remembers, a layer index made of a
// tar in one call, and its tree as lines that a test can write down.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/blob_source.h"
#include "base/file.h"
#include "index/layer_index.h"
#include "index/layer_indexer.h"

namespace lamina::testing {

class MemoryBlob : public BlobSource {
 public:
  explicit MemoryBlob(std::string bytes, size_t piece = 65536)
      : bytes_(std::move(bytes)), piece_(piece) {}

  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override;
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::string origin() const override { return "memory"; }

  // Called before each piece of a stream with the bytes given so far; its error ends the stream.
  std::function<Status(uint64_t)> before_piece;

 private:
  const std::string bytes_;
  const size_t piece_;
};

// The flat address space as it was written. Fails the test where a write breaks the sink's
// contract.
class MemorySink : public FlatSink {
 public:
  void Write(uint64_t flat_offset, ByteSpan bytes) override;
  std::string Read(uint64_t flat_offset, uint64_t length) const;
  uint64_t written() const { return written_; }

 private:
  std::map<uint64_t, std::string> blocks_;  // by offset, each of 4096 bytes
  uint64_t end_ = 0;
  uint64_t written_ = 0;
};

// A layer that was indexed, with what belongs to it.
struct IndexedLayer {
  std::string blob;
  std::shared_ptr<MemorySink> sink;
  std::shared_ptr<const LayerIndex> index;
};

class IndexLab {
 public:
  IndexLab();

  // The request that fits this blob; tests change what they are about.
  IndexRequest RequestFor(const std::string& blob);
  Result<IndexedLayer> Index(const std::string& blob, size_t piece = 65536);
  Result<IndexedLayer> Index(const std::string& blob, IndexRequest request, size_t piece = 65536);
  // Index files and left-overs in the folder.
  std::vector<std::string> Files() const;
  const std::string& folder() const { return folder_.path(); }

 private:
  TemporaryFolder folder_;
  int serial_ = 0;
};

// One line for each name, depth first in the order of the index; the root only where it is opaque:
//   d a/b   f a/b/c=content   l a/l->target   c a/n 1:3   p a/fifo
//   = b/c a/b/c      a further name of the inode whose first is a/b/c
//   w a/x            whiteout       > a/y lower/path   hard link to a lower layer
// with "(implicit)", "(opaque)", "(replaces)" or "(implicit,opaque)" and so on behind the d.
std::vector<std::string> TreeOf(const IndexedLayer& layer);

// A file's bytes, read through the index from what the sink got.
std::string ContentOf(const IndexedLayer& layer, const LayerInode& inode);
// The inode at this path; fails the test where there is none.
LayerInode InodeAt(const IndexedLayer& layer, const std::string& path);
std::map<std::string, std::string> XattrsAt(const IndexedLayer& layer, const std::string& path);

// Fails the test unless the chunks cover the flat space without a gap and each decodes from the
// blob to the bytes that the sink got.
void ExpectChunksFit(const IndexedLayer& layer);

}  // namespace lamina::testing
