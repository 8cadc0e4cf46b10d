#pragma once

// SmallDisk: a file system of a few MiB for tests of full disks. It is mounted nowhere: only this
// process reaches it, through a descriptor, and it ends with the object or the process, whatever
// happens. Needs the right to mount. One thread makes it; any use it.

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace lamina::testing {

class SmallDisk {
 public:
  // kDenied, or what the kernel says, where this process may not make one.
  // `type`: tmpfs; or ramfs, which has no limit and no holes.
  static Result<SmallDisk> Create(uint64_t bytes, const std::string& type = "tmpfs");

  // An empty folder on it. Leads through /proc/self, so it means nothing to other processes.
  const std::string& path() const { return path_; }

  // In blocks; 0 where the disk does not tell.
  uint64_t UsedBytes() const;

  // As `mount -o remount,ro` does: while nobody has a file open for writing.
  Status SetReadOnly(bool read_only);

  // Writes `path()/filler` until nothing more fits; returns its name.
  std::string Fill() const;

 private:
  explicit SmallDisk(UniqueFd root);
  UniqueFd root_;
  std::string path_;
};

}  // namespace lamina::testing
