#include "fs/fuse_convert.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <sys/sysmacros.h>

#include "base/bytes.h"

namespace lamina {

mode_t TypeBits(EntryType type) {
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
    default:
      return S_IFREG;
  }
}

struct stat ToStat(const NodeAttr& attr) {
  struct stat out {};
  out.st_ino = attr.id;
  out.st_mode = TypeBits(attr.type) | (attr.mode & 07777);
  out.st_nlink = attr.nlink;
  out.st_uid = attr.uid;
  out.st_gid = attr.gid;
  out.st_rdev = makedev(attr.device_major, attr.device_minor);
  out.st_size = static_cast<off_t>(attr.size);
  out.st_blksize = 4096;
  out.st_blocks = static_cast<blkcnt_t>(AlignUp(attr.size, 4096) / 512);
  out.st_mtim = {.tv_sec = attr.mtime_s, .tv_nsec = attr.mtime_ns};
  out.st_atim = out.st_mtim;
  out.st_ctim = out.st_mtim;
  return out;
}

fuse_entry_param ToEntryParam(const NodeEntry& entry) {
  fuse_entry_param out{};
  out.ino = entry.attr.id;
  if (entry.attr.id != 0) out.attr = ToStat(entry.attr);
  out.attr_timeout = entry.attr_seconds;
  out.entry_timeout = entry.entry_seconds;
  return out;
}

}  // namespace lamina
