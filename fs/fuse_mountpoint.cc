#include "fs/fuse_mountpoint.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

extern char** environ;

namespace lamina {
namespace {

constexpr uint64_t kMostMountinfo = 64u << 20;
// Dead mounts on top of each other that are cleared away; more are somebody's doing.
constexpr int kMostStacked = 16;

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string Unescaped(std::string_view field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      out.push_back(
          static_cast<char>(std::strtol(std::string(field.substr(i + 1, 3)).c_str(), nullptr, 8)));
      i += 3;
    } else {
      out.push_back(field[i]);
    }
  }
  return out;
}

bool IsDead(int err) { return err == ENOTCONN || err == ECONNABORTED; }

// An absolute path whose folder part has no symbolic links; the last component is not touched,
// because a dead mount cannot be resolved.
Result<std::string> AbsolutePath(const std::string& path) {
  std::string text = path;
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  const size_t slash = text.rfind('/');
  const std::string folder = slash == std::string::npos ? "."
                             : slash == 0               ? "/"
                                                        : text.substr(0, slash);
  const std::string name = slash == std::string::npos ? text : text.substr(slash + 1);
  if (name.empty() || name == "." || name == "..")
    return Error{Code::kInvalid, Quote(path) + " cannot be a mount point"};
  char resolved[PATH_MAX];
  if (::realpath(folder.c_str(), resolved) == nullptr)
    return ErrnoError(errno, "cannot resolve " + Quote(folder));
  const std::string parent = resolved;
  return parent == "/" ? "/" + name : parent + "/" + name;
}

Status RunFusermount(const std::string& path, bool lazy) {
  std::string program = "fusermount3";
  std::string options = lazy ? "-uz" : "-u";
  std::string end = "--";
  std::string target = path;
  char* const arguments[] = {program.data(), options.data(), end.data(), target.data(), nullptr};
  pid_t child = 0;
  if (const int err = ::posix_spawnp(&child, program.c_str(), nullptr, nullptr, arguments, environ);
      err != 0)
    return ErrnoError(err, "cannot run fusermount3");
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoError(errno, "cannot wait for fusermount3");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error{Code::kIo, fmt::format("fusermount3 could not unmount {}", Quote(path))};
}

Status Detach(const std::string& path, bool lazy) {
  if (::umount2(path.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0) return {};
  if (errno == EPERM) return RunFusermount(path, lazy);
  if (errno == EBUSY)
    return Error{Code::kUnavailable,
                 fmt::format("{0} is in use: end what works in it (fuser -vm {0}), or give --lazy",
                             Quote(path))};
  return ErrnoError(errno, "cannot unmount " + Quote(path));
}

// Files of /proc have no size: they are read to their end.
Result<std::string> ReadMountinfo() {
  const std::string path = "/proc/self/mountinfo";
  ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(path, O_RDONLY));
  std::string text;
  std::array<char, 16384> piece;
  while (text.size() < kMostMountinfo) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got == 0) return text;
    if (got < 0 && errno != EINTR) return ErrnoError(errno, "cannot read " + path);
    if (got > 0) text.append(piece.data(), static_cast<size_t>(got));
  }
  return Error{Code::kLimit, fmt::format("{} has more than {} bytes", path, kMostMountinfo)};
}

Result<bool> IsLaminaAt(const std::string& path) {
  ASSIGN_OR_RETURN(const auto mount, MountAt(path));
  return mount.has_value() && mount->type == kMountType;
}

// The mode of what is there, from whoever serves it: of a dead mount the kernel may still know the
// attributes.
Result<uint16_t> ModeOf(const std::string& path, int* err) {
  struct statx found {};
  *err = 0;
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_FORCE_SYNC, STATX_TYPE, &found) == 0)
    return found.stx_mode;
  *err = errno;
  return ErrnoError(*err, "cannot mount at " + Quote(path));
}

}  // namespace

Result<std::optional<MountFacts>> MountAt(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadMountinfo());
  std::optional<MountFacts> found;  // later lines lie above earlier ones
  for (const std::string_view line : Split(text, '\n')) {
    const auto fields = Split(line, ' ');
    size_t separator = 6;
    while (separator < fields.size() && fields[separator] != "-") ++separator;
    if (separator + 1 >= fields.size() || Unescaped(fields[4]) != path) continue;
    found = MountFacts{std::string(fields[separator + 1]), std::string(fields[2])};
  }
  return found;
}

Result<std::string> PrepareMountpoint(const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0 && errno == ENOENT)
    RETURN_IF_ERROR(MakeFolders(path, 0755));
  ASSIGN_OR_RETURN(std::string absolute, AbsolutePath(path));
  int err = 0;
  Result<uint16_t> mode = ModeOf(absolute, &err);
  for (int i = 0; !mode; ++i) {
    ASSIGN_OR_RETURN(const bool lamina, IsLaminaAt(absolute));
    if (!IsDead(err) || !lamina || i == kMostStacked) return mode.error();
    LogInfo(fmt::format("{} is left of a lamina that died; detaching it", absolute));
    RETURN_IF_ERROR(Detach(absolute, true));
    mode = ModeOf(absolute, &err);
  }
  if (!S_ISDIR(*mode)) return Error{Code::kInvalid, Quote(absolute) + " is not a folder"};
  // Alive and of a folder: a symbolic link at the end can be followed now.
  char resolved[PATH_MAX];
  if (::realpath(absolute.c_str(), resolved) != nullptr) absolute = resolved;
  ASSIGN_OR_RETURN(const bool lamina, IsLaminaAt(absolute));
  if (lamina)
    return Error{Code::kInvalid,
                 fmt::format("{0} is mounted already; `lamina umount {0}` first", absolute)};
  return absolute;
}

Result<std::string> FindLamina(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string absolute, AbsolutePath(path));
  ASSIGN_OR_RETURN(bool lamina, IsLaminaAt(absolute));
  if (lamina) return absolute;
  // A link to a mount point leads to it, as it does for mounting.
  char resolved[PATH_MAX];
  if (::realpath(absolute.c_str(), resolved) != nullptr) {
    ASSIGN_OR_RETURN(lamina, IsLaminaAt(resolved));
  }
  if (!lamina) return Error{Code::kNotFound, "no lamina is mounted at " + Quote(absolute)};
  return std::string(resolved);
}

Status UnmountLamina(const std::string& path, bool lazy) {
  ASSIGN_OR_RETURN(const std::string mountpoint, FindLamina(path));
  return Detach(mountpoint, lazy);
}

}  // namespace lamina
