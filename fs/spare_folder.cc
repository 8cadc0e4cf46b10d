#include "fs/spare_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include "base/digest.h"
#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "base/user.h"

namespace lamina {
namespace {

// A disk that had no room for a file is not asked for some time.
constexpr std::chrono::minutes kAvoidance{1};
// What a database begins with beside it is larger than the rest that is needed at once.
constexpr size_t kProbeBytes = 64u << 10;

// What a call on a file has left in errno: a reason of the disk's, or an error.
Result<std::optional<std::string>> Refused(const std::string& what) {
  const int err = errno;
  Error error = ErrnoError(err, what);
  if (error.code != Code::kNoSpace && err != EIO) return error;
  return std::optional(std::move(error.message));
}

// Nobody else can put anything in it. What is wrong otherwise.
Status MakePrivate(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return ErrnoError(errno, "cannot create folder " + folder);
  if (IsPrivateFolder(folder)) return {};
  return Error{Code::kDenied, folder + " is not this user's alone"};
}

// -1 where there is no file.
int64_t ModifiedNs(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return -1;
  return st.st_mtim.tv_sec * int64_t{1'000'000'000} + st.st_mtim.tv_nsec;
}

void RemoveContent(const std::string& folder) {
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored))
    if (item.path().filename() != "lock") std::filesystem::remove_all(item.path(), ignored);
}

// Removes the oldest indexes and trees below `folder` until `most` bytes of them are left.
void RemoveOldest(const std::string& folder, uint64_t most) {
  struct Found {
    std::string path;
    uint64_t bytes;
    std::filesystem::file_time_type time;
  };
  std::vector<Found> files;
  uint64_t sum = 0;
  std::error_code ignored;
  for (const auto& item : std::filesystem::recursive_directory_iterator(folder, ignored)) {
    const auto ending = item.path().extension();
    if (!item.is_regular_file(ignored) || (ending != ".idx" && ending != ".erofs")) continue;
    files.push_back({item.path(), item.file_size(ignored), item.last_write_time(ignored)});
    sum += files.back().bytes;
  }
  std::ranges::sort(files, {}, &Found::time);
  for (const Found& file : files) {
    if (sum <= most) return;
    if (::unlink(file.path.c_str()) == 0) sum -= file.bytes;
  }
}

Result<std::optional<std::string>> ProbeFolder(const std::string& folder) {
  const std::string path = TemporaryPath(folder + "/probe");
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (fd.get() < 0) return Refused("cannot make a file in " + folder);
  const std::array<char, kProbeBytes> bytes{};
  const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
  Result<std::optional<std::string>> refused = std::optional<std::string>();
  if (written < 0) refused = Refused("cannot write in " + folder);
  if (written >= 0 && static_cast<size_t>(written) < bytes.size())
    refused = std::optional("no space is left in " + folder);
  ::unlink(path.c_str());
  return refused;
}

}  // namespace

Result<std::optional<std::string>> ProbeDisk(const std::string& folder) {
  if (Status made = MakeFolders(folder); !made) {
    if (made.error().code != Code::kNoSpace) return std::move(made).error();
    return std::optional(made.error().message);
  }
  return ProbeFolder(folder);
}

bool IsPrivateFolder(const std::string& path) {
  struct stat st {};
  return ::lstat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == ::geteuid() &&
         (st.st_mode & 0077) == 0;
}

std::vector<std::string> SpareFolder::PlacesOf(const std::string& root) {
  std::vector<std::string> places;
  // One store has one name, however it is written.
  std::string path = std::filesystem::absolute(root).lexically_normal().string();
  while (path.size() > 1 && path.ends_with("/")) path.pop_back();
  const std::string store = Digest::Sha256(AsBytes(path)).hex().substr(0, 16);
  const std::string runtime = EnvironmentOf("XDG_RUNTIME_DIR");
  if (runtime.starts_with("/")) places.push_back(fmt::format("{}/lamina/{}", runtime, store));
  if (::geteuid() == 0) places.push_back("/run/lamina/" + store);
  for (const char* shared : {"/dev/shm", "/tmp"})
    places.push_back(fmt::format("{}/lamina-{}/{}", shared, ::geteuid(), store));
  return places;
}

