#include "overlay/tree.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/text.h"
#include "overlay/erofs_view.h"

namespace lamina {
namespace {

using erofs::kBlockSize;
using erofs::kHole;

// Map() joins at most this many chunks, so that one call has a bound.
constexpr uint64_t kMaxJoined = 1024;
// A cookie is a block's number and the number of an entry in it; a block has at most 341.
constexpr uint32_t kCookieShift = 16;
constexpr uint64_t kCookieMask = (uint64_t{1} << kCookieShift) - 1;

Result<EntryType> TypeOfMode(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EntryType::kRegular;
    case S_IFDIR:
      return EntryType::kDirectory;
    case S_IFLNK:
      return EntryType::kSymlink;
    case S_IFCHR:
      return EntryType::kCharDevice;
    case S_IFBLK:
      return EntryType::kBlockDevice;
    case S_IFIFO:
      return EntryType::kFifo;
    case S_IFSOCK:
      return EntryType::kSocket;
    default:
      return Error{Code::kCorrupt,
                   fmt::format("an inode of the tree has the unknown mode {:o}", mode)};
  }
}

Result<TreeDirent> ToDirent(const DirentView& view) {
  static constexpr std::array<EntryType, 8> kTypes = {
      EntryType::kHardlink,    EntryType::kRegular, EntryType::kDirectory, EntryType::kCharDevice,
      EntryType::kBlockDevice, EntryType::kFifo,    EntryType::kSocket,    EntryType::kSymlink};
  if (view.type == 0 || view.type >= kTypes.size())
    return Error{Code::kCorrupt, "an entry of a tree directory has an unknown type"};
  return TreeDirent{view.name, view.nid, kTypes[view.type]};
}

// Superblock and trailer, checked against each other and the file's size.
struct Headers {
  erofs::Superblock super;
  erofs::Trailer trailer;
  uint64_t image_bytes = 0;
};

Error Damaged(std::string_view path, std::string_view reason) {
  return Error{Code::kCorrupt, fmt::format("tree file {}: {}", path, reason)};
}

Status CheckHeaders(const Headers& headers, std::string_view path) {
  const erofs::Superblock& super = headers.super;
  const erofs::Trailer& trailer = headers.trailer;
  if (super.magic != erofs::kMagic || super.block_bits != erofs::kBlockBits ||
      super.meta_block != 0)
    return Damaged(path, "it has no superblock of a tree");
  constexpr uint32_t kKnown = erofs::kIncompatChunkedFile | erofs::kIncompatDeviceTable;
  if ((super.feature_incompat & ~kKnown) != 0) return Damaged(path, "it uses unknown features");
  if (trailer.magic != erofs::Trailer{}.magic) return Damaged(path, "it has no trailer");
  if (trailer.version != erofs::kTrailerVersion) return Damaged(path, "it is of another version");
  if (trailer.image_bytes != headers.image_bytes ||
      uint64_t{super.blocks} * kBlockSize != headers.image_bytes)
    return Damaged(path, "its size differs from what it says");
  const uint64_t table = super.device_slot * sizeof(erofs::DeviceSlot);
  if (table + super.device_count * sizeof(erofs::DeviceSlot) > headers.image_bytes)
    return Damaged(path, "its device table is out of bounds");
  return {};
}

Result<Headers> ReadHeaders(ByteSpan bytes, std::string_view path) {
  Headers headers;
  if (bytes.size() < 2 * kBlockSize || bytes.size() % kBlockSize != 0)
    return Damaged(path, "its size is that of no tree");
  headers.image_bytes = bytes.size() - sizeof(erofs::Trailer);
  std::memcpy(&headers.super, bytes.data() + erofs::kSuperOffset, sizeof headers.super);
  std::memcpy(&headers.trailer, bytes.data() + headers.image_bytes, sizeof headers.trailer);
  RETURN_IF_ERROR(CheckHeaders(headers, path));
  return headers;
}

Status CheckTrailerCrc(const Headers& headers, uint32_t image_crc, std::string_view path) {
  const ByteSpan trailer{reinterpret_cast<const uint8_t*>(&headers.trailer),
                         sizeof headers.trailer};
  if (Crc32c(trailer.first(offsetof(erofs::Trailer, trailer_crc))) != headers.trailer.trailer_crc ||
      image_crc != headers.trailer.image_crc)
    return Damaged(path, "its checksum is wrong");
  return {};
}

// Reads instead of touching the mapping, so that the file does not become resident in this process.
Result<uint32_t> ChecksumOfFile(const std::string& path, uint64_t bytes) {
  constexpr uint64_t kStep = 256u << 10;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenOwnFile(path, O_RDONLY));
  std::vector<uint8_t> buffer(std::min(kStep, bytes));
  uint32_t crc = 0xFFFFFFFF;
  for (uint64_t at = 0; at < bytes; at += kStep) {
    const MutableByteSpan step = MutableByteSpan(buffer).first(std::min(kStep, bytes - at));
    RETURN_IF_ERROR(PreadExactly(fd.get(), step, at, path));
    crc = Crc32c(step, crc);
  }
  return crc;
}

}  // namespace

