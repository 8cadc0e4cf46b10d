#include "fs/fuse_wire.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

namespace lamina {

ssize_t FuseWire::Read(int fd, void* buffer, size_t size) {
  const ssize_t got = ::read(fd, buffer, size);
  if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) return got;
  const auto* header = static_cast<const fuse_in_header*>(buffer);
  counters_.Add(header->opcode);
  constexpr size_t kFlagsEnd = offsetof(fuse_init_in, flags) + sizeof(uint32_t);
  if (header->opcode == FUSE_INIT &&
      got >= static_cast<ssize_t>(sizeof(fuse_in_header) + kFlagsEnd)) {
    uint32_t flags = 0;
    std::memcpy(
        &flags,
        static_cast<const char*>(buffer) + sizeof(fuse_in_header) + offsetof(fuse_init_in, flags),
        sizeof flags);
    init_flags_ = flags;
    init_unique_ = header->unique;
  }
  return got;
}

ssize_t FuseWire::Write(int fd, iovec* parts, int count) {
  if (const uint64_t unique = init_unique_.load(std::memory_order_relaxed);
      unique != 0 && count == 2) {
    fuse_out_header header{};
    if (parts[0].iov_len == sizeof header) std::memcpy(&header, parts[0].iov_base, sizeof header);
    if (header.unique == unique) {
      if (header.error == 0) CompleteInit(parts[1]);
      init_unique_ = 0;
    }
  }
  return ::writev(fd, parts, count);
}

void FuseWire::CompleteInit(const iovec& reply) const {
  fuse_init_out out{};
  constexpr size_t kFlagsEnd = offsetof(fuse_init_out, flags) + sizeof out.flags;
  if (reply.iov_len < kFlagsEnd) return;
  std::memcpy(&out, reply.iov_base, kFlagsEnd);
  out.flags |= init_flags_ & FUSE_PARALLEL_DIROPS;
  std::memcpy(reply.iov_base, &out, kFlagsEnd);
}

}  // namespace lamina