void SpareFolder::RemoveLeftovers(const std::string& root) {
  for (const std::string& place : PlacesOf(root)) {
    if (!IsPrivateFolder(place)) continue;
    const auto lock = OpenFile(place + "/lock", O_RDWR);
    if (!lock || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0) continue;
    RemoveContent(place);
    ::unlink((place + "/lock").c_str());
    ::rmdir(place.c_str());
  }
}

SpareFolder::~SpareFolder() {
  if (folder_.empty()) return;
  RemoveContent(folder_);
  ::unlink((folder_ + "/lock").c_str());
  ::rmdir(folder_.c_str());
}

Result<bool> SpareFolder::DiskTakesFiles() {
  ASSIGN_OR_RETURN(const auto reason, ProbeDisk(root_));
  if (reason) {
    Refuse(*reason);
  } else if (!AvoidsDisk()) {
    MutexLock lock(refusal_mutex_);
    refusal_.reset();
  }
  return !reason;
}

bool SpareFolder::AvoidsDisk() const {
  MutexLock lock(refusal_mutex_);
  return avoids_disk_ && !avoids_disk_->passed();
}

bool SpareFolder::DiskRefuses() {
  const auto takes = DiskTakesFiles();
  return takes && !*takes;
}

void SpareFolder::Refuse(const std::string& reason) {
  {
    MutexLock lock(refusal_mutex_);
    if (refusal_) {
      refusal_->reason = reason;
      return;
    }
    refusal_ = Refusal{reason, WallClock::System().NowNs()};
  }
  LogWarning(
      fmt::format("the store's disk takes no files, new ones are kept in memory: {}", reason));
}

std::optional<SpareFolder::Refusal> SpareFolder::refusal() const {
  MutexLock lock(refusal_mutex_);
  return refusal_;
}

Result<std::string> SpareFolder::Folder() {
  MutexLock lock(mutex_);
  if (folder_.empty()) RETURN_IF_ERROR(MakeFolder());
  return folder_;
}

Status SpareFolder::MakeFolder() {
  Status made;
  for (const std::string& place : PlacesOf(root_)) {
    made = MakePrivate(place.substr(0, place.rfind('/')));
    if (made) made = MakePrivate(place);
    if (!made) continue;
    auto file = OpenFile(place + "/lock", O_RDWR | O_CREAT);
    if (!file) {
      made = file.error();
      continue;
    }
    if (::flock(file->get(), LOCK_EX | LOCK_NB) != 0)
      return Error{Code::kUnavailable, fmt::format("{} is in use by another lamina", place)};
    const auto takes = ProbeDisk(place);
    if (!takes || *takes) {
      made = Error{Code::kNoSpace, takes ? **takes : takes.error().message};
      continue;
    }
    RemoveContent(place);
    folder_ = place;
    lock_ = std::move(*file);
    return {};
  }
  return made;
}

std::optional<std::string> SpareFolder::FolderIfMade() const {
  MutexLock lock(mutex_);
  return folder_.empty() ? std::nullopt : std::optional(folder_);
}

std::string SpareFolder::Find(const std::string& name) const {
  const auto folder = FolderIfMade();
  std::string on_disk = root_ + "/" + name;
  if (!folder) return on_disk;
  std::string here = *folder + "/" + name;
  return ModifiedNs(here) > ModifiedNs(on_disk) ? here : on_disk;
}

std::string SpareFolder::ForNew(const std::string& name) {
  const std::string on_disk = root_ + "/" + name;
  if (!AvoidsDisk() && !DiskRefuses()) return on_disk;
  const auto folder = Folder();
  if (!folder) {
    LogWarning(folder.error().message);
    return on_disk;
  }
  RemoveOldest(*folder, kMostBytes);
  std::string path = *folder + "/" + name;
  if (Status made = MakeFolders(path.substr(0, path.rfind('/'))); !made) {
    LogWarning(made.error().message);
    return on_disk;
  }
  return path;
}

bool SpareFolder::DiskIsToBlame(const std::string& path, const Error& error) {
  if (!path.starts_with(root_ + "/")) return false;
  if (error.code == Code::kIo) return DiskRefuses();
  if (error.code != Code::kNoSpace) return false;
  {
    MutexLock lock(refusal_mutex_);
    avoids_disk_ = Deadline::After(kAvoidance);
  }
  Refuse(error.message);
  return true;
}

}  // namespace lamina