struct Tree::Impl {
  std::optional<MappedFile> file;
  std::string path = "(memory)";
  uint64_t file_bytes = 0;
  Headers headers;
  ErofsView view;

  // Asked after bytes were read and before they are believed.
  Status Intact() const;
  Result<InodeView> Inode(Nid nid) const;
  Result<DirentView> DirentAt(const DirectoryBlock& block, uint32_t index) const;
  Result<erofs::ChunkIndex> Chunk(const InodeView& inode, uint64_t number) const;
  // Reads of every page that holds xattrs, whose views leave this class.
  Status TouchXattrs(const InodeView& inode) const;
  Result<InodeView> Directory(Nid nid) const;
  Result<InodeView> Regular(Nid nid) const;
  Result<DataExtent> ExtentOfChunk(const InodeView& inode, uint64_t number) const;
};

Status Tree::Impl::Intact() const {
  if (!file || !file->damaged()) return {};
  return Damaged(path, "a page of it cannot be read");
}

Result<InodeView> Tree::Impl::Inode(Nid nid) const {
  auto inode = view.Inode(nid);
  RETURN_IF_ERROR(Intact());
  return inode;
}

// A name is in the page of its entry.
Result<DirentView> Tree::Impl::DirentAt(const DirectoryBlock& block, uint32_t index) const {
  auto entry = block.At(index);
  RETURN_IF_ERROR(Intact());
  return entry;
}

Result<erofs::ChunkIndex> Tree::Impl::Chunk(const InodeView& inode, uint64_t number) const {
  auto chunk = view.Chunk(inode, number);
  RETURN_IF_ERROR(Intact());
  return chunk;
}

Status Tree::Impl::TouchXattrs(const InodeView& inode) const {
  const ByteSpan bytes = view.image().subspan(inode.xattr_offset, inode.xattr_bytes);
  const volatile uint8_t* data = bytes.data();
  for (size_t at = 0; at < bytes.size(); at += kBlockSize) (void)data[at];
  if (!bytes.empty()) (void)data[bytes.size() - 1];
  return Intact();
}

Tree::Tree() : impl_(std::make_unique<Impl>()) {}
Tree::~Tree() = default;

Result<std::shared_ptr<const Tree>> Tree::Open(const std::string& path) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(Headers headers, ReadHeaders(file.bytes(), path));
  ASSIGN_OR_RETURN(const uint32_t crc, ChecksumOfFile(path, headers.image_bytes));
  RETURN_IF_ERROR(CheckTrailerCrc(headers, crc, path));
  std::shared_ptr<Tree> tree(new Tree());
  tree->root_ = headers.super.root_nid;
  tree->impl_->path = path;
  tree->impl_->file_bytes = file.bytes().size();
  tree->impl_->view = ErofsView(file.bytes().first(headers.image_bytes));
  tree->impl_->headers = headers;
  tree->impl_->file.emplace(std::move(file));
  return std::shared_ptr<const Tree>(std::move(tree));
}

Result<std::shared_ptr<const Tree>> Tree::FromBytes(ByteSpan bytes, bool check_checksum) {
  std::shared_ptr<Tree> tree(new Tree());
  ASSIGN_OR_RETURN(Headers headers, ReadHeaders(bytes, tree->impl_->path));
  if (check_checksum)
    RETURN_IF_ERROR(
        CheckTrailerCrc(headers, Crc32c(bytes.first(headers.image_bytes)), tree->impl_->path));
  tree->root_ = headers.super.root_nid;
  tree->impl_->file_bytes = bytes.size();
  tree->impl_->view = ErofsView(bytes.first(headers.image_bytes));
  tree->impl_->headers = headers;
  return std::shared_ptr<const Tree>(std::move(tree));
}

