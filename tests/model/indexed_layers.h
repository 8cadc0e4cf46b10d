#pragma once

// IndexedLayers: layers made from specs, through a tar stream and the real IndexLayer(), with the
// flat bytes that passed by. The files live in a folder that goes with it. One thread.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "index/layer_index.h"
#include "overlay/tree.h"
#include "overlay/tree_builder.h"
#include "tests/support/layer_tar.h"

namespace lamina::testing {

class IndexedLayers {
 public:
  IndexedLayers();

  // The error of IndexLayer(), if it refuses the layer.
  Status Add(const LayerSpec& layer);
  // The tree of the layers so far, built and opened.
  Result<std::shared_ptr<const Tree>> Build(const TreeOptions& options = {});

  const std::vector<std::shared_ptr<const LayerIndex>>& indexes() const { return indexes_; }
  // The flat address space of a layer: what its device holds.
  const std::string& flat(size_t layer) const { return flats_[layer]; }
  const std::string& folder() const { return folder_->path(); }
  // `length` bytes of a regular file, through the tree's extents.
  Result<std::string> Read(const Tree& tree, Nid nid, uint64_t offset, uint64_t length) const;

 private:
  std::optional<TemporaryFolder> folder_;
  std::vector<std::shared_ptr<const LayerIndex>> indexes_;
  std::vector<std::string> flats_;
  int trees_ = 0;
};

}  // namespace lamina::testing
