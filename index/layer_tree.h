#pragma once

// LayerTree: one layer's own tree while the layer is indexed, by the rules of docs/semantics.md for
// a single layer: paths are cleaned inside the root, symbolic links of this layer are followed
// where they stand as parents, the same path twice means the last, whiteouts speak of the layers
// below only. What it cannot accept is an Error with the reason; the caller knows the layer and the
// entry. About ninety bytes and the name for each entry. One thread.

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/layer_index_format.h"
#include "index/layer_index_writer.h"
#include "index/tar.h"

namespace lamina {

class LayerTree {
 public:
  using Warn = std::function<void(std::string)>;
  static constexpr uint32_t kMaxDepth = 1024;

  // Strings, xattrs, and in the end entries and inodes go to `writer`, which outlives the tree.
  LayerTree(LayerIndexWriter& writer, uint64_t entry_limit, Warn warn);

  // The number of the new inode where the entry is a regular file that stays in the tree, so that
  // its data is the layer's; nothing for all others.
  Result<std::optional<uint32_t>> Add(const TarEntry& entry);

  // Where the data of a regular file is.
  void SetFlatOffset(uint32_t inode, uint64_t flat_offset);
  void SetExtents(uint32_t inode, uint32_t first, uint32_t count);

  // Writes the entries, breadth first, and the inodes that they still use.
  Status Emit();
  // The names section that Emit's entries point into.
  std::string_view names() const { return names_; }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint32_t kDeleted = 0xFFFFFFFE;
  static constexpr uint32_t kRoot = 0;

  enum class Content : uint8_t { kNothing, kInode, kExternalLink };
  static constexpr uint8_t kWhiteout = 0x1;  // the name is deleted in the layers below
  static constexpr uint8_t kOpaque = 0x2;
  static constexpr uint8_t kImplicit = 0x4;

  // A name. One without content is there for its whiteout.
  struct Node {
    uint32_t parent = kRoot;
    uint32_t name_offset = 0;  // in names_
    uint32_t value = kNone;    // number in inodes_ or external_links_
    uint32_t first_child = kNone;
    uint32_t next_sibling = kNone;
    uint8_t name_length = 0;
    Content content = Content::kNothing;
    uint8_t flags = 0;
  };

  // Where a walk along a path ended: at a directory, or before a name that is missing.
  struct Place {
    uint32_t node = kRoot;
    uint32_t depth = 0;
    std::string missing;  // from `node` on; empty when the walk reached its end
  };
  class Walker;

  std::string_view NameOf(const Node& node) const;
  std::string PathOf(uint32_t node) const;
  bool IsDirectory(const Node& node) const;
  bool HidesLower(uint32_t node) const;
  bool IsInside(uint32_t node, uint32_t directory) const;

  uint64_t HashOf(uint32_t parent, std::string_view name) const;
  uint32_t Find(uint32_t parent, std::string_view name) const;
  void InsertSlot(uint32_t node);
  void GrowSlots();
  void EraseSlot(uint32_t node);
  Result<uint32_t> FindOrCreate(uint32_t parent, std::string_view name);

  Status CountEntry();
  Status AddWhiteout(uint32_t parent, std::string_view name);
  Status AddDevice00(const TarEntry& entry, uint32_t parent, std::string_view name);
  Status AddLink(const TarEntry& entry, uint32_t parent, std::string_view name);
  Result<std::optional<uint32_t>> AddContent(const TarEntry& entry, uint32_t parent,
                                             std::string_view name);
  Status AddImplicit(uint32_t node);
  void RemoveContent(uint32_t node);
  void DetachChildren(uint32_t node);

  Result<index_format::InodeRecord> MakeInode(const TarEntry& entry);
  Status StoreTarget(const TarEntry& entry, index_format::InodeRecord* inode);
  Status StoreXattrs(const TarEntry& entry, index_format::InodeRecord* inode);
  Result<uint32_t> AppendInode(const index_format::InodeRecord& inode);

  std::vector<uint32_t> SortedChildren(const Node& node) const;
  Status EmitNode(uint32_t node, uint32_t first_child, uint32_t child_count,
                  std::vector<uint32_t>* numbers);

  LayerIndexWriter& writer_;
  const uint64_t entry_limit_;
  const Warn warn_;
  const uint64_t seed_;  // of the hash: names are chosen by others

  uint64_t entries_ = 0;  // made, from the archive or implied
  std::deque<Node> nodes_;
  std::deque<index_format::InodeRecord> inodes_;
  std::vector<StringPlace> external_links_;
  std::string names_;
  std::vector<uint32_t> slots_;  // open addressing by (parent, name): a node, kNone or kDeleted
  size_t slots_used_ = 0;        // not kNone
};

}  // namespace lamina
