#include "overlay/tree_walk.h"

#include <utility>
#include <vector>

namespace lamina {
namespace {

// Directories of a sound tree are at most this deep (kMaxDepth of the layers' indexes).
constexpr size_t kDeepest = 1024;

// A directory whose entries are being visited.
struct OpenFolder {
  std::vector<TreeDirent> entries{};
  size_t next = 0;
  size_t path_length = 0;  // of the directory itself
};

Result<OpenFolder> Open(const Tree& tree, Nid nid, size_t path_length) {
  OpenFolder folder{.path_length = path_length};
  RETURN_IF_ERROR(tree.ReadDirectory(nid, 0, [&](const TreeDirent& entry, uint64_t) {
    if (entry.name != "." && entry.name != "..") folder.entries.push_back(entry);
    return true;
  }));
  return folder;
}

}  // namespace

Status WalkTree(const Tree& tree, Nid start, size_t max_depth,
                const std::function<Status(const WalkedEntry&)>& visit) {
  const Error looped{Code::kCorrupt, tree.path() + ": a directory leads to itself"};
  ASSIGN_OR_RETURN(const TreeAttr attr, tree.Stat(start));
  RETURN_IF_ERROR(visit({.path = "", .attr = attr, .depth = 0, .last = true}));
  std::vector<OpenFolder> folders;
  std::string path;
  uint64_t left = tree.inode_count();
  const auto enter = [&](Nid nid) -> Status {
    if (folders.size() > kDeepest || left-- == 0) return looped;
    ASSIGN_OR_RETURN(OpenFolder folder, Open(tree, nid, path.size()));
    folders.push_back(std::move(folder));
    return {};
  };
  if (attr.type == EntryType::kDirectory && max_depth > 0) RETURN_IF_ERROR(enter(start));
  while (!folders.empty()) {
    OpenFolder& folder = folders.back();
    if (folder.next == folder.entries.size()) {
      folders.pop_back();
      continue;
    }
    const TreeDirent entry = folder.entries[folder.next++];
    path.resize(folder.path_length);
    if (!path.empty()) path += '/';
    path += entry.name;
    ASSIGN_OR_RETURN(const TreeAttr found, tree.Stat(entry.nid));
    RETURN_IF_ERROR(visit({.path = path,
                           .attr = found,
                           .depth = folders.size(),
                           .last = folder.next == folder.entries.size()}));
    if (found.type == EntryType::kDirectory && folders.size() < max_depth)
      RETURN_IF_ERROR(enter(entry.nid));
  }
  return {};
}

}  // namespace lamina
