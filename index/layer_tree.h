#pragma once

// LayerTree: one layer's own tree while the layer is indexed, by the rules of docs/semantics.md for
// a single layer: paths are cleaned inside the root, symbolic links of this layer are followed
// where they stand as parents, the same path twice means the last, whiteouts speak of the layers
// below only. What it cannot accept is an Error with the reason; the caller knows the layer and the
// entry. In memory an entry takes about fifty bytes and its name; inodes are on disk. One thread.

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/inode_spool.h"
#include "index/layer_index_format.h"
#include "index/layer_index_writer.h"
#include "index/memory_budget.h"
#include "index/name_arena.h"
#include "index/tar.h"

namespace lamina {

struct LayerTreeLimits {
  uint64_t entries = 10'000'000;
  // Bytes of memory. What else a pass needs (buffers, spools, one entry's headers) is less than 32
  // MiB, so that it stays below 256 MiB.
  uint64_t memory = 224u << 20;
  MemoryBudget* shared_memory = nullptr;  // of all passes; may be absent
  // Lookups while paths are followed; about a minute.
  uint64_t steps = 1u << 29;
  // Set from outside to give up with kCancelled. May be absent.
  const std::atomic<bool>* cancel = nullptr;
};

class LayerTree {
 public:
  using Warn = std::function<void(std::string)>;
  static constexpr uint32_t kMaxDepth = 1024;

  // Strings, xattrs, and in the end entries, inodes and names go to `writer`, which outlives the
  // tree.
  LayerTree(LayerIndexWriter& writer, const LayerTreeLimits& limits, Warn warn);

  // True where the entry is a regular file that stays in the tree, so that its data is the layer's.
  Result<bool> Add(const TarEntry& entry);

  // Where the data of the entry is for which Add() has just said true.
  void SetFlatOffset(uint64_t flat_offset);
  void SetExtents(uint32_t first, uint32_t count);

  // Writes the entries, breadth first, the inodes that they still use, and the names.
  Status Emit();

  // Taken by now, as far as it grows with the layer, with what Emit() will need.
  uint64_t memory_bytes() const { return memory_.used(); }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint32_t kDeleted = 0xFFFFFFFE;
  static constexpr uint32_t kRoot = 0;

  enum class Content : uint8_t { kNothing, kInode, kExternalLink };
  static constexpr uint8_t kWhiteout = 0x1;  // the name is deleted in the layers below
  static constexpr uint8_t kOpaque = 0x2;
  static constexpr uint8_t kImplicit = 0x4;
  static constexpr uint8_t kDevice00 = 0x8;  // its content is a device 0/0, which links may share

  // A name. One without content is there for its whiteout.
  struct Node {
    uint32_t parent = kRoot;
    uint32_t name_offset = 0;  // in names_
    uint32_t value = kNone;    // number in inodes_ or external_links_
    uint32_t first_child = kNone;
    uint32_t next_sibling = kNone;
    uint8_t name_length = 0;
    Content content = Content::kNothing;
    EntryType type = EntryType::kDirectory;  // of an inode
    uint8_t flags = 0;
  };
  static_assert(sizeof(Node) == 24);
  // With a deque's overhead, and the number that Emit() puts in order.
  static constexpr uint64_t kNodeBytes = sizeof(Node) + 2 + sizeof(uint32_t);
  static constexpr uint64_t kInodeBytes = sizeof(uint32_t);  // in Emit()

  // Where a walk along a path ended: at a directory, or before a name that is missing.
  struct Place {
    uint32_t node = kRoot;
    uint32_t depth = 0;
    std::string missing;  // from `node` on; empty when the walk reached its end
  };
  class Walker;

  // The last walk that came to its end.
  struct Memo {
    uint64_t generation = 0;
    std::string path;
    Place place;
  };

  std::string_view NameOf(const Node& node) const;
  std::string PathOf(uint32_t node) const;
  bool IsDirectory(const Node& node) const;
  bool HidesLower(uint32_t node) const;
  bool IsInside(uint32_t node, uint32_t directory) const;

  uint64_t HashOf(uint32_t parent, std::string_view name) const;
  uint32_t Find(uint32_t parent, std::string_view name) const;
  void InsertSlot(uint32_t node);
  Status GrowSlots();
  void EraseSlot(uint32_t node);
  Result<uint32_t> FindOrCreate(uint32_t parent, std::string_view name);

  Status Spend(uint64_t steps);
  Status CountEntry();
  Status PrepareRoot();
  Result<Place> WalkTo(std::span<const std::string_view> components, bool create, Memo* memo);
  Status AddWhiteout(uint32_t parent, std::string_view name);
  Status AddDevice00(const TarEntry& entry, uint32_t parent, std::string_view name);
  void MakeDevice00(uint32_t node);
  Status AddLink(const TarEntry& entry, uint32_t parent, std::string_view name);
  Result<uint32_t> AddExternalLink(const std::string& path);
  Result<bool> AddContent(const TarEntry& entry, uint32_t parent, std::string_view name);
  Status SetInode(uint32_t node, const index_format::InodeRecord& inode);
  Status AddImplicit(uint32_t node);
  void RemoveContent(uint32_t node);
  void DetachChildren(uint32_t node);

  Result<index_format::InodeRecord> MakeInode(const TarEntry& entry);
  Status StoreTarget(const TarEntry& entry, index_format::InodeRecord* inode);
  Status StoreXattrs(const TarEntry& entry, index_format::InodeRecord* inode);

  static bool IsShown(const Node& node);
  Result<std::vector<uint32_t>> EmitOrder();
  Result<std::vector<uint32_t>> EmitInodes(const std::vector<uint32_t>& order);
  index_format::EntryRecord MakeEntry(const Node& node, const std::vector<uint32_t>& numbers) const;

  LayerIndexWriter& writer_;
  const LayerTreeLimits limits_;
  const Warn warn_;
  const uint64_t seed_;  // of the hash: names are chosen by others

  uint64_t entries_ = 0;  // made, from the archive or implied
  uint64_t steps_ = 0;    // spent
  // Changes whenever a directory or symbolic link is replaced.
  uint64_t generation_ = 1;
  Memo last_parent_;
  Memo last_target_;
  MemoryShare memory_;
  std::deque<Node> nodes_;
  InodeSpool inodes_;
  std::deque<StringPlace> external_links_;
  NameArena names_;
  std::vector<uint32_t> slots_;  // open addressing by (parent, name): a node, kNone or kDeleted
  size_t slots_used_ = 0;        // not kNone
};

}  // namespace lamina
