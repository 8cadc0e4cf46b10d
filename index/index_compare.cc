#include "index/index_compare.h"

#include <algorithm>
#include <string>

#include "base/text.h"

namespace lamina {
namespace {

constexpr uint32_t kHalfSecond = 500'000'000;

// Writers of eStargz round times to seconds, halves up, and leave out a time within the first
// second of 1970. containers/storage keeps the nanoseconds.
bool SameTime(const LayerInode& toc, const LayerInode& tar) {
  if (toc.mtime_s == tar.mtime_s && toc.mtime_ns == tar.mtime_ns) return true;
  if (toc.mtime_ns != 0) return false;
  const int64_t rounded = tar.mtime_s + (tar.mtime_ns >= kHalfSecond ? 1 : 0);
  return toc.mtime_s == rounded || (toc.mtime_s == 0 && tar.mtime_s == 0);
}

class Comparison {
 public:
  Comparison(const LayerIndex& toc, const LayerIndex& tar) : toc_(toc), tar_(tar) {}

  Status Run() {
    const uint64_t entries = std::min(toc_.facts().entry_count, tar_.facts().entry_count);
    for (uint32_t number = 0; number < entries; ++number) {
      ASSIGN_OR_RETURN(const LayerEntry toc, toc_.Entry(number));
      ASSIGN_OR_RETURN(const LayerEntry tar, tar_.Entry(number));
      ASSIGN_OR_RETURN(const char* difference, EntryDifference(toc, tar));
      if (difference != nullptr) return Differs(number, difference);
    }
    if (toc_.facts().entry_count != tar_.facts().entry_count)
      return Error{Code::kInvalid,
                   "the table of contents has " + std::to_string(toc_.facts().entry_count) +
                       " entries, the tar " + std::to_string(tar_.facts().entry_count)};
    if (toc_.facts().flat_size != tar_.facts().flat_size)
      return Error{Code::kInvalid, "the table of contents has other data than the tar"};
    RETURN_IF_ERROR(toc_.Intact());
    return tar_.Intact();
  }

 private:
  // What the two differ in, or null. Entries are written breadth first with sorted names and inodes
  // in the order in which they came, which is the tar's for both: equal layers number them alike.
  Result<const char*> EntryDifference(const LayerEntry& toc, const LayerEntry& tar) const {
    if (toc.child_count != tar.child_count || toc.first_child != tar.first_child)
      return "what it contains";
    if (toc.name != tar.name) return "its name";
    if (toc.kind != tar.kind) return "its kind";
    if (toc.opaque != tar.opaque || toc.replaces != tar.replaces) return "what it hides below";
    if (toc.implicit != tar.implicit) return "whether it has an entry of its own";
    if (toc.link_path != tar.link_path) return "its link target";
    if (toc.kind != LayerEntry::Kind::kInode) return nullptr;
    if (toc.inode != tar.inode) return "its hard links, or its place in the order of the files";
    return InodeDifference(toc.inode);
  }

  Result<const char*> InodeDifference(uint32_t number) const {
    ASSIGN_OR_RETURN(const LayerInode toc, toc_.Inode(number));
    ASSIGN_OR_RETURN(const LayerInode tar, tar_.Inode(number));
    if (toc.type != tar.type) return "its type";
    if (toc.mode != tar.mode) return "its mode";
    if (toc.uid != tar.uid || toc.gid != tar.gid) return "its owner";
    if (!SameTime(toc, tar)) return "its modification time";
    if (toc.size != tar.size) return "its size";
    if (toc.device_major != tar.device_major || toc.device_minor != tar.device_minor)
      return "its device number";
    if (toc.symlink_target != tar.symlink_target) return "its target";
    if (toc.sparse != tar.sparse || toc.flat_offset != tar.flat_offset) return "where its data is";
    ASSIGN_OR_RETURN(const bool same_extents, SameExtents(toc, tar));
    if (!same_extents) return "where its data is";
    ASSIGN_OR_RETURN(const bool same_xattrs, SameXattrs(toc, tar));
    return same_xattrs ? nullptr : "its xattrs";
  }

  Result<bool> SameExtents(const LayerInode& toc, const LayerInode& tar) const {
    if (toc.extent_count != tar.extent_count) return false;
    for (uint32_t i = 0; i < toc.extent_count; ++i) {
      ASSIGN_OR_RETURN(const FileExtent a, toc_.Extent(toc.extent_first + i));
      ASSIGN_OR_RETURN(const FileExtent b, tar_.Extent(tar.extent_first + i));
      if (a.file_offset != b.file_offset || a.flat_offset != b.flat_offset || a.length != b.length)
        return false;
    }
    return true;
  }

  // Written in the order of their names.
  Result<bool> SameXattrs(const LayerInode& toc, const LayerInode& tar) const {
    if (toc.xattr_count != tar.xattr_count) return false;
    for (uint32_t i = 0; i < toc.xattr_count; ++i) {
      ASSIGN_OR_RETURN(const XattrView a, toc_.Xattr(toc.xattr_first + i));
      ASSIGN_OR_RETURN(const XattrView b, tar_.Xattr(tar.xattr_first + i));
      if (a.name != b.name || a.value != b.value) return false;
    }
    return true;
  }

  Error Differs(uint32_t number, const char* what) const {
    return Error{Code::kInvalid, "the table of contents and the tar differ at " +
                                     Quote(PathOf(number)) + ": " + what};
  }

  // Entries do not know their directory, which stands before them; asked once, for the message.
  std::string PathOf(uint32_t number) const {
    std::string path;
    for (uint32_t before = number; before > 0;) {
      --before;
      const Result<LayerEntry> directory = toc_.Entry(before);
      if (!directory || number < directory->first_child ||
          number - directory->first_child >= directory->child_count)
        continue;
      const Result<LayerEntry> entry = toc_.Entry(number);
      if (!entry) break;
      path = "/" + std::string(entry->name) + path;
      number = before;
    }
    return path.empty() ? "/" : path;
  }

  const LayerIndex& toc_;
  const LayerIndex& tar_;
};

}  // namespace

Status SameTree(const LayerIndex& toc, const LayerIndex& tar) { return Comparison(toc, tar).Run(); }

}  // namespace lamina
