#include "overlay/erofs_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "overlay/directory_blocks.h"
#include "overlay/erofs_format.h"
#include "overlay/inode_shape.h"

namespace lamina {
namespace {

using erofs::kBlockSize;

template <typename T>
ByteSpan BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof value};
}

// Writes in order, with a checksum of all that was written. The first block passes through
// SealSuperblock().
class ImageStream {
 public:
  ImageStream(int fd, const std::string& name) : fd_(fd), name_(name) { buffer_.reserve(kBuffer); }

  uint64_t offset() const { return flushed_ + buffer_.size(); }

  Status Append(ByteSpan bytes) {
    while (!bytes.empty()) {
      if (buffer_.size() == kBuffer) RETURN_IF_ERROR(Flush());
      const size_t take = std::min(bytes.size(), kBuffer - buffer_.size());
      buffer_.insert(buffer_.end(), bytes.begin(),
                     bytes.begin() + static_cast<std::ptrdiff_t>(take));
      bytes = bytes.subspan(take);
    }
    return {};
  }

  // `to` is at most a few blocks ahead.
  Status ZerosUpTo(uint64_t to) {
    static constexpr std::array<uint8_t, kBlockSize> kZeros{};
    while (offset() < to)
      RETURN_IF_ERROR(
          Append(ByteSpan(kZeros).first(std::min<uint64_t>(to - offset(), kZeros.size()))));
    return {};
  }

  // The checksum of everything so far.
  Result<uint32_t> Checksum() {
    RETURN_IF_ERROR(Flush());
    return crc_;
  }

  Status Flush() {
    if (flushed_ == 0 && !buffer_.empty()) SealSuperblock();
    RETURN_IF_ERROR(PwriteExactly(fd_, buffer_, flushed_, name_));
    crc_ = Crc32c(buffer_, crc_);
    flushed_ += buffer_.size();
    buffer_.clear();
    return {};
  }

 private:
  static constexpr size_t kBuffer = 1u << 20;

  // EROFS's own checksum covers the rest of the first block; an image has at least one.
  void SealSuperblock() {
    const ByteSpan covered =
        ByteSpan(buffer_).subspan(erofs::kSuperOffset, kBlockSize - erofs::kSuperOffset);
    StoreLe<uint32_t>(buffer_.data() + erofs::kSuperOffset + offsetof(erofs::Superblock, checksum),
                      Crc32c(covered));
  }

  const int fd_;
  const std::string& name_;
  std::vector<uint8_t> buffer_;
  uint64_t flushed_ = 0;
  uint32_t crc_ = 0xFFFFFFFF;
};

class ImageWriter {
 public:
  ImageWriter(const LayerStack& stack, const TreeOptions& options, const BuildWork& work,
              const MergedTree& tree, const ImageLayout& layout, const Digest& key,
              ImageStream* out)
      : stack_(stack),
        options_(options),
        work_(work),
        tree_(tree),
        layout_(layout),
        key_(key),
        out_(*out) {}

  Status Run() {
    RETURN_IF_ERROR(PutSuperblock());
    RETURN_IF_ERROR(PutDevices());
    for (uint32_t inode = 0; inode < tree_.inodes.size(); ++inode) RETURN_IF_ERROR(PutInode(inode));
    RETURN_IF_ERROR(out_.ZerosUpTo(AlignUp(layout_.inodes_end, kBlockSize)));
    for (uint32_t inode = 0; inode < tree_.inodes.size(); ++inode)
      if (tree_.inodes[inode].block != erofs::kNoBlock) RETURN_IF_ERROR(PutBlocks(inode));
    if (out_.offset() != layout_.blocks * kBlockSize)
      return Error{Code::kInternal, "the tree image's layout and its bytes differ"};
    return PutTrailer();
  }

 private:
  Status PutSuperblock() {
    erofs::Superblock super;
    super.root_nid = static_cast<uint16_t>(tree_.inodes[0].slot);
    super.inode_count = tree_.inodes.size();
    super.blocks = static_cast<uint32_t>(layout_.blocks);
    std::copy_n(key_.bytes().begin(), super.uuid.size(), super.uuid.begin());
    constexpr std::string_view kName = "lamina";
    std::copy(kName.begin(), kName.end(), super.volume_name.begin());
    if (layout_.devices > 0) {
      super.feature_incompat = erofs::kIncompatChunkedFile | erofs::kIncompatDeviceTable;
      super.device_count = static_cast<uint16_t>(layout_.devices);
      super.device_slot = (erofs::kSuperOffset + sizeof super) / sizeof(erofs::DeviceSlot);
    }
    RETURN_IF_ERROR(out_.ZerosUpTo(erofs::kSuperOffset));
    return out_.Append(BytesOf(super));
  }

  Status PutDevices() {
    for (uint32_t layer = 0; layer < layout_.devices; ++layer) {
      const LayerFacts& facts = stack_.layer(layer).facts();
      const uint64_t blocks = facts.flat_size / kBlockSize;
      if (blocks >= erofs::kNoBlock)
        return Error{Code::kLimit,
                     stack_.NameOf(layer) + " holds more data than a device can address"};
      erofs::DeviceSlot slot;
      const std::string hex = facts.blob_digest.hex();
      std::copy_n(hex.begin(), std::min(hex.size(), slot.tag.size()), slot.tag.begin());
      slot.blocks = static_cast<uint32_t>(blocks);
      RETURN_IF_ERROR(out_.Append(BytesOf(slot)));
    }
    return {};
  }

