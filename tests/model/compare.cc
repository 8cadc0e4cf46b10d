#include "tests/model/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/text.h"

namespace lamina::testing {
namespace {

EntryType TypeOf(EntrySpec::Type type) {
  switch (type) {
    case EntrySpec::Type::kFile:
    case EntrySpec::Type::kHardlink:
      return EntryType::kRegular;
    case EntrySpec::Type::kSymlink:
      return EntryType::kSymlink;
    case EntrySpec::Type::kCharDevice:
      return EntryType::kCharDevice;
    case EntrySpec::Type::kBlockDevice:
      return EntryType::kBlockDevice;
    case EntrySpec::Type::kDirectory:
      return EntryType::kDirectory;
    case EntrySpec::Type::kFifo:
      return EntryType::kFifo;
  }
  return EntryType::kRegular;
}

std::string Describe(const NaiveInode& inode, uint32_t nlink) {
  std::string text = fmt::format("type {} mode {:o} nlink {} owner {}:{} mtime {}.{:09}",
                                 static_cast<int>(TypeOf(inode.type)), inode.mode, nlink, inode.uid,
                                 inode.gid, inode.mtime_s, inode.mtime_ns);
  if (inode.type == EntrySpec::Type::kFile) text += fmt::format(" size {}", inode.size);
  if (inode.type == EntrySpec::Type::kSymlink) text += " -> " + inode.target;
  if (inode.type == EntrySpec::Type::kCharDevice || inode.type == EntrySpec::Type::kBlockDevice)
    text += fmt::format(" device {}:{}", inode.major, inode.minor);
  for (const auto& [name, value] : inode.xattrs) text += fmt::format(" {}={}", name, value);
  return text;
}

Result<std::string> Describe(const Tree& tree, Nid nid) {
  ASSIGN_OR_RETURN(const TreeAttr attr, tree.Stat(nid));
  std::string text = fmt::format("type {} mode {:o} nlink {} owner {}:{} mtime {}.{:09}",
                                 static_cast<int>(attr.type), attr.mode, attr.nlink, attr.uid,
                                 attr.gid, attr.mtime_s, attr.mtime_ns);
  if (attr.type == EntryType::kRegular) text += fmt::format(" size {}", attr.size);
  if (attr.type == EntryType::kSymlink) {
    ASSIGN_OR_RETURN(const std::string target, tree.ReadLink(nid));
    text += " -> " + target;
  }
  if (attr.type == EntryType::kCharDevice || attr.type == EntryType::kBlockDevice)
    text += fmt::format(" device {}:{}", attr.device_major, attr.device_minor);
  std::map<std::string, std::string> xattrs;
  RETURN_IF_ERROR(tree.ForEachXattr(nid, [&](std::string_view name, std::string_view value) {
    xattrs.emplace(name, value);
    return true;
  }));
  for (const auto& [name, value] : xattrs) text += fmt::format(" {}={}", name, value);
  return text;
}

class Comparison {
 public:
  Comparison(const NaiveImage& image, const Tree& tree, const IndexedLayers& layers)
      : image_(image), tree_(tree), layers_(layers) {}

  std::string Run() {
    CountLinks(image_.root());
    CompareDirectory("", image_.root(), tree_.root(), tree_.root());
    if (tree_.inode_count() != nids_.size())
      Differ("/", fmt::format("inode count {} instead of {}", tree_.inode_count(), nids_.size()));
    return out_;
  }

 private:
  void Differ(const std::string& path, const std::string& what) {
    out_ += Quote(path) + ": " + what + "\n";
  }

  void CountLinks(const NaiveNode& node) {
    uint32_t& links = links_[node.inode.get()];
    links = 2;
    for (const auto& [name, child] : node.children) {
      if (child.is_directory()) {
        CountLinks(child);
        ++links_[node.inode.get()];
      } else {
        ++links_[child.inode.get()];
      }
    }
  }

  void CompareInode(const std::string& path, const NaiveNode& node, Nid nid) {
    const auto [known, fresh] = nids_.emplace(node.inode.get(), nid);
    if (!fresh && known->second != nid) Differ(path, "it is not the inode of its other names");
    if (fresh && !used_.insert(nid).second)
      Differ(path, "it is the inode of a name that it is not linked with");
    const auto got = Describe(tree_, nid);
    const std::string want = Describe(*node.inode, links_[node.inode.get()]);
    if (!got) {
      Differ(path, got.error().message);
    } else if (*got != want) {
      Differ(path, *got + " instead of " + want);
    } else if (node.inode->type == EntrySpec::Type::kFile) {
      CompareBytes(path, *node.inode, nid);
    }
  }

  void CompareBytes(const std::string& path, const NaiveInode& inode, Nid nid) {
    std::string want(inode.size, '\0');
    for (const auto& [offset, bytes] : inode.data) want.replace(offset, bytes.size(), bytes);
    const auto got = layers_.Read(tree_, nid, 0, inode.size);
    if (!got) {
      Differ(path, got.error().message);
    } else if (*got != want) {
      Differ(path, "its bytes differ");
    }
  }

  void CompareDirectory(const std::string& path, const NaiveNode& node, Nid nid, Nid parent) {
    CompareInode(path, node, nid);
    std::map<std::string, TreeDirent> got;
    std::string last;
    const Status read = tree_.ReadDirectory(nid, 0, [&](const TreeDirent& entry, uint64_t) {
      if (!last.empty() && !(last < entry.name)) Differ(path, "its names are not sorted");
      last = entry.name;
      got.emplace(entry.name, entry);
      return true;
    });
    if (!read) return Differ(path, read.error().message);
    if (got.count(".") == 0 || got["."].nid != nid || got["."].type != EntryType::kDirectory)
      Differ(path, "\".\" is wrong");
    if (got.count("..") == 0 || got[".."].nid != parent || got[".."].type != EntryType::kDirectory)
      Differ(path, "\"..\" is wrong");
    got.erase(".");
    got.erase("..");
    for (const auto& [name, child] : node.children) {
      CompareName(path + "/" + name, child, name, nid, got);
      got.erase(name);
    }
    for (const auto& [name, entry] : got) Differ(path + "/" + name, "it should not be there");
  }

  void CompareName(const std::string& path, const NaiveNode& child, const std::string& name,
                   Nid directory, const std::map<std::string, TreeDirent>& listed) {
    const auto entry = listed.find(name);
    if (entry == listed.end()) return Differ(path, "it is missing");
    if (entry->second.type != TypeOf(child.inode->type))
      Differ(path, "its type in the directory is wrong");
    const auto looked_up = tree_.Lookup(directory, name);
    if (!looked_up || !*looked_up || (*looked_up)->nid != entry->second.nid)
      Differ(path, "it is listed but not found");
    if (child.is_directory()) {
      CompareDirectory(path, child, entry->second.nid, directory);
    } else {
      CompareInode(path, child, entry->second.nid);
    }
  }

  const NaiveImage& image_;
  const Tree& tree_;
  const IndexedLayers& layers_;
  std::string out_;
  std::map<const NaiveInode*, uint32_t> links_;
  std::map<const NaiveInode*, Nid> nids_;
  std::set<Nid> used_;
};

}  // namespace

std::string Differences(const NaiveImage& image, const Tree& tree, const IndexedLayers& layers) {
  return Comparison(image, tree, layers).Run();
}

}  // namespace lamina::testing
