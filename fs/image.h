#pragma once

// Image: one image as it is served, named by a repository and a digest (of a manifest, or of an
// index of which one platform was chosen). The documents are immutable; the merged tree and the
// layers open on demand.
//
// Any thread. Methods that say "blocks" are for pool threads; the others never wait.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/set_once.h"
#include "base/single_flight.h"
#include "fetch/manifest.h"
#include "fetch/repository_source.h"
#include "fs/layer_store.h"
#include "fs/layout.h"
#include "overlay/tree.h"
#include "overlay/tree_builder.h"

namespace lamina {

struct TreeOfImage;

// The verified documents of an image.
struct ImageDocuments {
  std::string repository;            // "docker.io/library/debian"
  Digest digest;                     // as asked for: of the index, or of the manifest
  std::optional<std::string> index;  // bytes, where `digest` names an index
  std::optional<ImageIndex> parsed_index;
  Digest manifest_digest;
  std::string manifest;  // bytes
  std::string config;    // bytes
  ImageManifest parsed_manifest;
  ImageConfig parsed_config;
  std::string origin;                  // where the documents came from
  bool local = false;                  // that is on this machine
  std::vector<std::string> tags = {};  // that are known to name it, where that matters for a layer
};

// A layer that was opened by a foreign index is followed by the same layer with its own one, once
// that has been made of the whole layer. Whoever reads from the first may go on. Any thread; get()
// takes no lock.
class LayerSlot {
 public:
  Layer* get() const { return verified_.get() != nullptr ? verified_.get() : first_.get(); }
  std::shared_ptr<Layer> shared() const {
    return verified_.get() != nullptr ? verified_.shared() : first_.shared();
  }
  // Returns the one that stays.
  std::shared_ptr<Layer> Set(std::shared_ptr<Layer> layer) {
    return layer->verified() ? verified_.Set(std::move(layer)) : first_.Set(std::move(layer));
  }

 private:
  SetOnce<Layer> first_;
  SetOnce<Layer> verified_;
};

// A tree with the layers that its extents point into, device i being layer i. Layers open when
// first read.
class MountedTree {
 public:
  MountedTree(std::shared_ptr<const Tree> tree, size_t layer_count, Leases::Lease lease)
      : lease_(std::move(lease)), tree_(std::move(tree)), layers_(layer_count) {}
  const Tree& tree() const { return *tree_; }
  size_t layer_count() const { return layers_.size(); }

 private:
  friend class Image;
  const Leases::Lease lease_;  // on the tree file
  std::shared_ptr<const Tree> tree_;
  // Sized once; each is set when its layer is first read, and read without a lock on the hit path.
  std::vector<LayerSlot> layers_;
};

class Image {
 public:
  // `sources` may hold the layers, nearest first. `strict`: nothing shows before its layer has been
  // verified as a whole.
  Image(ImageDocuments documents, std::vector<std::shared_ptr<RepositorySource>> sources,
        LayerStore& layers, StorePaths paths, bool strict = false);
  ~Image();

  const ImageDocuments& documents() const { return documents_; }
  size_t layer_count() const { return documents_.parsed_manifest.layers.size(); }
  // Key under which blocking work on this image runs in a KeyedPool: that of its registry, where
  // one may be asked.
  const std::string& pool_key() const { return pool_key_; }

  // The merged tree if it is open already, else null. Never waits.
  std::shared_ptr<MountedTree> OpenedTree() const { return tree_.shared(); }
  // The merged tree; blocks: opens the tree file, or indexes all layers at the same time and merges
  // them. One builder, the others wait.
  Result<std::shared_ptr<MountedTree>> EnsureTree();
  // Layer N's own tree with whiteouts, N from 0 at the bottom. Blocks.
  Result<std::shared_ptr<MountedTree>> EnsureLayerTree(size_t number);
  std::shared_ptr<MountedTree> OpenedLayerTree(size_t number) const;

