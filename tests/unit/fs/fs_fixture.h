#pragma once

// A store, a catalog and a namespace over an OCI layout that GNU tar and this file write: image
// "base" of two layers with every kind of entry, and "multi", an index of two platforms. The
// layers' sources stay on disk as the oracle.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/keyed_pool.h"
#include "fs/catalog.h"
#include "fs/layer_store.h"
#include "fs/namespace.h"

namespace lamina {

// Runs a shell command, which has to succeed; its output.
std::string Shell(const std::string& command);

// Writes blobs, manifests and an index.json.
class LayoutWriter {
 public:
  explicit LayoutWriter(std::string folder);
  // Packs `source` with GNU tar; the layer's digest.
  Digest AddLayer(const std::string& source);
  // An image of these layers; `tag` may be empty. The digest of its manifest.
  Digest AddImage(const std::vector<Digest>& layers, const std::string& architecture,
                  const std::string& tag);
  Digest AddIndex(const std::vector<std::pair<std::string, Digest>>& manifests,
                  const std::string& tag);
  const std::string& folder() const { return folder_; }
  std::string BlobPath(const Digest& digest) const {
    return folder_ + "/blobs/sha256/" + digest.hex();
  }

 private:
  Digest PutBlob(const std::string& bytes);
  uint64_t SizeOf(const Digest& digest) const;
  void Tag(const Digest& digest, const std::string& media_type, const std::string& tag);

  std::string folder_;
  std::vector<std::string> entries_;  // of index.json
};

class FsFixture : public testing::Test {
 protected:
  void SetUp() override;
  // A new daemon over the same store.
  void Restart();

  std::string Path(const std::string& name) const { return folder_->path() + "/" + name; }
  // The node of a path below the root, by blocking lookups; 0 where there is none.
  NodeId Walk(const std::string& path);
  NodeEntry Entry(NodeId parent, const std::string& name);
  std::vector<std::string> Names(NodeId directory);
  std::string ReadAll(NodeId node);
  std::string Repository() const { return "localhost/sample"; }

  std::optional<TemporaryFolder> folder_;
  std::unique_ptr<LayoutWriter> layout_;
  Digest lower_layer_ = Digest::Sha256({});
  Digest base_ = Digest::Sha256({});
  Digest multi_ = Digest::Sha256({});
  Digest arm_ = Digest::Sha256({});
  StorePaths paths_;
  CatalogOptions options_;
  std::unique_ptr<Store> store_;
  CacheCompression compression_ = CacheCompression::kNone;
  std::unique_ptr<LayerStore> layers_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<Namespace> names_;

 private:
  void WriteSources();
};

}  // namespace lamina
