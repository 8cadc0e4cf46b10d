#include "overlay/directory_blocks.h"

#include <algorithm>
#include <optional>

namespace lamina {
namespace {

// Collects the names of one block.
class BlockBuilder {
 public:
  bool Fits(std::string_view name) const { return used_ + Cost(name) <= erofs::kBlockSize; }
  bool empty() const { return entries_.empty(); }
  uint64_t used() const { return used_; }

  void Add(std::string_view name, uint64_t nid, uint8_t type) {
    entries_.push_back({name, nid, type});
    used_ += Cost(name);
  }

  // The block's bytes; then it is empty again.
  ByteSpan Finish(bool padded) {
    std::fill(bytes_.begin(), bytes_.end(), uint8_t{0});
    uint64_t name_offset = entries_.size() * erofs::kDirentSize;
    uint8_t* dirent = bytes_.data();
    for (const Entry& entry : entries_) {
      StoreLe<uint64_t>(dirent, entry.nid);
      StoreLe<uint16_t>(dirent + 8, static_cast<uint16_t>(name_offset));
      dirent[10] = entry.type;
      std::copy(entry.name.begin(), entry.name.end(), bytes_.data() + name_offset);
      name_offset += entry.name.size();
      dirent += erofs::kDirentSize;
    }
    const uint64_t length = padded ? erofs::kBlockSize : used_;
    entries_.clear();
    used_ = 0;
    return ByteSpan(bytes_).first(length);
  }

 private:
  struct Entry {
    std::string_view name;
    uint64_t nid = 0;
    uint8_t type = 0;
  };
  static uint64_t Cost(std::string_view name) { return erofs::kDirentSize + name.size(); }

  std::vector<Entry> entries_;
  uint64_t used_ = 0;
  std::array<uint8_t, erofs::kBlockSize> bytes_{};
};

}  // namespace

Status ForEachName(const LayerStack& stack, const MergedTree& tree, uint32_t directory,
                   const std::function<Status(const DirectoryName&)>& take) {
  const MergedInode& inode = tree.inodes[directory];
  const std::array<DirectoryName, 2> dots{DirectoryName{".", directory},
                                          DirectoryName{"..", inode.parent}};
  size_t dot = 0;
  for (uint32_t i = 0; i < inode.name_count; ++i) {
    const MergedName& name = tree.names[inode.first_name + i];
    ASSIGN_OR_RETURN(const LayerEntry entry, stack.Entry(name.layer, name.entry));
    for (; dot < dots.size() && dots[dot].text < entry.name; ++dot)
      RETURN_IF_ERROR(take(dots[dot]));
    RETURN_IF_ERROR(take({entry.name, name.inode}));
  }
  for (; dot < dots.size(); ++dot) RETURN_IF_ERROR(take(dots[dot]));
  return {};
}

Result<uint64_t> DirectorySize(const LayerStack& stack, const MergedTree& tree,
                               uint32_t directory) {
  uint64_t full_blocks = 0;
  uint64_t used = 0;
  const auto take_next = [&](const DirectoryName& name) -> Status {
    const uint64_t cost = erofs::kDirentSize + name.text.size();
    if (used + cost > erofs::kBlockSize) {
      ++full_blocks;
      used = 0;
    }
    used += cost;
    return {};
  };
  RETURN_IF_ERROR(ForEachName(stack, tree, directory, take_next));
  return full_blocks * erofs::kBlockSize + used;
}

Status ForEachBlock(const LayerStack& stack, const MergedTree& tree, uint32_t directory,
                    const std::function<Status(ByteSpan)>& take) {
  BlockBuilder block;
  const auto take_next = [&](const DirectoryName& name) -> Status {
    if (!block.Fits(name.text)) RETURN_IF_ERROR(take(block.Finish(true)));
    const MergedInode& inode = tree.inodes[name.inode];
    block.Add(name.text, inode.slot, inode.file_type);
    return {};
  };
  RETURN_IF_ERROR(ForEachName(stack, tree, directory, take_next));
  return take(block.Finish(false));
}

}  // namespace lamina