uint64_t Tree::inode_count() const { return impl_->headers.trailer.inode_count; }
uint32_t Tree::device_count() const { return impl_->headers.super.device_count; }
bool Tree::has_xattrs() const { return (impl_->headers.trailer.flags & erofs::kHasXattrs) != 0; }
uint64_t Tree::file_bytes() const { return impl_->file_bytes; }
const std::string& Tree::path() const { return impl_->path; }

uint64_t Tree::device_bytes(uint32_t device) const {
  if (device >= device_count()) return 0;
  erofs::DeviceSlot slot;
  const uint64_t at = (uint64_t{impl_->headers.super.device_slot} + device) * sizeof slot;
  std::memcpy(&slot, impl_->view.image().data() + at, sizeof slot);
  return uint64_t{slot.blocks} * kBlockSize;
}

Result<TreeAttr> Tree::Stat(Nid nid) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Inode(nid));
  const erofs::Inode& record = inode.record;
  TreeAttr attr;
  ASSIGN_OR_RETURN(attr.type, TypeOfMode(record.mode));
  attr.nid = nid;
  attr.mode = record.mode & 07777;
  attr.nlink = record.nlink;
  attr.uid = record.uid;
  attr.gid = record.gid;
  attr.size = record.size;
  attr.mtime_s = record.mtime;
  attr.mtime_ns = record.mtime_ns;
  if (attr.type == EntryType::kCharDevice || attr.type == EntryType::kBlockDevice) {
    attr.device_major = (record.u >> 8) & 0xFFF;
    attr.device_minor = (record.u & 0xFF) | ((record.u >> 12) & 0xFFF00);
  }
  return attr;
}

Result<InodeView> Tree::Impl::Directory(Nid nid) const {
  ASSIGN_OR_RETURN(InodeView inode, Inode(nid));
  if (!S_ISDIR(inode.record.mode))
    return Error{Code::kInvalid, fmt::format("tree inode {} is not a directory", nid)};
  return inode;
}

Result<InodeView> Tree::Impl::Regular(Nid nid) const {
  ASSIGN_OR_RETURN(InodeView inode, Inode(nid));
  if (!S_ISREG(inode.record.mode))
    return Error{Code::kInvalid, fmt::format("tree inode {} is not a regular file", nid)};
  if (inode.record.size > 0 && inode.layout != erofs::Layout::kChunked)
    return Error{Code::kCorrupt, fmt::format("the file of tree inode {} has no chunks", nid)};
  return inode;
}

Result<std::optional<TreeDirent>> Tree::Lookup(Nid directory, std::string_view name) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Directory(directory));
  // The last block whose first name is not after `name`.
  uint64_t low = 0;
  uint64_t high = ErofsView::BlockCount(inode);
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    ASSIGN_OR_RETURN(const DirectoryBlock block, impl_->view.Block(inode, middle));
    ASSIGN_OR_RETURN(const DirentView first, impl_->DirentAt(block, 0));
    if (first.name <= name) {
      low = middle;
    } else {
      high = middle;
    }
  }
  if (low == high) return std::optional<TreeDirent>();
  ASSIGN_OR_RETURN(const DirectoryBlock block, impl_->view.Block(inode, low));
  uint32_t begin = 0;
  uint32_t end = block.count();
  while (begin < end) {
    const uint32_t middle = begin + (end - begin) / 2;
    ASSIGN_OR_RETURN(const DirentView entry, impl_->DirentAt(block, middle));
    const int order = entry.name.compare(name);
    if (order == 0) {
      ASSIGN_OR_RETURN(const TreeDirent dirent, ToDirent(entry));
      return std::optional<TreeDirent>(dirent);
    }
    if (order < 0) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return std::optional<TreeDirent>();
}

Status Tree::ReadDirectory(Nid directory, uint64_t cookie, const Visitor& visit) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Directory(directory));
  const uint64_t blocks = ErofsView::BlockCount(inode);
  uint64_t slot = cookie & kCookieMask;
  for (uint64_t number = cookie >> kCookieShift; number < blocks; ++number) {
    ASSIGN_OR_RETURN(const DirectoryBlock block, impl_->view.Block(inode, number));
    for (; slot < block.count(); ++slot) {
      ASSIGN_OR_RETURN(const DirentView entry, impl_->DirentAt(block, static_cast<uint32_t>(slot)));
      ASSIGN_OR_RETURN(const TreeDirent dirent, ToDirent(entry));
      if (!visit(dirent, (number << kCookieShift) + slot + 1)) return {};
    }
    slot = 0;
  }
  return {};
}

