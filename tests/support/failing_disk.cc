// A library for LD_PRELOAD that makes one folder a disk that refuses to be changed, for as long as
// a file exists: LAMINA_FAULT_FOLDER (what begins with this path), LAMINA_FAULT_WHILE (the file),
// LAMINA_FAULT_ERRNO. Every write, cut, hole and sync of an open file there fails, and so does
// opening one for writing, making, naming and removing one. Calls that the C library makes inside
// itself are not seen.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "preload.h"

namespace {

bool IsRefusing() {
  static const char* const file = std::getenv("LAMINA_FAULT_WHILE");
  const int before = errno;
  const bool refusing = file != nullptr && ::access(file, F_OK) == 0;
  errno = before;
  return refusing;
}

bool IsBelow(const char* path) {
  static const char* const folder = std::getenv("LAMINA_FAULT_FOLDER");
  return folder != nullptr && std::strncmp(path, folder, std::strlen(folder)) == 0;
}

bool Refuse() {
  static const char* const error = std::getenv("LAMINA_FAULT_ERRNO");
  errno = error == nullptr ? EIO : std::atoi(error);
  return true;
}

// errno is set where the call is to fail.
bool Refuses(const char* path) { return IsRefusing() && IsBelow(path) && Refuse(); }

bool Refuses(int fd) {
  if (!IsRefusing()) return false;
  char name[64];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  char path[4096] = {};
  const int before = errno;
  const ssize_t length = ::readlink(name, path, sizeof path - 1);
  errno = before;
  return length > 0 && IsBelow(path) && Refuse();
}

bool Changes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0; }

}  // namespace

// Each wraps the function of its name; `what` is the file that it changes.
#define WRAP(result, name, parameters, arguments, what)       \
  extern "C" result name parameters {                         \
    if (Refuses(what)) return -1;                             \
    static auto* const real = Real<result parameters>(#name); \
    return real arguments;                                    \
  }

WRAP(ssize_t, write, (int fd, const void* data, size_t size), (fd, data, size), fd)
WRAP(ssize_t, pwrite, (int fd, const void* data, size_t size, off_t at), (fd, data, size, at), fd)
WRAP(ssize_t, pwrite64, (int fd, const void* data, size_t size, off64_t at), (fd, data, size, at),
     fd)
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size), fd)
WRAP(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), (fd, mode, at, size), fd)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), fd)
WRAP(int, ftruncate64, (int fd, off64_t size), (fd, size), fd)
WRAP(int, fsync, (int fd), (fd), fd)
WRAP(int, fdatasync, (int fd), (fd), fd)
WRAP(int, unlink, (const char* path), (path), path)
WRAP(int, mkdir, (const char* path, mode_t mode), (path, mode), path)
WRAP(int, rename, (const char* from, const char* to), (from, to), to)
WRAP(int, linkat, (int from_folder, const char* from, int to_folder, const char* to, int flags),
     (from_folder, from, to_folder, to, flags), to)

WRAP_OPEN(open, Changes(flags) && Refuses(path))
WRAP_OPEN(open64, Changes(flags) && Refuses(path))
