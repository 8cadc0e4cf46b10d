#pragma once

// BuildTree: merges layer indexes by the rules of docs/semantics.md into one tree file, a
// metadata-only EROFS image whose extents point into one virtual device per layer (its flat address
// space). Needs at most a hundred bytes of memory an entry beside the mapped inputs. Pure over its
// inputs: the same layers and options give the same bytes. Blocks on local disk only; any thread.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "index/layer_index.h"

namespace lamina {

struct TreeOptions {
  int64_t created_ns =
      0;  // of the image config: mtime of directories that no layer has an entry for
  uint64_t entry_limit = 10'000'000;
  // Set: not the merge, but this layer's own tree as overlayfs keeps it: whiteouts as character
  // devices 0/0, opaque directories with trusted.overlay.opaque=y. Hard links to lower layers are
  // resolved against the layers below.
  std::optional<size_t> only_layer;
  // Names looked up in layers, weighed by their number in the directory; about a minute.
  uint64_t step_limit = 1u << 29;
  // Set from outside to give up with kCancelled; no part of the tree's key. May be absent.
  const std::atomic<bool>* cancel = nullptr;
};

struct TreeFacts {
  uint64_t inode_count = 0;
  uint64_t entry_count = 0;
  uint64_t file_bytes = 0;
};

// The name under which the tree of these layers is kept: a digest of the format version, the
// options and the layers' blob digests. `layers` are bottom first.
Digest TreeKey(const std::vector<Digest>& layers, const TreeOptions& options);

// Writes the file atomically. Errors name the layer by its number and digest, the entry and the
// reason. `layers` may be empty: an empty root.
Result<TreeFacts> BuildTree(std::span<const std::shared_ptr<const LayerIndex>> layers,
                            const TreeOptions& options, const std::string& path);

}  // namespace lamina
