#pragma once

// What libraries for LD_PRELOAD share that stand in for functions of the C library.

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>

#include <cstdarg>

namespace {

// The function that the library stands in for.
template <typename Function>
Function* Real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

mode_t ModeOf(int flags, va_list arguments) {
  const bool has_mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return has_mode ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

}  // namespace

// Wraps open or its 64-bit twin, which fails where `fails`, of `path` and `flags`, is true.
#define WRAP_OPEN(name, fails)                                            \
  extern "C" int name(const char* path, int flags, ...) {                 \
    if (fails) return -1;                                                 \
    va_list arguments;                                                    \
    va_start(arguments, flags);                                           \
    const mode_t mode = ModeOf(flags, arguments);                         \
    va_end(arguments);                                                    \
    static auto* const real = Real<int(const char*, int, mode_t)>(#name); \
    return real(path, flags, mode);                                       \
  }
