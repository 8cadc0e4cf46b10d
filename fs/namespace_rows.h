#pragma once

// What the namespace remembers in memory, so that no request has to ask SQLite twice: the rows of
// names, the images that are open, the texts handed out. All may be forgotten at any time; they
// come back from the store. Any thread. Methods that say "blocks" are for pool threads; locks are
// leaves and held for a look-up only.

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fs/image.h"
#include "fs/namespace_types.h"
#include "index/store.h"

namespace lamina {

// Rows of one kind of the store, both ways.
class RowTable {
 public:
  RowTable(Store& store, NodeKind kind) : store_(store), kind_(kind) {}

  std::optional<uint32_t> KnownRow(const std::string& key) const;
  Result<uint32_t> Row(const std::string& key);  // blocks
  std::shared_ptr<const std::string> KnownKey(uint32_t row) const;
  Result<std::shared_ptr<const std::string>> Key(uint32_t row);  // blocks

 private:
  std::shared_ptr<const std::string> Remember(uint32_t row, const std::string& key);

  Store& store_;
  const NodeKind kind_;
  mutable Mutex mutex_;
  std::unordered_map<std::string, uint32_t> rows_ GUARDED_BY(mutex_);
  std::unordered_map<uint32_t, std::shared_ptr<const std::string>> keys_ GUARDED_BY(mutex_);
};

// A kImage row whose image is open. Immutable; replaced when the tree opens.
struct ImageRow {
  uint32_t image_row = 0;         // of "repo@digest"; for layers the row of their image
  std::optional<uint32_t> layer;  // set for the tree of one layer
  std::shared_ptr<Image> image;
  std::shared_ptr<MountedTree> tree;  // null until it is open
  mutable std::atomic<bool> used{true};
};

class ImageTable {
 public:
  std::shared_ptr<const ImageRow> Find(uint32_t row) const;
  void Put(uint32_t row, std::shared_ptr<const ImageRow> image);
  // The rows of an image and of its layers.
  void Remove(const Image& image);

 private:
  static constexpr size_t kShards = 16;
  static constexpr size_t kMostPerShard = 256;
  struct Shard {
    mutable Mutex mutex;
    std::unordered_map<uint32_t, std::shared_ptr<const ImageRow>> rows GUARDED_BY(mutex);
  };
  std::array<Shard, kShards> shards_;
};

// Texts by node id: the last few megabytes that were handed out.
class TextShelf {
 public:
  void Put(NodeId node, std::string text);
  std::shared_ptr<const std::string> Find(NodeId node) const;

 private:
  static constexpr size_t kMostBytes = 8u << 20;
  mutable Mutex mutex_;
  std::unordered_map<NodeId, std::shared_ptr<const std::string>> texts_ GUARDED_BY(mutex_);
  std::deque<NodeId> order_ GUARDED_BY(mutex_);  // oldest first
  size_t bytes_ GUARDED_BY(mutex_) = 0;
};

// A directory as it was when a walk began, for the rest of that walk.
struct ListedName {
  std::string name;
  NodeId id = 0;
  EntryType type = EntryType::kDirectory;
};
using Listing = std::vector<ListedName>;

class ListingShelf {
 public:
  void Put(NodeId directory, std::shared_ptr<const Listing> listing);
  std::shared_ptr<const Listing> Find(NodeId directory) const;

 private:
  static constexpr size_t kMost = 64;
  mutable Mutex mutex_;
  std::deque<std::pair<NodeId, std::shared_ptr<const Listing>>> listings_ GUARDED_BY(mutex_);
};

// The names and directories that the kernel may keep though they can change, for invalidation.
class HandedOut {
 public:
  struct Names {
    std::vector<std::pair<NodeId, std::string>> entries;  // parent and name
    std::vector<NodeId> directories;
  };
  void NoteEntry(NodeId parent, std::string_view name);
  // The name has become something that does not change.
  void DropEntry(NodeId parent, std::string_view name);
  void NoteDirectory(NodeId directory);
  // Entries are forgotten by it; directories stay, since the kernel asks for them by id.
  Names Take();

 private:
  static constexpr size_t kMost = 16384;
  Mutex mutex_;
  std::unordered_map<NodeId, std::unordered_set<std::string>> entries_ GUARDED_BY(mutex_);
  size_t entry_count_ GUARDED_BY(mutex_) = 0;
  std::unordered_set<NodeId> directories_ GUARDED_BY(mutex_);
};

}  // namespace lamina
