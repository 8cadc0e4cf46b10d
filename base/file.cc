#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/errno.h"

namespace lamina {
namespace {

std::string Named(std::string_view verb, std::string_view name) {
  return "cannot " + std::string(verb) + " " + std::string(name);
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

constexpr std::string_view kTemporary = ".tmp.";
// Folders of one name that are set aside; more are somebody's doing.
constexpr int kMostAside = 100;

bool IsNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// NAME.tmp.PID.SERIAL
bool IsTemporaryName(std::string_view name) {
  const size_t at = name.rfind(kTemporary);
  if (at == std::string_view::npos || at == 0) return false;
  const std::string_view numbers = name.substr(at + kTemporary.size());
  const size_t dot = numbers.find('.');
  return dot != std::string_view::npos && IsNumber(numbers.substr(0, dot)) &&
         IsNumber(numbers.substr(dot + 1));
}

}  // namespace

Result<UniqueFd> OpenFile(const std::string& path, int flags, int mode) {
  int fd;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return ErrnoError(errno, Named("open", path));
  return UniqueFd(fd);
}

Result<UniqueFd> OpenOwnFile(const std::string& path, int flags) {
  const auto open = [&] {
    return ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  };
  int fd = open();
  while (fd < 0 && errno == EINTR) fd = open();
  // ELOOP: a link; ENXIO: a socket, or a pipe that is to be written; EISDIR: to be written, too.
  const bool other = fd < 0 && (errno == ELOOP || errno == ENXIO || errno == EISDIR);
  if (fd < 0 && !other) return ErrnoError(errno, Named("open", path));
  UniqueFd opened(fd);
  struct stat st {};
  if (!other && ::fstat(fd, &st) != 0) return ErrnoError(errno, Named("stat", path));
  if (other || !S_ISREG(st.st_mode)) return Error{Code::kCorrupt, path + " is no regular file"};
  return opened;
}

Status ReopenForWriting(int fd, const std::string& path) {
  ASSIGN_OR_RETURN(const UniqueFd writable, OpenOwnFile(path, O_RDWR));
  struct stat before {};
  struct stat now {};
  if (::fstat(fd, &before) != 0 || ::fstat(writable.get(), &now) != 0)
    return ErrnoError(errno, Named("stat", path));
  if (before.st_dev != now.st_dev || before.st_ino != now.st_ino)
    return Error{Code::kCorrupt, path + " is another file by now"};
  if (::dup3(writable.get(), fd, O_CLOEXEC) < 0) return ErrnoError(errno, Named("reopen", path));
  return {};
}

Status RemoveOwnFile(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT || errno == ENOTDIR) return {};
  if (errno != EISDIR) return ErrnoError(errno, Named("remove", path));
  for (int serial = 1; serial <= kMostAside; ++serial) {
    const std::string aside = path + ".aside." + std::to_string(serial);
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str(), RENAME_NOREPLACE) == 0)
      return {};
    if (errno != EEXIST) break;
  }
  return ErrnoError(errno, Named("set aside the folder", path));
}

Result<uint64_t> FileSize(int fd, std::string_view name) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return ErrnoError(errno, Named("stat", name));
  return static_cast<uint64_t>(st.st_size);
}

Status PreadExactly(int fd, MutableByteSpan out, uint64_t offset, std::string_view name) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, Named("read", name));
    if (got == 0)
      return Error{Code::kIo, Named("read", name) + ": it ends at byte " + std::to_string(offset)};
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Status PwriteExactly(int fd, ByteSpan bytes, uint64_t offset, std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, Named("write", name));
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += static_cast<uint64_t>(put);
  }
  return {};
}

Status WriteExactly(int fd, ByteSpan bytes, std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, Named("write", name));
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Result<std::string> ReadWholeFile(const std::string& path, uint64_t limit) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(path, O_RDONLY));
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd.get(), path));
  if (size > limit)
    return Error{Code::kLimit, path + " has " + std::to_string(size) +
                                   " bytes, more than the limit of " + std::to_string(limit)};
  std::string content(size, '\0');
  RETURN_IF_ERROR(PreadExactly(
      fd.get(), {reinterpret_cast<uint8_t*>(content.data()), content.size()}, 0, path));
  return content;
}

