#pragma once

// NaiveImage: what unpacking the layers of an image gives, by the rules of docs/semantics.md and
// nothing else: maps in memory, one entry after another, every step as simple as it can be. It
// shares no code with index/ and overlay/ and is the oracle of their tests. One thread.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/layer_tar.h"

namespace lamina::testing {

// An inode; hard links share one.
struct NaiveInode {
  EntrySpec::Type type = EntrySpec::Type::kDirectory;
  uint32_t mode = 0755;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint64_t size = 0;
  std::vector<std::pair<uint64_t, std::string>> data;  // the rest is zeros
  std::string target;
  uint32_t major = 0;
  uint32_t minor = 0;
  std::map<std::string, std::string> xattrs;
};

struct NaiveNode {
  std::shared_ptr<NaiveInode> inode;
  std::map<std::string, NaiveNode> children;
  bool is_directory() const { return inode->type == EntrySpec::Type::kDirectory; }
};

class NaiveImage {
 public:
  explicit NaiveImage(int64_t created_s);

  // False where a hard link leads nowhere or to a directory; the image is then of no use.
  bool Apply(const LayerSpec& layer);
  const NaiveNode& root() const { return root_; }

 private:
  // What one layer says by itself.
  struct Change {
    std::shared_ptr<NaiveInode> inode{};  // null for an implicit directory
    std::map<std::string, Change> children{};
    std::vector<std::string> whiteouts{};
    bool opaque = false;
    bool is_directory() const {
      return inode == nullptr || inode->type == EntrySpec::Type::kDirectory;
    }
  };
  bool AddEntry(const EntrySpec& entry, Change* layer) const;
  static bool HasDeadLink(const Change& change);
  // Null where this layer itself has deleted the target.
  std::shared_ptr<NaiveInode> LinkTarget(const std::string& path, const Change& layer) const;
  void Overlay(const Change& change, NaiveNode* directory) const;
  NaiveNode ImplicitDirectory() const;

  int64_t created_s_;
  NaiveNode root_;
};

}  // namespace lamina::testing
