#include "overlay/image_layout.h"

#include <fmt/format.h>

#include "base/text.h"
#include "overlay/directory_blocks.h"
#include "overlay/erofs_format.h"

namespace lamina {
namespace {

using erofs::kBlockSize;
using erofs::kSlotSize;

// Chunk entries of all sparse files of an image: a tiny entry of a hostile layer may ask for 2^16
// of them.
constexpr uint64_t kMaxChunks = uint64_t{1} << 26;

erofs::FileType FileTypeOf(EntryType type) {
  switch (type) {
    case EntryType::kDirectory:
      return erofs::FileType::kDirectory;
    case EntryType::kSymlink:
      return erofs::FileType::kSymlink;
    case EntryType::kCharDevice:
      return erofs::FileType::kCharDevice;
    case EntryType::kBlockDevice:
      return erofs::FileType::kBlockDevice;
    case EntryType::kFifo:
      return erofs::FileType::kFifo;
    case EntryType::kSocket:
      return erofs::FileType::kSocket;
    case EntryType::kRegular:
    case EntryType::kHardlink:  // the merge refuses inodes of this type
      break;
  }
  return erofs::FileType::kRegular;
}

class Placer {
 public:
  Placer(const LayerStack& stack, const TreeOptions& options, const BuildWork& work,
         MergedTree* tree)
      : stack_(stack), options_(options), work_(work), tree_(*tree) {}

  Result<ImageLayout> Run() {
    layout_.devices = options_.only_layer ? *options_.only_layer + 1 : stack_.size();
    at_ = erofs::kSuperOffset + sizeof(erofs::Superblock) +
          layout_.devices * sizeof(erofs::DeviceSlot);
    for (uint32_t inode = 0; inode < tree_.inodes.size(); ++inode)
      RETURN_IF_ERROR(PlaceInode(inode));
    layout_.inodes_end = at_;
    const uint64_t first_block = AlignUp(at_, kBlockSize) / kBlockSize;
    layout_.blocks = first_block + plain_blocks_;
    if (layout_.blocks >= erofs::kNoBlock || at_ / kSlotSize > UINT32_MAX)
      return Error{Code::kLimit,
                   fmt::format("the tree takes {} blocks, more than its format can address",
                               layout_.blocks)};
    for (MergedInode& inode : tree_.inodes)
      if (inode.block != erofs::kNoBlock) inode.block += static_cast<uint32_t>(first_block);
    return layout_;
  }

 private:
  Status PlaceInode(uint32_t number) {
    RETURN_IF_ERROR(work_.GoOn());
    MergedInode& inode = tree_.inodes[number];
    if (inode.directory) RETURN_IF_ERROR(MeasureDirectory(number));
    ASSIGN_OR_RETURN(const InodeShape shape, ShapeOf(stack_, options_, tree_, number));
    RETURN_IF_ERROR(CountChunks(number, shape));
    inode.file_type = static_cast<uint8_t>(FileTypeOf(shape.source.type));
    at_ = Start(shape);
    inode.slot = static_cast<uint32_t>(at_ / kSlotSize);
    at_ += sizeof(erofs::Inode) + shape.xattr_bytes + shape.inline_bytes;
    if (shape.layout == erofs::Layout::kChunked)
      at_ = AlignUp(at_, sizeof(erofs::ChunkIndex)) + shape.chunk_count * sizeof(erofs::ChunkIndex);
    inode.block = shape.plain_blocks > 0 ? static_cast<uint32_t>(plain_blocks_) : erofs::kNoBlock;
    plain_blocks_ += shape.plain_blocks;
    layout_.has_xattrs = layout_.has_xattrs || shape.xattr_bytes > 0;
    return {};
  }

  // The next place for an inode at which its inline tail does not cross a block.
  uint64_t Start(const InodeShape& shape) const {
    const uint64_t start = AlignUp(at_, kSlotSize);
    if (shape.inline_bytes == 0) return start;
    const bool whole = shape.source.type == EntryType::kSymlink;
    const uint64_t head = sizeof(erofs::Inode) + shape.xattr_bytes;
    const uint64_t first = whole ? start : start + head;
    const uint64_t last = start + head + shape.inline_bytes - 1;
    if (first / kBlockSize == last / kBlockSize) return start;
    const uint64_t block = AlignUp(first, kBlockSize);
    return AlignUp(whole ? block : block - head, kSlotSize);
  }

  Status MeasureDirectory(uint32_t number) {
    ASSIGN_OR_RETURN(const uint64_t size, DirectorySize(stack_, tree_, number));
    if (size > UINT32_MAX)
      return Error{Code::kLimit,
                   fmt::format("the names in {} take {} bytes, more than the limit of {}",
                               Quote(tree_.PathOf(stack_, number)), size, UINT32_MAX)};
    tree_.inodes[number].directory_size = static_cast<uint32_t>(size);
    return {};
  }

  Status CountChunks(uint32_t number, const InodeShape& shape) {
    if (shape.chunk_count > 1) chunks_ += shape.chunk_count;
    if (chunks_ <= kMaxChunks) return {};
    return Error{
        Code::kLimit,
        fmt::format("{}: with the sparse file {} the image's sparse files have more than {} "
                    "pieces, the limit",
                    stack_.NameOf(tree_.inodes[number].layer), Quote(tree_.PathOf(stack_, number)),
                    kMaxChunks)};
  }

  const LayerStack& stack_;
  const TreeOptions& options_;
  const BuildWork& work_;
  MergedTree& tree_;
  ImageLayout layout_;
  uint64_t at_ = 0;
  uint64_t plain_blocks_ = 0;
  uint64_t chunks_ = 0;
};

}  // namespace

Result<ImageLayout> PlaceInodes(const LayerStack& stack, const TreeOptions& options,
                                const BuildWork& work, MergedTree* tree) {
  return Placer(stack, options, work, tree).Run();
}

}  // namespace lamina