  Status PutInode(uint32_t number) {
    RETURN_IF_ERROR(work_.GoOn());
    const MergedInode& inode = tree_.inodes[number];
    ASSIGN_OR_RETURN(const InodeShape shape, ShapeOf(stack_, options_, tree_, number));
    RETURN_IF_ERROR(out_.ZerosUpTo(uint64_t{inode.slot} * erofs::kSlotSize));
    RETURN_IF_ERROR(out_.Append(BytesOf(Record(number, shape))));
    if (shape.xattr_bytes > 0) {
      ASSIGN_OR_RETURN(const std::vector<uint8_t> xattrs,
                       EncodeXattrs(stack_, inode, shape.source));
      RETURN_IF_ERROR(out_.Append(xattrs));
    }
    if (shape.layout == erofs::Layout::kChunked) return PutChunks(inode, shape);
    if (shape.inline_bytes == 0) return {};
    if (inode.directory) return PutTail(number);
    return out_.Append(AsBytes(shape.source.symlink_target));
  }

  erofs::Inode Record(uint32_t number, const InodeShape& shape) const {
    const MergedInode& inode = tree_.inodes[number];
    erofs::Inode record;
    record.format = static_cast<uint16_t>(
        erofs::kExtended | (static_cast<uint32_t>(shape.layout) << erofs::kLayoutShift));
    if (shape.xattr_bytes > 0)
      record.xattr_count =
          static_cast<uint16_t>((shape.xattr_bytes - erofs::kXattrHeaderSize) / 4 + 1);
    record.mode = shape.file_mode;
    record.size = shape.size;
    record.u = Union(inode, shape);
    record.ino = number + 1;
    record.uid = shape.source.uid;
    record.gid = shape.source.gid;
    record.mtime = shape.source.mtime_s;
    record.mtime_ns = shape.source.mtime_ns;
    record.nlink = inode.nlink;
    return record;
  }

  static uint32_t Union(const MergedInode& inode, const InodeShape& shape) {
    if (shape.layout == erofs::Layout::kChunked)
      return (shape.chunk_bits - erofs::kBlockBits) | erofs::kChunkIndexes;
    if (S_ISCHR(shape.file_mode) || S_ISBLK(shape.file_mode)) {
      // What mknod(2) keeps of larger numbers: 12 and 20 bits.
      const uint32_t major = shape.source.device_major & 0xFFF;
      const uint32_t minor = shape.source.device_minor & 0xFFFFF;
      return (minor & 0xFF) | (major << 8) | ((minor & ~0xFFu) << 12);
    }
    const bool has_data =
        S_ISDIR(shape.file_mode) || S_ISLNK(shape.file_mode) || S_ISREG(shape.file_mode);
    return has_data ? inode.block : 0;
  }

  Status PutChunks(const MergedInode& inode, const InodeShape& shape) {
    RETURN_IF_ERROR(out_.ZerosUpTo(AlignUp(out_.offset(), sizeof(erofs::ChunkIndex))));
    return ForEachChunk(stack_, inode, shape, [&](const erofs::ChunkIndex& chunk) {
      return out_.Append(BytesOf(chunk));
    });
  }

  // The last block of a directory; the ones before it come later, from PutBlocks().
  Status PutTail(uint32_t number) {
    uint64_t left = tree_.inodes[number].directory_size / kBlockSize;
    return ForEachBlock(stack_, tree_, number, [&](ByteSpan block) -> Status {
      if (left-- > 0) return {};
      return out_.Append(block);
    });
  }

  Status PutBlocks(uint32_t number) {
    RETURN_IF_ERROR(work_.GoOn());
    const MergedInode& inode = tree_.inodes[number];
    RETURN_IF_ERROR(out_.ZerosUpTo(uint64_t{inode.block} * kBlockSize));
    ASSIGN_OR_RETURN(const InodeShape shape, ShapeOf(stack_, options_, tree_, number));
    const uint64_t end = (uint64_t{inode.block} + shape.plain_blocks) * kBlockSize;
    if (!inode.directory) {
      RETURN_IF_ERROR(out_.Append(AsBytes(shape.source.symlink_target)));
      return out_.ZerosUpTo(end);
    }
    const auto take_next = [&](ByteSpan block) -> Status {
      if (out_.offset() == end) return {};  // the inline tail
      return out_.Append(block);
    };
    RETURN_IF_ERROR(ForEachBlock(stack_, tree_, number, take_next));
    return out_.ZerosUpTo(end);
  }

  Status PutTrailer() {
    erofs::Trailer trailer;
    trailer.image_bytes = out_.offset();
    ASSIGN_OR_RETURN(trailer.image_crc, out_.Checksum());
    trailer.inode_count = tree_.inodes.size();
    trailer.entry_count = tree_.names.size() + 1;
    trailer.flags = layout_.has_xattrs ? erofs::kHasXattrs : 0;
    std::copy_n(key_.bytes().begin(), trailer.tree_key.size(), trailer.tree_key.begin());
    trailer.trailer_crc = Crc32c(BytesOf(trailer).first(offsetof(erofs::Trailer, trailer_crc)));
    RETURN_IF_ERROR(out_.Append(BytesOf(trailer)));
    return out_.Flush();
  }

  const LayerStack& stack_;
  const TreeOptions& options_;
  const BuildWork& work_;
  const MergedTree& tree_;
  const ImageLayout& layout_;
  const Digest& key_;
  ImageStream& out_;
};

}  // namespace

Result<uint64_t> WriteImage(const LayerStack& stack, const TreeOptions& options,
                            const BuildWork& work, const MergedTree& tree,
                            const ImageLayout& layout, const Digest& key, int fd,
                            const std::string& name) {
  ImageStream out(fd, name);
  RETURN_IF_ERROR(ImageWriter(stack, options, work, tree, layout, key, &out).Run());
  return out.offset();
}

}  // namespace lamina
