#include "fetch/file_identity.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <ctime>

#include "base/errno.h"

namespace lamina {
namespace {

// Longer than any tick of the clock that file times are taken from.
constexpr int64_t kSettledNs = 100'000'000;

int64_t Nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

FileIdentity IdentityOf(const struct stat& st) {
  return {st.st_dev, st.st_ino, static_cast<uint64_t>(st.st_size), Nanoseconds(st.st_mtim),
          Nanoseconds(st.st_ctim)};
}

}  // namespace

Result<FileIdentity> IdentifyFile(const std::string& path, bool follow) {
  struct stat st {};
  if (::fstatat(AT_FDCWD, path.c_str(), &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
    return ErrnoError(errno, "cannot stat " + path);
  return IdentityOf(st);
}

Result<FileIdentity> IdentifyOpenFile(int fd, const std::string& path) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return ErrnoError(errno, "cannot stat " + path);
  return IdentityOf(st);
}

bool IsSettled(const FileIdentity& identity) {
  timespec now{};
  // The clock that file times are taken from.
  (void)::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return Nanoseconds(now) - identity.changed_ns > kSettledNs;
}

}  // namespace lamina
