#pragma once

// Tree: a mapped tree file (EROFS, as tree_builder.h writes it) and the questions a file system
// asks. Nothing is parsed at opening and nothing allocated per lookup. The file is not trusted:
// whatever is out of bounds is an Error (kCorrupt). Immutable; any thread; views live as long as
// the Tree.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/result.h"
#include "index/tar.h"

namespace lamina {

using Nid = uint64_t;  // EROFS node id: offset of the inode in the file / 32

struct TreeAttr {
  Nid nid = 0;
  EntryType type = EntryType::kRegular;
  uint32_t mode = 0;  // permission bits, 07777
  uint32_t nlink = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
};

struct TreeDirent {
  std::string_view name;  // "." and ".." come too
  Nid nid = 0;
  EntryType type = EntryType::kRegular;
};

// Where a stretch of a file's bytes is: `length` bytes at `flat_offset` of layer `device` (0 =
// bottom layer), or a hole.
struct DataExtent {
  bool hole = false;
  uint32_t device = 0;
  uint64_t flat_offset = 0;
  uint64_t length = 0;
};

class Tree {
 public:
  // kNotFound where there is no file; kCorrupt where superblock, checksum or trailer do not fit
  // (delete and rebuild).
  static Result<std::shared_ptr<const Tree>> Open(const std::string& path);
  // For fuzzers and tests: bytes that outlive the result; checksums unchecked where asked.
  static Result<std::shared_ptr<const Tree>> FromBytes(ByteSpan bytes, bool check_checksum = true);

  Nid root() const { return root_; }
  uint64_t inode_count() const;
  uint32_t device_count() const;
  uint64_t device_bytes(uint32_t device) const;  // flat size
  bool has_xattrs() const;                       // any file in the tree has one
  uint64_t file_bytes() const;
  const std::string& path() const;

  Result<TreeAttr> Stat(Nid nid) const;
  // nullopt where the directory has no such name. Binary search in the mapped blocks.
  Result<std::optional<TreeDirent>> Lookup(Nid directory, std::string_view name) const;
  // Walks a directory from `cookie` (0 = start; else as given with the last entry). The visitor
  // gets each entry with the cookie that follows it and returns false to stop. Cookies are stable
  // for ever.
  using Visitor = std::function<bool(const TreeDirent&, uint64_t next_cookie)>;
  Status ReadDirectory(Nid directory, uint64_t cookie, const Visitor& visit) const;
  Result<std::string> ReadLink(Nid nid) const;
  // The extent that begins at `offset` of a regular file and goes on as far as its bytes (or the
  // hole) are contiguous, at most to the end of file; it may be cut short after many pieces.
  // kInvalid at or behind the end of file.
  Result<DataExtent> Map(Nid nid, uint64_t offset) const;
  // The first offset at or after `offset` that is data (or hole); the size counts as a hole. For
  // SEEK_DATA/SEEK_HOLE. kNotFound where there is none, and for offsets at or behind the end of
  // file (ENXIO).
  Result<uint64_t> Seek(Nid nid, uint64_t offset, bool hole) const;
  // Names with their namespace.
  Status ForEachXattr(
      Nid nid,
      const std::function<bool(std::string_view name, std::string_view value)>& visit) const;
  Result<std::optional<std::string_view>> Xattr(Nid nid, std::string_view name) const;

 private:
  struct Impl;
  Tree();
  Nid root_ = 0;
  std::unique_ptr<Impl> impl_;

 public:
  ~Tree();
};

}  // namespace lamina
