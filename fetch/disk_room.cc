#include "fetch/disk_room.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/text.h"

namespace lamina {
namespace {

constexpr uint64_t kLeastReserve = 64u << 20;
constexpr uint64_t kMostReserve = 1u << 30;

}  // namespace

uint64_t DiskRoom::Reserve() const {
  return std::min(total / 4, std::clamp(total / 64, kLeastReserve, kMostReserve));
}

uint64_t DiskRoom::Missing() const { return Reserve() - std::min(Reserve(), available); }

std::optional<DiskRoom> MeasureDisk(int fd) {
  struct statvfs disk {};
  if (::fstatvfs(fd, &disk) != 0 || disk.f_blocks == 0) return std::nullopt;
  return DiskRoom{.total = disk.f_blocks * disk.f_frsize,
                  .available = disk.f_bavail * disk.f_frsize};
}

Status CheckDiskRoom(int fd, uint64_t bytes, std::string_view name) {
  const std::optional<DiskRoom> room = MeasureDisk(fd);
  if (!room || room->available >= room->Reserve() + bytes) return {};
  return Error{Code::kNoSpace,
               fmt::format("the disk of {} has {} free, and the cache leaves the last {} to others",
                           name, HumanSize(room->available), HumanSize(room->Reserve()))};
}

}  // namespace lamina
