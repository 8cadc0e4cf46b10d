#include "overlay/inode_shape.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <string_view>

#include "base/text.h"

namespace lamina {
namespace {

using erofs::kBlockSize;

constexpr int64_t kNsPerSecond = 1'000'000'000;
// A symbolic link that the kernel can follow.
constexpr uint64_t kMaxTarget = 4095;
// An inline tail starts at a multiple of 4 at most 28 bytes into its block, because inodes start at
// multiples of 32.
constexpr uint64_t kMaxInline = kBlockSize - erofs::kSlotSize;

uint16_t TypeBits(EntryType type) {
  switch (type) {
    case EntryType::kDirectory:
      return S_IFDIR;
    case EntryType::kSymlink:
      return S_IFLNK;
    case EntryType::kCharDevice:
      return S_IFCHR;
    case EntryType::kBlockDevice:
      return S_IFBLK;
    case EntryType::kFifo:
      return S_IFIFO;
    case EntryType::kSocket:
      return S_IFSOCK;
    case EntryType::kRegular:
    case EntryType::kHardlink:  // the merge refuses inodes of this type
      break;
  }
  return S_IFREG;
}

LayerInode MadeUp(const TreeOptions& options, EntryType type, uint32_t mode) {
  LayerInode inode;
  inode.type = type;
  inode.mode = mode;
  inode.mtime_s = options.created_ns / kNsPerSecond;
  int64_t ns = options.created_ns % kNsPerSecond;
  if (ns < 0) {
    ns += kNsPerSecond;
    --inode.mtime_s;
  }
  inode.mtime_ns = static_cast<uint32_t>(ns);
  return inode;
}

Result<LayerInode> SourceOf(const LayerStack& stack, const TreeOptions& options,
                            const MergedInode& inode) {
  if (inode.whiteout) return MadeUp(options, EntryType::kCharDevice, 0);
  if (inode.source == kNone) return MadeUp(options, EntryType::kDirectory, 0755);
  return stack.Inode({inode.layer, inode.source});
}

struct EncodedName {
  uint8_t prefix = 0;
  std::string_view suffix;
};

// Nothing for names that a tree does not carry: other namespaces, and overlayfs's own metadata,
// which would come to life in the overlayfs that users stack on us.
std::optional<EncodedName> EncodeName(std::string_view name) {
  constexpr std::string_view kUser = "user.";
  constexpr std::string_view kSecurity = "security.";
  if (name.starts_with("user.overlay.")) return std::nullopt;
  if (name.starts_with(kUser) && name.size() > kUser.size())
    return EncodedName{erofs::kXattrUser, name.substr(kUser.size())};
  if (name.starts_with(kSecurity) && name.size() > kSecurity.size())
    return EncodedName{erofs::kXattrSecurity, name.substr(kSecurity.size())};
  return std::nullopt;
}

Status ForEachXattrOf(
    const LayerStack& stack, const MergedInode& inode, const LayerInode& source,
    const std::function<Status(const EncodedName&, std::string_view value)>& take) {
  if (inode.opaque) RETURN_IF_ERROR(take({erofs::kXattrTrusted, "overlay.opaque"}, "y"));
  if (inode.source == kNone) return {};
  for (uint32_t i = 0; i < source.xattr_count; ++i) {
    auto xattr = stack.layer(inode.layer).Xattr(source.xattr_first + i);
    if (!xattr) return xattr.error().Within(stack.NameOf(inode.layer));
    const std::optional<EncodedName> name = EncodeName(xattr->name);
    if (name) RETURN_IF_ERROR(take(*name, xattr->value));
  }
  return {};
}

uint64_t XattrEntryBytes(const EncodedName& name, std::string_view value) {
  return AlignUp(erofs::kXattrEntrySize + name.suffix.size() + value.size(), 4);
}

Result<uint64_t> XattrBytes(const LayerStack& stack, const MergedInode& inode,
                            const LayerInode& source) {
  uint64_t bytes = erofs::kXattrHeaderSize;
  const auto take_next = [&](const EncodedName& name, std::string_view value) -> Status {
    if (name.suffix.size() > erofs::kMaxName || value.size() > erofs::kMaxXattrValue)
      return Error{
          Code::kLimit,
          fmt::format("the extended attribute {} has a name of {} and a value of {} bytes, "
                      "more than the limits of {} and {}",
                      Quote(name.suffix), name.suffix.size(), value.size(), erofs::kMaxName,
                      erofs::kMaxXattrValue)};
    bytes += XattrEntryBytes(name, value);
    return {};
  };
  RETURN_IF_ERROR(ForEachXattrOf(stack, inode, source, take_next));
  if (bytes > erofs::kMaxXattrBytes)
    return Error{Code::kLimit,
                 fmt::format("its extended attributes take {} bytes, more than the limit of {}",
                             bytes, erofs::kMaxXattrBytes)};
  return bytes == erofs::kXattrHeaderSize ? 0 : bytes;
}

Result<FileExtent> ExtentOf(const LayerStack& stack, const MergedInode& inode,
                            const LayerInode& source, uint32_t number, uint64_t data_end) {
  ASSIGN_OR_RETURN(const FileExtent extent,
                   stack.layer(inode.layer).Extent(source.extent_first + number));
  const uint64_t flat_size = stack.layer(inode.layer).facts().flat_size;
  const bool fits =
      extent.length > 0 && extent.file_offset >= data_end && extent.file_offset < source.size &&
      extent.length <= AlignUp(source.size, kBlockSize) - extent.file_offset &&
      extent.flat_offset % kBlockSize == 0 && extent.file_offset % kBlockSize == 0 &&
      extent.flat_offset <= flat_size && extent.length <= flat_size - extent.flat_offset;
  if (!fits) return Error{Code::kCorrupt, "an extent in the layer's index is out of bounds"};
  return extent;
}

// The largest chunk in which every extent of a sparse file begins and ends, so that the array is
// short.
Result<uint32_t> SparseChunkBits(const LayerStack& stack, const MergedInode& inode,
                                 const LayerInode& source) {
  uint64_t cuts = 0;
  uint64_t end = 0;
  for (uint32_t i = 0; i < source.extent_count; ++i) {
    ASSIGN_OR_RETURN(const FileExtent extent, ExtentOf(stack, inode, source, i, end));
    end = extent.file_offset + extent.length;
    cuts |= extent.file_offset;
    if (end < source.size) cuts |= end;
  }
  const uint32_t bits = cuts == 0 ? 64 : static_cast<uint32_t>(std::countr_zero(cuts));
  if (bits < erofs::kBlockBits)
    return Error{Code::kCorrupt, "an extent in the layer's index ends inside a block"};
  return bits;
}

Status ShapeRegular(const LayerStack& stack, const MergedInode& inode, InodeShape* shape) {
  const LayerInode& source = shape->source;
  shape->size = source.size;
  if (source.size == 0) return {};
  if (source.size > uint64_t{INT64_MAX})
    return Error{Code::kInvalid, fmt::format("it has the impossible size {}", source.size)};
  uint32_t bits = 64;
  if (source.sparse) {
    ASSIGN_OR_RETURN(bits, SparseChunkBits(stack, inode, source));
  } else {
    const uint64_t flat_size = stack.layer(inode.layer).facts().flat_size;
    if (source.flat_offset % kBlockSize != 0 || source.flat_offset > flat_size ||
        source.size > flat_size - source.flat_offset)
      return Error{Code::kCorrupt, "its data is out of the bounds of the layer's address space"};
  }
  const auto whole = static_cast<uint32_t>(std::bit_width(source.size - 1));
  shape->layout = erofs::Layout::kChunked;
  shape->chunk_bits = std::clamp(std::min(bits, whole), erofs::kBlockBits, erofs::kMaxChunkBits);
  shape->chunk_count = ((source.size - 1) >> shape->chunk_bits) + 1;
  return {};
}

void ShapeDirectory(uint64_t size, InodeShape* shape) {
  shape->size = size;
  const uint64_t tail = size % kBlockSize;
  shape->plain_blocks = size / kBlockSize;
  if (tail > 0 && tail <= kMaxInline) {
    shape->layout = erofs::Layout::kInline;
    shape->inline_bytes = tail;
  } else if (tail > 0) {
    ++shape->plain_blocks;
  }
}

Status ShapeSymlink(InodeShape* shape) {
  shape->size = shape->source.symlink_target.size();
  if (shape->size == 0 || shape->size > kMaxTarget)
    return Error{shape->size == 0 ? Code::kInvalid : Code::kLimit,
                 fmt::format("its target has {} bytes, not 1 to {}", shape->size, kMaxTarget)};
  // Older kernels want the inode, its xattrs and the target in one block.
  if (sizeof(erofs::Inode) + shape->xattr_bytes + shape->size <= kBlockSize) {
    shape->layout = erofs::Layout::kInline;
    shape->inline_bytes = shape->size;
  } else {
    shape->plain_blocks = 1;
  }
  return {};
}

Status FillShape(const LayerStack& stack, const MergedInode& inode, InodeShape* shape) {
  shape->file_mode =
      static_cast<uint16_t>(TypeBits(shape->source.type) | (shape->source.mode & 07777));
  ASSIGN_OR_RETURN(shape->xattr_bytes, XattrBytes(stack, inode, shape->source));
  if (inode.directory) {
    ShapeDirectory(inode.directory_size, shape);
    return {};
  }
  if (shape->source.type == EntryType::kRegular) return ShapeRegular(stack, inode, shape);
  if (shape->source.type == EntryType::kSymlink) return ShapeSymlink(shape);
  return {};
}

erofs::ChunkIndex ChunkAt(uint32_t layer, uint64_t flat_offset) {
  return {0, static_cast<uint16_t>(layer + 1), static_cast<uint32_t>(flat_offset / kBlockSize)};
}

}  // namespace

Result<InodeShape> ShapeOf(const LayerStack& stack, const TreeOptions& options,
                           const MergedTree& tree, uint32_t inode) {
  const MergedInode& merged = tree.inodes[inode];
  InodeShape shape;
  ASSIGN_OR_RETURN(shape.source, SourceOf(stack, options, merged));
  const Status filled = FillShape(stack, merged, &shape);
  if (!filled)
    return filled.error().Within(
        fmt::format("{}: {}", stack.NameOf(merged.layer), Quote(tree.PathOf(stack, inode))));
  return shape;
}

Result<std::vector<uint8_t>> EncodeXattrs(const LayerStack& stack, const MergedInode& inode,
                                          const LayerInode& source) {
  std::vector<uint8_t> bytes(erofs::kXattrHeaderSize);
  const auto take_next = [&](const EncodedName& name, std::string_view value) -> Status {
    const size_t begin = bytes.size();
    bytes.resize(begin + XattrEntryBytes(name, value));
    uint8_t* entry = bytes.data() + begin;
    entry[0] = static_cast<uint8_t>(name.suffix.size());
    entry[1] = name.prefix;
    StoreLe<uint16_t>(entry + 2, static_cast<uint16_t>(value.size()));
    uint8_t* text =
        std::copy(name.suffix.begin(), name.suffix.end(), entry + erofs::kXattrEntrySize);
    std::copy(value.begin(), value.end(), text);
    return {};
  };
  RETURN_IF_ERROR(ForEachXattrOf(stack, inode, source, take_next));
  return bytes;
}

Status ForEachChunk(const LayerStack& stack, const MergedInode& inode, const InodeShape& shape,
                    const std::function<Status(const erofs::ChunkIndex&)>& take) {
  const LayerInode& source = shape.source;
  if (!source.sparse) {
    for (uint64_t chunk = 0; chunk < shape.chunk_count; ++chunk)
      RETURN_IF_ERROR(take(ChunkAt(inode.layer, source.flat_offset + (chunk << shape.chunk_bits))));
    return {};
  }
  uint64_t chunk = 0;
  for (uint32_t i = 0; i < source.extent_count; ++i) {
    ASSIGN_OR_RETURN(const FileExtent extent,
                     ExtentOf(stack, inode, source, i, chunk << shape.chunk_bits));
    for (; (chunk << shape.chunk_bits) < extent.file_offset; ++chunk)
      RETURN_IF_ERROR(take(erofs::kHole));
    const uint64_t end = extent.file_offset + extent.length;
    for (; chunk < shape.chunk_count && (chunk << shape.chunk_bits) < end; ++chunk) {
      const uint64_t inside = (chunk << shape.chunk_bits) - extent.file_offset;
      RETURN_IF_ERROR(take(ChunkAt(inode.layer, extent.flat_offset + inside)));
    }
  }
  for (; chunk < shape.chunk_count; ++chunk) RETURN_IF_ERROR(take(erofs::kHole));
  return {};
}

}  // namespace lamina