AtomicFile::AtomicFile(UniqueFd fd, std::string temporary, std::string path)
    : fd_(std::move(fd)), temporary_(std::move(temporary)), path_(std::move(path)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : fd_(std::move(other.fd_)),
      temporary_(std::exchange(other.temporary_, {})),
      path_(std::move(other.path_)) {}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

std::string TemporaryPath(const std::string& path) {
  static std::atomic<uint64_t> serial{0};
  return path + std::string(kTemporary) + std::to_string(::getpid()) + "." +
         std::to_string(serial.fetch_add(1));
}

Result<size_t> RemoveTemporaries(const std::string& folder) {
  std::error_code failure;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator at(folder, failure), end; !failure && at != end;
       at.increment(failure)) {
    const std::string name = at->path().filename().string();
    std::error_code gone;
    if (IsTemporaryName(name) &&
        at->symlink_status(gone).type() == std::filesystem::file_type::regular)
      names.push_back(name);
  }
  if (failure) return ErrnoError(failure.value(), Named("list", folder));
  for (const std::string& name : names)
    if (::unlink((folder + "/" + name).c_str()) != 0 && errno != ENOENT)
      return ErrnoError(errno, Named("remove", folder + "/" + name));
  return names.size();
}

Result<AtomicFile> AtomicFile::Create(const std::string& path, int mode) {
  std::string temporary = TemporaryPath(path);
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(temporary, O_RDWR | O_CREAT | O_TRUNC, mode));
  return AtomicFile(std::move(fd), std::move(temporary), path);
}

Status AtomicFile::Commit() {
  if (::fsync(fd_.get()) != 0) return ErrnoError(errno, Named("sync", path_));
  int renamed = ::rename(temporary_.c_str(), path_.c_str());
  if (renamed != 0 && errno == EISDIR) {  // a folder stands there
    RETURN_IF_ERROR(RemoveOwnFile(path_));
    renamed = ::rename(temporary_.c_str(), path_.c_str());
  }
  if (renamed != 0) return ErrnoError(errno, Named("rename to", path_));
  temporary_.clear();
  return SyncFolder(FolderOf(path_));
}

Status WriteFileAtomically(const std::string& path, ByteSpan content, int mode) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path, mode));
  RETURN_IF_ERROR(WriteExactly(file.fd(), content, path));
  return file.Commit();
}

Status MakeFolders(const std::string& path, int mode) {
  for (size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string folder = path.substr(0, slash);
    if (::mkdir(folder.c_str(), static_cast<mode_t>(mode)) != 0 && errno != EEXIST)
      return ErrnoError(errno, Named("create folder", folder));
    if (slash == std::string::npos) break;
  }
  return {};
}

Status SyncFolder(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return ErrnoError(errno, Named("sync folder", path));
  return {};
}

Status RemoveTree(const std::string& path) {
  std::error_code failure;
  std::filesystem::remove_all(path, failure);
  if (failure) return ErrnoError(failure.value(), Named("remove", path));
  return {};
}

bool FileExists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

MappedFile::MappedFile(const uint8_t* data, size_t size, std::string path)
    : data_(data), size_(size), slot_(MappedFault::Register(data, size)), path_(std::move(path)) {}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      slot_(std::exchange(other.slot_, MappedFault::kNone)),
      path_(std::move(other.path_)) {}

MappedFile::~MappedFile() {
  if (size_ == 0) return;
  MappedFault::Unregister(slot_);
  ::munmap(const_cast<uint8_t*>(data_), size_);
}

Result<MappedFile> MappedFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenOwnFile(path, O_RDONLY));
  return Map(fd.get(), path);
}

Result<MappedFile> MappedFile::Map(int fd, const std::string& path) {
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd, path));
  if (size == 0) return MappedFile(nullptr, 0, path);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return ErrnoError(errno, Named("map", path));
  return MappedFile(static_cast<const uint8_t*>(data), size, path);
}

Result<TemporaryFolder> TemporaryFolder::Create(std::string_view prefix) {
  const char* base = std::getenv("TMPDIR");
  std::string path =
      std::string(base != nullptr ? base : "/tmp") + "/" + std::string(prefix) + ".XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return ErrnoError(errno, Named("create folder", path));
  return TemporaryFolder(path);
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

TemporaryFolder::~TemporaryFolder() {
  if (path_.empty()) return;
  // A destructor has nobody to tell; a leftover folder in /tmp is harmless.
  (void)RemoveTree(path_).has_value();
}

}  // namespace lamina
