#pragma once

// FuseWire: the reads and writes of the FUSE device, between the kernel and libfuse. Counts each
// message exactly, and completes the INIT reply: libfuse 3.14 takes FUSE_CAP_PARALLEL_DIROPS
// and does not pass it on (github.com/libfuse/libfuse/pull/861), so that one lookup that waits for
// a registry would hold up all others in the same directory. Any thread.

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>

#include "fs/fuse_counters.h"

namespace lamina {

class FuseWire {
 public:
  // libfuse cancels its threads inside: not noexcept, and nothing that needs cleaning up.
  ssize_t Read(int fd, void* buffer, size_t size);
  ssize_t Write(int fd, iovec* parts, int count);

  const FuseCounters& counters() const { return counters_; }

 private:
  void CompleteInit(const iovec& reply) const;

  FuseCounters counters_;
  std::atomic<uint64_t> init_unique_{0};  // of the INIT that waits for its reply; 0: none
  std::atomic<uint32_t> init_flags_{0};   // what the kernel offers
};

}  // namespace lamina
