#include "tests/model/indexed_layers.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

#include "index/layer_indexer.h"

namespace lamina::testing {
namespace {

class MemoryBlob : public BlobSource {
 public:
  explicit MemoryBlob(const std::string& bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    const ByteSpan bytes = AsBytes(bytes_).subspan(offset, out.size());
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return sink(AsBytes(bytes_).subspan(offset));
  }
  std::string origin() const override { return "memory"; }

 private:
  const std::string& bytes_;
};

class FlatKeeper : public FlatSink {
 public:
  explicit FlatKeeper(std::string* flat) : flat_(*flat) {}
  void Write(uint64_t flat_offset, ByteSpan bytes) override {
    flat_.resize(flat_offset);
    flat_.append(AsText(bytes));
  }

 private:
  std::string& flat_;
};

}  // namespace

IndexedLayers::IndexedLayers() {
  auto folder = TemporaryFolder::Create("lamina-model");
  if (!folder) std::abort();  // no test can run without a temporary folder
  folder_.emplace(std::move(*folder));
}

Status IndexedLayers::Add(const LayerSpec& layer) {
  const std::string tar = WriteTar(layer);
  MemoryBlob blob(tar);
  std::string flat;
  FlatKeeper keeper(&flat);
  const Digest digest = Digest::Sha256(AsBytes(tar));
  IndexRequest request{.blob_digest = digest,
                       .blob_size = tar.size(),
                       .diff_id = digest,
                       .name = "layer " + std::to_string(indexes_.size()),
                       .output_path = folder() + "/index" + std::to_string(indexes_.size()),
                       .sink = &keeper,
                       .progress = {}};
  ASSIGN_OR_RETURN(auto index, IndexLayer(blob, request));
  flat.resize(index->facts().flat_size);
  indexes_.push_back(std::move(index));
  flats_.push_back(std::move(flat));
  return {};
}

Result<std::shared_ptr<const Tree>> IndexedLayers::Build(const TreeOptions& options) {
  const std::string path = folder() + "/tree" + std::to_string(trees_++);
  ASSIGN_OR_RETURN(const TreeFacts facts, BuildTree(indexes_, options, path));
  (void)facts;
  return Tree::Open(path);
}

Result<std::string> IndexedLayers::Read(const Tree& tree, Nid nid, uint64_t offset,
                                        uint64_t length) const {
  std::string bytes;
  while (bytes.size() < length) {
    ASSIGN_OR_RETURN(const DataExtent extent, tree.Map(nid, offset + bytes.size()));
    const uint64_t take = std::min(extent.length, length - bytes.size());
    if (extent.hole) {
      bytes.append(take, '\0');
    } else {
      bytes += flats_[extent.device].substr(extent.flat_offset, take);
    }
  }
  return bytes;
}

}  // namespace lamina::testing
