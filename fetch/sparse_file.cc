#include "fetch/sparse_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "base/errno.h"
#include "base/file.h"

namespace lamina {
namespace {

// Length of the leading run of blocks that are all zero, or all not, as the first one is.
size_t RunLength(ByteSpan bytes, bool zero) {
  size_t end = 0;
  while (end < bytes.size()) {
    const ByteSpan block = bytes.subspan(end, std::min<size_t>(kHoleBlock, bytes.size() - end));
    if (IsAllZero(block) != zero) break;
    end += block.size();
  }
  return end;
}

bool FirstBlockIsZero(ByteSpan bytes) {
  return IsAllZero(bytes.first(std::min<size_t>(kHoleBlock, bytes.size())));
}

// Calls write(bytes, offset) or skip(bytes, offset) for each run, in order.
template <typename Write, typename Skip>
Status ForEachRun(ByteSpan bytes, uint64_t offset, Write write, Skip skip) {
  while (!bytes.empty()) {
    const bool zero = FirstBlockIsZero(bytes);
    const ByteSpan run = bytes.first(RunLength(bytes, zero));
    RETURN_IF_ERROR(zero ? skip(run, offset) : write(run, offset));
    bytes = bytes.subspan(run.size());
    offset += run.size();
  }
  return {};
}

}  // namespace

Status WriteIntoHole(int fd, ByteSpan bytes, uint64_t offset, std::string_view name) {
  return ForEachRun(
      bytes, offset, [&](ByteSpan run, uint64_t at) { return PwriteExactly(fd, run, at, name); },
      [](ByteSpan, uint64_t) { return Status(); });
}

Status WriteOver(int fd, ByteSpan bytes, uint64_t offset, std::string_view name) {
  const auto write = [&](ByteSpan run, uint64_t at) { return PwriteExactly(fd, run, at, name); };
  return ForEachRun(bytes, offset, write, [&](ByteSpan run, uint64_t at) {
    return PunchHole(fd, at, run.size(), name).has_value() ? Status() : write(run, at);
  });
}

bool MayHoldData(int fd, uint64_t offset, uint64_t length) {
  const off_t data = ::lseek(fd, static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) return errno != ENXIO;  // ENXIO: nothing but a hole up to the end
  return static_cast<uint64_t>(data) < offset + length;
}

Status PunchHole(int fd, uint64_t offset, uint64_t length, std::string_view name) {
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(length)) != 0)
    return ErrnoError(errno, "cannot punch a hole into " + std::string(name));
  return {};
}

uint64_t BlockBytes(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 ? static_cast<uint64_t>(st.st_blocks) * 512 : 0;
}

}  // namespace lamina
