// A library for LD_PRELOAD that lets the N-th call of one function of the C library fail, counted
// in the process. The environment arms it: LAMINA_FAULT_CALL (a name of the table below),
// LAMINA_FAULT_N (1 is the first after main() has begun), LAMINA_FAULT_ERRNO; LAMINA_FAULT_FROM,
// where it is there, lets the count begin when a file is opened whose path ends so;
// LAMINA_FAULT_LEAST lets allocations of at least so many bytes count alone. At its end the
// process writes how many such calls it made to LAMINA_FAULT_REPORT, so that who runs it knows
// whether one has failed. Calls that the C library makes inside itself are not seen.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "preload.h"

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
}

namespace {

struct Plan {
  char call[16] = {};
  char from[64] = {};
  long n = 0;
  int error = 0;
  size_t least = 0;
};

std::atomic<long> calls{0};
Plan plan;
std::atomic<bool> armed{false};
std::atomic<bool> counting{false};

void Arm() {
  const char* call = std::getenv("LAMINA_FAULT_CALL");
  const char* n = std::getenv("LAMINA_FAULT_N");
  const char* error = std::getenv("LAMINA_FAULT_ERRNO");
  if (call == nullptr || n == nullptr || error == nullptr) return;
  std::snprintf(plan.call, sizeof plan.call, "%s", call);
  plan.n = std::strtol(n, nullptr, 10);
  plan.error = static_cast<int>(std::strtol(error, nullptr, 10));
  const char* from = std::getenv("LAMINA_FAULT_FROM");
  std::snprintf(plan.from, sizeof plan.from, "%s", from == nullptr ? "" : from);
  const char* least = std::getenv("LAMINA_FAULT_LEAST");
  plan.least = least == nullptr ? 0 : std::strtoul(least, nullptr, 10);
  counting = from == nullptr;
  armed = true;
}

void BeginAt(const char* path) {
  const size_t length = std::strlen(path);
  const size_t end = std::strlen(plan.from);
  if (end > 0 && length >= end && std::strcmp(path + length - end, plan.from) == 0) counting = true;
}

__attribute__((destructor)) void Report() {
  const char* path = std::getenv("LAMINA_FAULT_REPORT");
  counting = false;
  if (!armed.exchange(false) || path == nullptr) return;
  char text[32];
  const int length = std::snprintf(text, sizeof text, "%ld\n", calls.load());
  const long fd = ::syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) return;
  ::syscall(SYS_write, fd, text, static_cast<size_t>(length));
  ::syscall(SYS_close, fd);
}

// Is this the call that is to fail? errno is set then.
bool Fails(const char* call) {
  if (!counting.load(std::memory_order_relaxed) || std::strcmp(call, plan.call) != 0) return false;
  if (calls.fetch_add(1) + 1 != plan.n) return false;
  errno = plan.error;
  return true;
}

bool OpenFails(const char* path) {
  BeginAt(path);
  return Fails("open");
}

}  // namespace

// Armed where main() begins: what fails before that nobody could catch.
using Main = int (*)(int, char**, char**);
static Main real_main = nullptr;

static int ArmedMain(int argc, char** argv, char** environment) {
  Arm();
  return real_main(argc, argv, environment);
}

extern "C" int __libc_start_main(Main main, int argc, char** argv, void (*begin)(), void (*end)(),
                                 void (*loader_end)(), void* stack) {
  real_main = main;
  auto* const real =
      Real<int(Main, int, char**, void (*)(), void (*)(), void (*)(), void*)>("__libc_start_main");
  return real(ArmedMain, argc, argv, begin, end, loader_end, stack);
}

// Each wraps the function of its name; the 64-bit twins count with the plain ones.
#define WRAP(result, name, as, parameters, arguments, failure) \
  extern "C" result name parameters {                          \
    if (Fails(as)) return failure;                             \
    static auto* const real = Real<result parameters>(#name);  \
    return real arguments;                                     \
  }

WRAP(ssize_t, write, "write", (int fd, const void* data, size_t size), (fd, data, size), -1)
WRAP(ssize_t, pwrite, "pwrite", (int fd, const void* data, size_t size, off_t at),
     (fd, data, size, at), -1)
WRAP(ssize_t, pwrite64, "pwrite", (int fd, const void* data, size_t size, off64_t at),
     (fd, data, size, at), -1)
WRAP(ssize_t, pread, "pread", (int fd, void* data, size_t size, off_t at), (fd, data, size, at), -1)
WRAP(ssize_t, pread64, "pread", (int fd, void* data, size_t size, off64_t at), (fd, data, size, at),
     -1)
WRAP(int, rename, "rename", (const char* from, const char* to), (from, to), -1)
WRAP(int, linkat, "rename",
     (int from_folder, const char* from, int to_folder, const char* to, int flags),
     (from_folder, from, to_folder, to, flags), -1)
WRAP(int, fsync, "fsync", (int fd), (fd), -1)
WRAP(int, fdatasync, "fsync", (int fd), (fd), -1)
WRAP(int, fallocate, "fallocate", (int fd, int mode, off_t at, off_t size), (fd, mode, at, size),
     -1)
WRAP(int, fallocate64, "fallocate", (int fd, int mode, off64_t at, off64_t size),
     (fd, mode, at, size), -1)
WRAP(int, ftruncate, "ftruncate", (int fd, off_t size), (fd, size), -1)
WRAP(int, ftruncate64, "ftruncate", (int fd, off64_t size), (fd, size), -1)
WRAP(void*, mmap, "mmap", (void* at, size_t size, int protection, int flags, int fd, off_t offset),
     (at, size, protection, flags, fd, offset), MAP_FAILED)
WRAP(void*, mmap64, "mmap",
     (void* at, size_t size, int protection, int flags, int fd, off64_t offset),
     (at, size, protection, flags, fd, offset), MAP_FAILED)
WRAP(ssize_t, recv, "recv", (int fd, void* data, size_t size, int flags), (fd, data, size, flags),
     -1)
WRAP(ssize_t, send, "send", (int fd, const void* data, size_t size, int flags),
     (fd, data, size, flags), -1)
WRAP(int, connect, "connect", (int fd, const sockaddr* to, socklen_t size), (fd, to, size), -1)
WRAP(int, socket, "socket", (int family, int type, int protocol), (family, type, protocol), -1)

WRAP_OPEN(open, OpenFails(path))
WRAP_OPEN(open64, OpenFails(path))

namespace {
bool AllocationFails(size_t size) { return size >= plan.least && Fails("malloc"); }
}  // namespace

extern "C" void* malloc(size_t size) {
  return AllocationFails(size) ? nullptr : __libc_malloc(size);
}
extern "C" void* calloc(size_t count, size_t size) {
  return AllocationFails(count * size) ? nullptr : __libc_calloc(count, size);
}
extern "C" void* realloc(void* old, size_t size) {
  return AllocationFails(size) ? nullptr : __libc_realloc(old, size);
}
