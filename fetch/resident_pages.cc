#include "fetch/resident_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace lamina {
namespace {

// Memory may be so short that what was read is dropped at once; more often it was never there.
constexpr int kMostUntold = 8;
constexpr int kTells = -1;

uint64_t PageBytes() {
  static const auto kBytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return kBytes;
}

}  // namespace

ResidentPages::ResidentPages(int fd, uint64_t size)
    : fd_(fd),
      map_(size == 0 ? MAP_FAILED : ::mmap(nullptr, size, PROT_NONE, MAP_SHARED, fd, 0)),
      size_(size) {
  if (map_ == MAP_FAILED) map_ = nullptr;
}

ResidentPages::~ResidentPages() {
  if (map_ != nullptr) ::munmap(map_, size_);
}

bool ResidentPages::Hold(uint64_t offset, uint64_t length) const {
  return untold_.load(std::memory_order_relaxed) == kMostUntold || Ask(offset, length);
}

void ResidentPages::NoteRead(uint64_t offset, uint64_t length) const {
  int untold = untold_.load(std::memory_order_relaxed);
  if (untold == kTells || untold == kMostUntold) return;
  // One that told once does so always: then it is memory that is short.
  untold_.compare_exchange_strong(untold, Ask(offset, length) ? kTells : untold + 1);
}

bool ResidentPages::Ask(uint64_t offset, uint64_t length) const {
  const uint64_t end = offset + length;
  if (map_ == nullptr || end > size_) return false;
  std::array<unsigned char, 256> pages;
  uint64_t at = offset / PageBytes() * PageBytes();
  while (at < end) {
    const uint64_t count =
        std::min<uint64_t>(pages.size(), (end - at + PageBytes() - 1) / PageBytes());
    const uint64_t bytes = std::min(count * PageBytes(), size_ - at);
    if (::mincore(static_cast<char*>(map_) + at, bytes, pages.data()) != 0) return false;
    for (uint64_t page = 0; page < count; ++page)
      if ((pages[page] & 1) == 0 && !IsHole(at + page * PageBytes())) return false;
    at += count * PageBytes();
  }
  return true;
}

// Zeros that nobody has read take no memory either.
bool ResidentPages::IsHole(uint64_t page) const {
  const off_t data = ::lseek(fd_, static_cast<off_t>(page), SEEK_DATA);
  if (data < 0) return errno == ENXIO;
  return static_cast<uint64_t>(data) >= page + PageBytes();
}

}  // namespace lamina
