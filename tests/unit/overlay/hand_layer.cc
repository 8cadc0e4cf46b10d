#include "tests/unit/overlay/hand_layer.h"

#include <gtest/gtest.h>

#include <deque>

#include "index/layer_index_writer.h"

namespace lamina::testing {
namespace {

class HandWriter {
 public:
  explicit HandWriter(const std::string& path) : writer_(path) {}

  Status Run(const HandEntry& root, const LayerFacts& facts) {
    // Breadth first, so that the children of a directory are neighbours.
    std::deque<const HandEntry*> waiting{&root};
    uint32_t next_child = 1;
    while (!waiting.empty()) {
      const HandEntry& entry = *waiting.front();
      waiting.pop_front();
      index_format::EntryRecord record;
      record.name_offset = static_cast<uint32_t>(names_.size());
      record.name_length = static_cast<uint16_t>(entry.name.size());
      names_ += entry.name;
      record.kind = static_cast<uint8_t>(entry.kind);
      record.flags = static_cast<uint8_t>((entry.opaque ? index_format::kEntryOpaque : 0) |
                                          (entry.replaces ? index_format::kEntryReplaces : 0) |
                                          (entry.implicit ? index_format::kEntryImplicit : 0));
      record.first_child = next_child;
      record.child_count = static_cast<uint32_t>(entry.children.size());
      next_child += record.child_count;
      RETURN_IF_ERROR(AddTarget(entry, &record));
      RETURN_IF_ERROR(writer_.AddEntry(record));
      for (const HandEntry& child : entry.children) waiting.push_back(&child);
    }
    RETURN_IF_ERROR(writer_.AddNames(names_));
    ASSIGN_OR_RETURN(AtomicFile file, writer_.Write(facts, "by hand", {}));
    return file.Commit();
  }

 private:
  Status AddTarget(const HandEntry& entry, index_format::EntryRecord* record) {
    if (entry.kind == LayerEntry::Kind::kExternalLink) {
      ASSIGN_OR_RETURN(const StringPlace place, writer_.AddString(entry.target));
      record->link_offset = place.offset;
      record->link_length = place.length;
    }
    if (entry.kind != LayerEntry::Kind::kInode) return {};
    const auto known = shared_.find(entry.shared);
    if (entry.shared != 0 && known != shared_.end()) {
      record->inode = known->second;
      return {};
    }
    ASSIGN_OR_RETURN(record->inode, AddInode(entry));
    shared_[entry.shared] = record->inode;
    return {};
  }

  Result<uint32_t> AddInode(const HandEntry& entry) {
    index_format::InodeRecord inode;
    inode.type = static_cast<uint8_t>(entry.type);
    inode.flags = entry.sparse ? index_format::kInodeSparse : 0;
    inode.mode = static_cast<uint16_t>(entry.mode);
    inode.uid = entry.uid;
    inode.mtime_s = entry.mtime_s;
    inode.size = entry.size;
    inode.place = entry.flat_offset;
    if (entry.type == EntryType::kSymlink) {
      ASSIGN_OR_RETURN(const StringPlace place, writer_.AddString(entry.target));
      inode.place = place.offset;
      inode.size = place.length;
    }
    for (const FileExtent& extent : entry.extents) {
      ASSIGN_OR_RETURN(const uint32_t number, writer_.AddExtent(extent));
      if (inode.extent_count++ == 0) inode.extent_first = number;
    }
    for (const auto& [name, value] : entry.xattrs) {
      ASSIGN_OR_RETURN(const uint32_t number, writer_.AddXattr(name, value));
      if (inode.xattr_count++ == 0) inode.xattr_first = number;
    }
    return writer_.AddInode(inode);
  }

  LayerIndexWriter writer_;
  std::string names_;
  std::map<int, uint32_t> shared_;
};

}  // namespace

HandEntry Folder(std::string name, std::vector<HandEntry> children) {
  return {.name = std::move(name),
          .type = EntryType::kDirectory,
          .mode = 0755,
          .children = std::move(children)};
}

HandEntry ImplicitFolder(std::string name, std::vector<HandEntry> children) {
  HandEntry folder = Folder(std::move(name), std::move(children));
  folder.implicit = true;
  return folder;
}

HandEntry Whiteout(std::string name) {
  return {.name = std::move(name), .kind = LayerEntry::Kind::kWhiteout};
}

HandEntry LinkTo(std::string name, std::string path) {
  return {
      .name = std::move(name), .kind = LayerEntry::Kind::kExternalLink, .target = std::move(path)};
}

std::shared_ptr<const LayerIndex> MakeLayer(const HandEntry& root, const std::string& path,
                                            uint64_t flat_size) {
  const Digest digest = Digest::Sha256(AsBytes(path));
  LayerFacts facts{.blob_digest = digest, .diff_id = digest, .flat_size = flat_size};
  const Status written = HandWriter(path).Run(root, facts);
  EXPECT_TRUE(written.has_value()) << (written ? "" : written.error().message);
  auto index = LayerIndex::Open(path, digest);
  EXPECT_TRUE(index.has_value()) << (index ? "" : index.error().message);
  return index ? *index : nullptr;
}

}  // namespace lamina::testing
