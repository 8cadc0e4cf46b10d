#pragma once

// DiskRoom: how much of a disk the cache may take. The last part of every disk stays free, so that
// indexes, trees and the database still fit when the cache has taken the rest. A value; any thread.

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/result.h"

namespace lamina {

struct DiskRoom {
  uint64_t total = 0;      // bytes
  uint64_t available = 0;  // bytes, for this process

  // 1/64 of the disk, but at least 64 MiB and at most 1 GiB; a quarter of a disk for which that is
  // too much.
  uint64_t Reserve() const;
  // Bytes that have to go before the reserve is free again.
  uint64_t Missing() const;
};

// Of the disk that holds the open file; nothing where it does not tell.
std::optional<DiskRoom> MeasureDisk(int fd);

// kNoSpace where less than the reserve would be left after `bytes` more.
Status CheckDiskRoom(int fd, uint64_t bytes, std::string_view name);

}  // namespace lamina