Result<std::string> Tree::ReadLink(Nid nid) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Inode(nid));
  if (!S_ISLNK(inode.record.mode))
    return Error{Code::kInvalid, fmt::format("tree inode {} is not a symbolic link", nid)};
  ASSIGN_OR_RETURN(const std::string_view target, impl_->view.Target(inode));
  std::string copy(target);
  RETURN_IF_ERROR(impl_->Intact());
  return copy;
}

// The chunk as an extent, cut at the end of the file.
Result<DataExtent> Tree::Impl::ExtentOfChunk(const InodeView& inode, uint64_t number) const {
  ASSIGN_OR_RETURN(const erofs::ChunkIndex chunk, Chunk(inode, number));
  const uint32_t bits = ErofsView::ChunkBits(inode);
  DataExtent extent;
  extent.length = std::min(uint64_t{1} << bits, inode.record.size - (number << bits));
  extent.hole = chunk.block == erofs::kNoBlock;
  if (extent.hole) return extent;
  const erofs::Superblock& super = headers.super;
  if (chunk.device == 0 || chunk.device > super.device_count)
    return Error{Code::kCorrupt,
                 fmt::format("the data of tree inode {} is on an unknown device", inode.nid)};
  extent.device = chunk.device - 1u;
  extent.flat_offset = uint64_t{chunk.block} * kBlockSize;
  return extent;
}

Result<DataExtent> Tree::Map(Nid nid, uint64_t offset) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Regular(nid));
  if (offset >= inode.record.size)
    return Error{Code::kInvalid,
                 fmt::format("offset {} is behind the end of tree inode {}", offset, nid)};
  const uint32_t bits = ErofsView::ChunkBits(inode);
  uint64_t number = offset >> bits;
  ASSIGN_OR_RETURN(DataExtent extent, impl_->ExtentOfChunk(inode, number));
  const uint64_t last = (inode.record.size - 1) >> bits;
  const uint64_t bound = std::min(last, number + kMaxJoined);
  const uint64_t start = number << bits;
  while (number < bound) {
    ASSIGN_OR_RETURN(const DataExtent next, impl_->ExtentOfChunk(inode, ++number));
    const bool joins = next.hole == extent.hole &&
                       (next.hole || (next.device == extent.device &&
                                      next.flat_offset == extent.flat_offset + extent.length));
    if (!joins) break;
    extent.length += next.length;
  }
  extent.length -= offset - start;
  if (extent.hole) return extent;
  extent.flat_offset += offset - start;
  const uint64_t device = device_bytes(extent.device);
  if (extent.flat_offset > device || extent.length > device - extent.flat_offset)
    return Error{Code::kCorrupt,
                 fmt::format("the data of tree inode {} is behind the end of its device", nid)};
  return extent;
}

Result<uint64_t> Tree::Seek(Nid nid, uint64_t offset, bool hole) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Regular(nid));
  const uint64_t size = inode.record.size;
  const Error none{Code::kNotFound,
                   fmt::format("there is nothing behind offset {} of tree inode {}", offset, nid)};
  if (offset >= size) return none;
  const uint32_t bits = ErofsView::ChunkBits(inode);
  // Ends at the latest where the chunk array leaves the file.
  for (uint64_t number = offset >> bits; number <= (size - 1) >> bits; ++number) {
    ASSIGN_OR_RETURN(const erofs::ChunkIndex chunk, impl_->Chunk(inode, number));
    if ((chunk.block == erofs::kNoBlock) == hole) return std::max(offset, number << bits);
  }
  if (hole) return size;
  return none;
}

Status Tree::ForEachXattr(
    Nid nid,
    const std::function<bool(std::string_view name, std::string_view value)>& visit) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Inode(nid));
  RETURN_IF_ERROR(impl_->TouchXattrs(inode));
  std::string name;
  return impl_->view.ForEachXattr(
      inode, [&](std::string_view prefix, std::string_view suffix, std::string_view value) {
        name.assign(prefix).append(suffix);
        return visit(name, value);
      });
}

Result<std::optional<std::string_view>> Tree::Xattr(Nid nid, std::string_view name) const {
  ASSIGN_OR_RETURN(const InodeView inode, impl_->Inode(nid));
  RETURN_IF_ERROR(impl_->TouchXattrs(inode));
  std::optional<std::string_view> found;
  RETURN_IF_ERROR(impl_->view.ForEachXattr(
      inode, [&](std::string_view prefix, std::string_view suffix, std::string_view value) {
        const bool same = name.size() == prefix.size() + suffix.size() &&
                          name.starts_with(prefix) && name.ends_with(suffix);
        if (same) found = value;
        return !same;
      }));
  return found;
}

}  // namespace lamina
