#pragma once

// LayerStack: the layers of an image as the merge sees them. It applies the rules of
// docs/semantics.md to one name at a time: which layer's entry is seen, which layers share a
// directory. What looks names up spends the work's steps. Names and paths are views into the mapped
// indexes. Immutable; any thread. The layers outlive it.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/layer_index.h"
#include "overlay/build_work.h"

namespace lamina {

// The children that one layer has for a directory.
struct LayerDirectory {
  uint32_t layer = 0;
  uint32_t first_child = 0;
  uint32_t child_count = 0;
};

// An inode by where it came from: the identity that hard links share.
struct InodeRef {
  uint32_t layer = 0;
  uint32_t inode = 0;
};

// What one name is, seen from the top of some layers.
struct ResolvedName {
  enum class Kind : uint8_t { kAbsent, kWhiteout, kFile, kExternalLink, kDirectory };
  Kind kind = Kind::kAbsent;
  uint32_t layer = 0;  // of the topmost entry, which gives the name
  uint32_t entry = 0;
  InodeRef inode;              // of a file
  std::string_view link_path;  // of an external link
  bool opaque = false;         // the topmost entry is an opaque directory
  // Of a directory: the nearest explicit entry; nothing where all are implicit.
  std::optional<InodeRef> attributes;
};

class LayerStack {
 public:
  using Layers = std::span<const std::shared_ptr<const LayerIndex>>;
  explicit LayerStack(Layers layers) : layers_(layers) {}

  size_t size() const { return layers_.size(); }
  const LayerIndex& layer(uint32_t number) const { return *layers_[number]; }
  // "layer 2 (sha256:1f2e…)", for messages.
  std::string NameOf(uint32_t layer) const;

  // As LayerIndex has them; errors name the layer, and what breaks the index's own promises is
  // kCorrupt.
  Result<LayerEntry> Entry(uint32_t layer, uint32_t number) const;
  Result<LayerInode> Inode(InodeRef ref) const;

  // The root of layers `top`, `top` - 1, … 0.
  Result<ResolvedName> Root(uint32_t top, BuildWork& work,
                            std::vector<LayerDirectory>* parts) const;
  // The name in a directory that `parts` make up, topmost first. `below` takes the parts of a
  // directory found.
  Result<ResolvedName> Find(std::span<const LayerDirectory> parts, std::string_view name,
                            BuildWork& work, std::vector<LayerDirectory>* below) const;
  // The entry of that name among a layer's children: binary search.
  Result<std::optional<uint32_t>> FindIn(const LayerDirectory& directory, std::string_view name,
                                         BuildWork& work) const;

 private:
  Layers layers_;
};

// Takes the entries of one name from the topmost layer down and tells what the name is.
class NameResolver {
 public:
  // `parts` takes the layers' shares of a directory; it is not cleared.
  NameResolver(const LayerStack& stack, std::vector<LayerDirectory>* parts)
      : stack_(stack), parts_(parts) {}

  // False when no lower entry matters any more.
  Result<bool> Add(uint32_t layer, uint32_t number, const LayerEntry& entry);
  const ResolvedName& name() const { return name_; }

 private:
  Result<bool> AddDirectory(uint32_t layer, const LayerEntry& entry);

  const LayerStack& stack_;
  std::vector<LayerDirectory>* parts_;
  ResolvedName name_;
  bool hidden_ = false;  // an opaque directory was met: what is below gives attributes only
};

}  // namespace lamina
