#include "overlay/erofs_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace lamina {
namespace {

using erofs::kBlockSize;

Error Corrupt(uint64_t nid, std::string_view reason) {
  return Error{Code::kCorrupt, fmt::format("tree inode {}: {}", nid, reason)};
}

bool IsKnown(erofs::Layout layout) {
  return layout == erofs::Layout::kPlain || layout == erofs::Layout::kInline ||
         layout == erofs::Layout::kChunked;
}

std::string_view XattrPrefix(uint8_t index) {
  switch (index) {
    case erofs::kXattrUser:
      return "user.";
    case erofs::kXattrTrusted:
      return "trusted.";
    case erofs::kXattrSecurity:
      return "security.";
    default:
      return {};
  }
}

}  // namespace

Result<DirectoryBlock> DirectoryBlock::Parse(ByteSpan bytes) {
  const Error corrupt{Code::kCorrupt, "a directory block of the tree is damaged"};
  if (bytes.size() < erofs::kDirentSize) return corrupt;
  const uint16_t first_name = LoadLe<uint16_t>(bytes.data() + 8);
  if (first_name == 0 || first_name % erofs::kDirentSize != 0 || first_name > bytes.size())
    return corrupt;
  return DirectoryBlock(bytes, static_cast<uint32_t>(first_name / erofs::kDirentSize));
}

uint64_t DirectoryBlock::NameOffset(uint32_t index) const {
  return LoadLe<uint16_t>(bytes_.data() + index * erofs::kDirentSize + 8);
}

Result<DirentView> DirectoryBlock::At(uint32_t index) const {
  const uint64_t begin = NameOffset(index);
  const bool last = index + 1 == count_;
  uint64_t end = last ? bytes_.size() : NameOffset(index + 1);
  if (begin < count_ * erofs::kDirentSize || begin >= end || end > bytes_.size())
    return Error{Code::kCorrupt, "a name in a directory block of the tree is out of bounds"};
  std::string_view name = AsText(bytes_.subspan(begin, end - begin));
  if (last) name = name.substr(0, name.find('\0'));  // the block is padded
  if (name.empty() || name.size() > erofs::kMaxName)
    return Error{Code::kCorrupt, "a name in a directory block of the tree is empty or too long"};
  const uint8_t* dirent = bytes_.data() + index * erofs::kDirentSize;
  return DirentView{name, LoadLe<uint64_t>(dirent), dirent[10]};
}

Result<InodeView> ErofsView::Inode(uint64_t nid) const {
  InodeView view;
  view.nid = nid;
  if (nid > image_.size() / erofs::kSlotSize) return Corrupt(nid, "it is outside the tree");
  const uint64_t offset = nid * erofs::kSlotSize;
  if (image_.size() - offset < sizeof view.record || offset < erofs::kSuperOffset)
    return Corrupt(nid, "it is outside the tree");
  std::memcpy(&view.record, image_.data() + offset, sizeof view.record);
  view.layout =
      static_cast<erofs::Layout>((view.record.format >> erofs::kLayoutShift) & erofs::kLayoutMask);
  if ((view.record.format & erofs::kExtended) == 0 || !IsKnown(view.layout))
    return Corrupt(nid, "its format is unknown");
  if (view.record.size > uint64_t{INT64_MAX}) return Corrupt(nid, "its size is impossible");
  view.xattr_offset = offset + sizeof view.record;
  if (view.record.xattr_count > 0)
    view.xattr_bytes = erofs::kXattrHeaderSize + (view.record.xattr_count - uint64_t{1}) * 4;
  view.body_offset = view.xattr_offset + view.xattr_bytes;
  if (view.body_offset > image_.size())
    return Corrupt(nid, "its extended attributes end outside the tree");
  return view;
}

uint64_t ErofsView::BlockCount(const InodeView& inode) {
  return inode.record.size / kBlockSize + (inode.record.size % kBlockSize != 0 ? 1 : 0);
}

Result<ByteSpan> ErofsView::Content(const InodeView& inode, uint64_t offset,
                                    uint64_t length) const {
  uint64_t at = uint64_t{inode.record.u} * kBlockSize + offset;
  const bool tail = inode.layout == erofs::Layout::kInline &&
                    offset / kBlockSize == inode.record.size / kBlockSize;
  if (tail) at = inode.body_offset + offset % kBlockSize;
  const bool has_block = tail || inode.record.u != erofs::kNoBlock;
  if (inode.layout == erofs::Layout::kChunked || !has_block || at > image_.size() ||
      length > image_.size() - at)
    return Corrupt(inode.nid, "its content is outside the tree");
  return image_.subspan(at, length);
}

Result<DirectoryBlock> ErofsView::Block(const InodeView& inode, uint64_t index) const {
  const uint64_t offset = index * kBlockSize;
  const uint64_t length = std::min(kBlockSize, inode.record.size - offset);
  ASSIGN_OR_RETURN(const ByteSpan bytes, Content(inode, offset, length));
  return DirectoryBlock::Parse(bytes);
}

Result<std::string_view> ErofsView::Target(const InodeView& inode) const {
  if (inode.record.size == 0 || inode.record.size >= kBlockSize)
    return Corrupt(inode.nid, "the target of its symbolic link is empty or too long");
  ASSIGN_OR_RETURN(const ByteSpan bytes, Content(inode, 0, inode.record.size));
  return AsText(bytes);
}

Status ErofsView::ForEachXattr(const InodeView& inode, const XattrVisitor& visit) const {
  if (inode.xattr_bytes == 0) return {};
  ByteSpan rest = image_.subspan(inode.xattr_offset, inode.xattr_bytes);
  if (rest[4] != 0)
    return Corrupt(inode.nid, "it shares extended attributes, which lamina never writes");
  rest = rest.subspan(erofs::kXattrHeaderSize);
  while (rest.size() >= erofs::kXattrEntrySize) {
    const uint64_t name_bytes = rest[0];
    const std::string_view prefix = XattrPrefix(rest[1]);
    const uint64_t value_bytes = LoadLe<uint16_t>(rest.data() + 2);
    const uint64_t whole = AlignUp(erofs::kXattrEntrySize + name_bytes + value_bytes, 4);
    if (name_bytes == 0 || prefix.empty() || whole > rest.size())
      return Corrupt(inode.nid, "its extended attributes are damaged");
    const std::string_view text =
        AsText(rest.subspan(erofs::kXattrEntrySize, name_bytes + value_bytes));
    if (!visit(prefix, text.substr(0, name_bytes), text.substr(name_bytes))) return {};
    rest = rest.subspan(whole);
  }
  return {};
}

uint32_t ErofsView::ChunkBits(const InodeView& inode) {
  return erofs::kBlockBits + (inode.record.u & erofs::kChunkBitsMask);
}

Result<erofs::ChunkIndex> ErofsView::Chunk(const InodeView& inode, uint64_t number) const {
  if ((inode.record.u & ~erofs::kChunkBitsMask) != erofs::kChunkIndexes)
    return Corrupt(inode.nid, "the format of its chunks is unknown");
  const uint64_t array = AlignUp(inode.body_offset, sizeof(erofs::ChunkIndex));
  erofs::ChunkIndex chunk;
  // `number` is at most 2^51, as sizes have 63 bits and chunks 12 at least.
  const uint64_t at = array + number * sizeof chunk;
  if (at > image_.size() || image_.size() - at < sizeof chunk)
    return Corrupt(inode.nid, "its chunks are outside the tree");
  std::memcpy(&chunk, image_.data() + at, sizeof chunk);
  return chunk;
}

}  // namespace lamina
