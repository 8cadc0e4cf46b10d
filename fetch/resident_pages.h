#pragma once

// ResidentPages: which pages of an open file are in the kernel's page cache, asked without bringing
// any in. What was verified is as it was while its pages stay; what comes from the disk anew may
// have rotted there. Any thread.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace lamina {

class ResidentPages {
 public:
  // `size` bytes of the file, which may be truncated and grow again. `fd` outlives it.
  ResidentPages(int fd, uint64_t size);
  ~ResidentPages();
  ResidentPages(const ResidentPages&) = delete;
  ResidentPages& operator=(const ResidentPages&) = delete;

  // True where all pages of the range are there or are holes, and where the file system does not
  // tell.
  bool Hold(uint64_t offset, uint64_t length) const;
  // The range was read just now: a file system that does not tell of such pages, as one with a
  // cache of its own, is not asked any more.
  void NoteRead(uint64_t offset, uint64_t length) const;

 private:
  bool Ask(uint64_t offset, uint64_t length) const;
  bool IsHole(uint64_t page) const;

  const int fd_;
  void* map_;  // without any access; null where there is none
  const uint64_t size_;
  mutable std::atomic<int> untold_{0};  // times, until it told once
};

}  // namespace lamina