  // Reads from a file of one of the trees above when every byte is local and verified: false where
  // it is not (then ReadFile). `out` is cut to the end of file; `*got` is the count. Never waits
  // for the network.
  Result<bool> TryReadFile(const MountedTree& mounted, Nid nid, uint64_t offset,
                           MutableByteSpan out, size_t* got) const;
  // The same, fetching what is missing; blocks.
  Result<size_t> ReadFile(MountedTree& mounted, Nid nid, uint64_t offset, MutableByteSpan out,
                          const Deadline& deadline);

  // Facts of the layer that holds a file's first byte, for user.lamina.* xattrs: nullopt for files
  // without data. May open a layer's index from local disk.
  struct Provenance {
    size_t layer = 0;
    Digest digest;
    bool local = false;  // all its bytes are in the cache
  };
  Result<std::optional<Provenance>> ProvenanceOf(MountedTree& mounted, Nid nid);

  // Opens what is on local disk, so that status tells of it: the tree where the indexes of all its
  // layers are there, and those of an open tree. Blocks on local disk, once.
  void OpenIndexed();
  bool opened_indexed() const { return opened_indexed_; }
  // Somebody asked for the image by its name; see TakeUse().
  void NoteUse() {
    if (!used_.load(std::memory_order_relaxed)) used_.store(true, std::memory_order_relaxed);
  }
  // Has anybody since the last call?
  bool TakeUse() { return used_.exchange(false, std::memory_order_relaxed); }

  // status.json as text; grows with what has happened. Never waits.
  std::string StatusJson(const std::vector<std::string>& aliases = {}) const;
  // Changes whenever StatusJson() may have changed.
  uint64_t status_version() const;
  void SetLastError(const Error& error);
  // Its words; nullopt where nothing has failed.
  std::optional<std::string> last_error() const;

  // Progress of each layer's indexing, bottom first.
  std::vector<std::shared_ptr<LayerProgress>> progress() const { return progress_; }
  // Fetches every missing chunk, and verifies as a whole what a foreign index spoke for; blocks.
  // `progress` is asked now and then whether to go on. kCancelled where it says no, and once
  // the layer store is cancelled.
  Status FetchAll(const std::function<bool(uint64_t done_chunks, uint64_t all_chunks)>& progress);

 private:
  Result<std::shared_ptr<MountedTree>> OpenOrBuild(std::optional<size_t> only_layer);
  // Opens the layers for it.
  Result<std::shared_ptr<const Tree>> BuildTreeFile(const TreeOfImage& wanted, size_t count,
                                                    std::vector<std::shared_ptr<Layer>>* layers);
  Result<std::vector<std::shared_ptr<Layer>>> OpenLayers(size_t count);
  Status OpenLayer(size_t number, std::shared_ptr<Layer>* out) noexcept;
  Status CheckAllKept(const std::vector<std::shared_ptr<Layer>>& layers) const;
  Result<std::shared_ptr<Layer>> LayerOf(MountedTree& mounted, uint32_t device);
  Result<std::shared_ptr<Layer>> VerifiedLayerOf(MountedTree& mounted, uint32_t device);
  LayerRequest RequestFor(size_t number) const;
  std::vector<std::shared_ptr<Layer>> IndexedLayers();

  const ImageDocuments documents_;
  const std::vector<std::shared_ptr<RepositorySource>> sources_;
  const std::string pool_key_;
  LayerStore& layers_;
  const StorePaths paths_;
  const bool strict_;
  const std::shared_ptr<SociFinder> soci_;
  const Leases::Lease lease_;  // on its documents and layers
  std::atomic<bool> used_{true};
  std::vector<std::shared_ptr<LayerProgress>> progress_;
  SetOnce<MountedTree> tree_;
  std::vector<SetOnce<MountedTree>> layer_trees_;
  std::atomic<bool> opened_indexed_{false};
  // Keyed by layer number, -1 for the merged tree.
  SingleFlight<int64_t, std::shared_ptr<MountedTree>> opening_;
  mutable Mutex status_mutex_;  // leaf
  std::string last_error_ GUARDED_BY(status_mutex_);
  int64_t last_error_ns_ GUARDED_BY(status_mutex_) = 0;
};

}  // namespace lamina
