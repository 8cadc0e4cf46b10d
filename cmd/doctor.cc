// doctor: what this machine has and lacks for lamina, and what to do about it.

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/engine.h"
#include "fs/fuse_session.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

struct Finding {
  enum class Grade { kGood, kLimited, kBad };
  Grade grade;
  std::string what;
  std::string detail;  // what was found, and what to do where it is not good
};

const char* GradeName(Finding::Grade grade) {
  switch (grade) {
    case Finding::Grade::kGood:
      return "ok";
    case Finding::Grade::kLimited:
      return "limited";
    case Finding::Grade::kBad:
      return "missing";
  }
  return "";
}

Finding CheckFuseDevice() {
  if (auto fd = OpenFile("/dev/fuse", O_RDWR))
    return {Finding::Grade::kGood, "FUSE", "/dev/fuse opens"};
  return {Finding::Grade::kBad, "FUSE",
          "/dev/fuse does not open: load the module (modprobe fuse), or give the container "
          "--device /dev/fuse"};
}

Finding CheckUser() {
  if (::geteuid() == 0)
    return {Finding::Grade::kGood, "user", "root: mounts are visible to all users"};
  for (const char* path : {"/usr/bin/fusermount3", "/bin/fusermount3"})
    if (FileExists(path))
      return {Finding::Grade::kLimited, "user",
              "not root: mounts through fusermount3, for this user only"};
  return {Finding::Grade::kBad, "user",
          "not root, and fusermount3 is missing: install the package fuse3"};
}

bool KernelHas(const std::string& filesystem) {
  // /proc files have no size, so ReadWholeFile does not fit.
  auto fd = OpenFile("/proc/filesystems", O_RDONLY);
  std::string text(65536, '\0');
  const ssize_t got = fd ? ::read(fd->get(), text.data(), text.size()) : 0;
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text.find("\t" + filesystem + "\n") != std::string::npos;
}

Finding CheckKernel() {
  utsname name{};
  ::uname(&name);
  const std::string release = name.release;
  return {Finding::Grade::kGood, "kernel", release};
}

Finding CheckOverlay() {
  if (KernelHas("overlay"))
    return {Finding::Grade::kGood, "overlayfs", "containers can write above a mounted rootfs"};
  return {Finding::Grade::kLimited, "overlayfs",
          "the kernel has none loaded (modprobe overlay): containers get a read-only rootfs"};
}

Finding CheckErofs() {
  if (KernelHas("erofs"))
    return {Finding::Grade::kGood, "EROFS", "the kernel can mount lamina's tree files"};
  return {Finding::Grade::kLimited, "EROFS",
          "the kernel has none loaded (modprobe erofs): trees are served through FUSE only"};
}

// The folder itself, or where it would be made: looking makes nothing.
std::string NearestFolder(std::string path) {
  while (path.size() > 1 && !FileExists(path)) path.resize(std::max<size_t>(path.rfind('/'), 1));
  return path;
}

Finding CheckStore(const std::string& store) {
  const std::string folder = NearestFolder(store);
  if (::access((folder + "/.").c_str(), W_OK | X_OK) != 0 && errno == EROFS)
    return {
        Finding::Grade::kLimited, "store",
        fmt::format("{} is on a read-only disk: what is there serves, nothing new is kept", store)};
  if (::access((folder + "/.").c_str(), W_OK | X_OK) != 0)
    return {Finding::Grade::kBad, "store",
            fmt::format("{} cannot be {}: {}; give --store another folder", store,
                        folder == store ? "written" : "made in " + folder, std::strerror(errno))};
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0) return {Finding::Grade::kLimited, "store", store};
  const uint64_t free_bytes = uint64_t{space.f_bavail} * space.f_frsize;
  const auto grade =
      free_bytes < (uint64_t{1} << 30) ? Finding::Grade::kLimited : Finding::Grade::kGood;
  return {grade, "store",
          fmt::format("{}{}, {} free", store, folder == store ? "" : " (not made yet)",
                      HumanSize(free_bytes))};
}

Finding CheckOpenFiles() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max >= 4096)
    return {Finding::Grade::kGood, "open files",
            fmt::format("a daemon may have {} open", limit.rlim_max)};
  return {
      Finding::Grade::kLimited, "open files",
      fmt::format("a daemon may have only {} open, and every layer in use needs some: raise the "
                  "hard limit (ulimit -Hn)",
                  limit.rlim_max)};
}

Finding CheckMountpoint(const std::string& mountpoint) {
  // Asks the daemon: the kernel keeps this name for no time.
  const int err = ::access((mountpoint + "/.lamina/version").c_str(), F_OK) == 0 ? 0 : errno;
  if (err == 0) return {Finding::Grade::kGood, "mount", mountpoint + " is served"};
  if (err == ENOTCONN || err == ECONNABORTED)
    return {Finding::Grade::kLimited, "mount",
            fmt::format("the daemon of {0} is dead: `lamina mount {0}` mounts it anew, `lamina "
                        "umount {0}` takes it away",
                        mountpoint)};
  return {Finding::Grade::kLimited, "mount",
          fmt::format("nothing is mounted at {}: lamina mount {}", mountpoint, mountpoint)};
}

}  // namespace

int RunDoctor(const CommonOptions& common, const std::string& mountpoint) {
  const std::vector<Finding> findings{
      CheckKernel(),
      CheckFuseDevice(),
      CheckUser(),
      CheckOverlay(),
      CheckErofs(),
      {Finding::Grade::kGood, "libfuse", FuseSession::LibraryVersion()},
      CheckStore(common.store),
      CheckOpenFiles(),
      CheckMountpoint(mountpoint)};
  Json all = Json::array();
  bool usable = true;
  for (const Finding& finding : findings) {
    usable = usable && finding.grade != Finding::Grade::kBad;
    all.push_back(
        {{"grade", GradeName(finding.grade)}, {"what", finding.what}, {"detail", finding.detail}});
    if (!common.json)
      std::printf("%-8s %-10s %s\n", GradeName(finding.grade), finding.what.c_str(),
                  EscapeControl(finding.detail).c_str());
  }
  if (common.json)
    std::puts(Json{{"usable", usable}, {"findings", all}}
                  .dump(2, ' ', false, Json::error_handler_t::replace)
                  .c_str());
  return usable ? 0 : 1;
}

}  // namespace lamina
