#include "tests/support/small_disk.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <vector>

#include "base/errno.h"
#include "base/file.h"

namespace lamina::testing {

SmallDisk::SmallDisk(UniqueFd root)
    : root_(std::move(root)), path_("/proc/self/fd/" + std::to_string(root_.get()) + "/disk") {}

Result<SmallDisk> SmallDisk::Create(uint64_t bytes, const std::string& type) {
  const UniqueFd context(::fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!context.valid()) return ErrnoError(errno, "cannot make a " + type);
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "size", std::to_string(bytes).c_str(), 0) != 0)
    return ErrnoError(errno, "cannot size a " + type);
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return ErrnoError(errno, "cannot make a " + type);
  UniqueFd root(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!root.valid()) return ErrnoError(errno, "cannot open a " + type);
  if (::mkdirat(root.get(), "disk", 0700) != 0)
    return ErrnoError(errno, "cannot make a folder on a " + type);
  return SmallDisk(std::move(root));
}

Status SmallDisk::SetReadOnly(bool read_only) {
  const UniqueFd context(::fspick(root_.get(), "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
  if (!context.valid()) return ErrnoError(errno, "cannot pick a tmpfs");
  const char* flag = read_only ? "ro" : "rw";
  if (::fsconfig(context.get(), FSCONFIG_SET_FLAG, flag, nullptr, 0) != 0 ||
      ::fsconfig(context.get(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0) != 0)
    return ErrnoError(errno, "cannot make a tmpfs " + std::string(flag));
  return {};
}

uint64_t SmallDisk::UsedBytes() const {
  struct statvfs disk {};
  if (::fstatvfs(root_.get(), &disk) != 0) return 0;
  return (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
}

std::string SmallDisk::Fill() const {
  const std::string filler = path_ + "/filler";
  const auto file = OpenFile(filler, O_WRONLY | O_CREAT);
  const std::vector<uint8_t> block(4096, 1);
  while (file && WriteExactly(file->get(), block, filler)) {
  }
  return filler;
}

}  // namespace lamina::testing
