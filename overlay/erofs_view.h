#pragma once

// ErofsView: bounds-checked access to the inodes, directory blocks, xattrs and chunks of an EROFS
// image of lamina's kind (erofs_format.h). Nothing is believed: what lies outside the image, or
// could not have been written by lamina, is kCorrupt. A value over bytes that outlive it; any
// thread.

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "overlay/erofs_format.h"

namespace lamina {

// One inode, decoded; offsets are bytes in the image and inside it.
struct InodeView {
  uint64_t nid = 0;
  erofs::Inode record;
  erofs::Layout layout = erofs::Layout::kPlain;
  uint64_t xattr_offset = 0;
  uint64_t xattr_bytes = 0;
  uint64_t body_offset = 0;  // behind the xattrs
};

struct DirentView {
  std::string_view name;
  uint64_t nid = 0;
  uint8_t type = 0;
};

// The entries of one directory block.
class DirectoryBlock {
 public:
  // At least one entry, and the entries inside the block.
  static Result<DirectoryBlock> Parse(ByteSpan bytes);
  uint32_t count() const { return count_; }
  Result<DirentView> At(uint32_t index) const;

 private:
  DirectoryBlock(ByteSpan bytes, uint32_t count) : bytes_(bytes), count_(count) {}
  uint64_t NameOffset(uint32_t index) const;
  ByteSpan bytes_;
  uint32_t count_;
};

class ErofsView {
 public:
  ErofsView() = default;
  // `image` without the trailer.
  explicit ErofsView(ByteSpan image) : image_(image) {}

  ByteSpan image() const { return image_; }
  Result<InodeView> Inode(uint64_t nid) const;
  // Of a directory: its number of blocks, and one of them.
  static uint64_t BlockCount(const InodeView& inode);
  Result<DirectoryBlock> Block(const InodeView& inode, uint64_t index) const;
  // The content of a symbolic link.
  Result<std::string_view> Target(const InodeView& inode) const;

  // Until `visit` returns false. The namespace comes with its dot: "user.".
  using XattrVisitor =
      std::function<bool(std::string_view prefix, std::string_view suffix, std::string_view value)>;
  Status ForEachXattr(const InodeView& inode, const XattrVisitor& visit) const;

  // Of a chunked file.
  static uint32_t ChunkBits(const InodeView& inode);
  Result<erofs::ChunkIndex> Chunk(const InodeView& inode, uint64_t number) const;

 private:
  // `length` bytes of an inode's content that begin at `offset` of it and lie in one block.
  Result<ByteSpan> Content(const InodeView& inode, uint64_t offset, uint64_t length) const;
  ByteSpan image_;
};

}  // namespace lamina
