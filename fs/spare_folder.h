#pragma once

// SpareFolder: a folder in memory for the files of a store whose own disk takes none, being full,
// read-only or broken. What lies there is found by the name that it would have on disk, and ends
// with the object. Nothing is made before it is needed. Any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace lamina {

// Why a disk takes no files (it is full, read-only or broken); nothing where it does. Makes the
// folder (0700) and, in it, a small file, which goes again. An error where the folder itself is
// wrong: not ours to write, or no folder.
Result<std::optional<std::string>> ProbeDisk(const std::string& folder);

// A folder of this user's, and nobody else's to look into or write to.
bool IsPrivateFolder(const std::string& path);

class SpareFolder {
 public:
  // Beyond so many bytes the oldest indexes and trees go. Who has one mapped keeps it.
  static constexpr uint64_t kMostBytes = 256u << 20;

  // Of the store at `root`.
  explicit SpareFolder(std::string root) : root_(std::move(root)) {}
  ~SpareFolder();
  SpareFolder(const SpareFolder&) = delete;
  SpareFolder& operator=(const SpareFolder&) = delete;

  // Where it may lie, for this user, best first: below $XDG_RUNTIME_DIR, /run, /dev/shm and /tmp.
  static std::vector<std::string> PlacesOf(const std::string& root);

  // Of a process that was killed, where the store's disk takes files again.
  static void RemoveLeftovers(const std::string& root);

  // Asks the disk. True where it takes files, an error as ProbeDisk() gives it.
  Result<bool> DiskTakesFiles();
  // Makes the folder, where it is not there yet, and empties it of what an earlier process has
  // left. kUnavailable where a process that lives has it.
  Result<std::string> Folder();

  // Names are below the store's folder ("index/sha256-….idx").
  // The younger one of those here and on disk; on disk where neither is there.
  std::string Find(const std::string& name) const;
  // Where a new file of this name is to be written now: on disk, if that takes files.
  std::string ForNew(const std::string& name);
  // A file could not be written at `path`, which ForNew() gave: is its disk to blame, so that it is
  // worth to be written once more? For a while ForNew() then gives places in memory only.
  bool DiskIsToBlame(const std::string& path, const Error& error);

  struct Refusal {
    std::string reason;
    int64_t since_ns = 0;  // wall clock
  };
  // Of the disk, as it was when it was last asked for room.
  std::optional<Refusal> refusal() const;

 private:
  std::optional<std::string> FolderIfMade() const;
  Status MakeFolder() REQUIRES(mutex_);
  bool DiskRefuses();
  bool AvoidsDisk() const;
  void Refuse(const std::string& reason);

  const std::string root_;
  mutable Mutex mutex_;                    // held over local I/O where the folder is made
  std::string folder_ GUARDED_BY(mutex_);  // empty: not made yet
  UniqueFd lock_ GUARDED_BY(mutex_);
  mutable Mutex refusal_mutex_;  // leaf
  std::optional<Refusal> refusal_ GUARDED_BY(refusal_mutex_);
  std::optional<Deadline> avoids_disk_ GUARDED_BY(refusal_mutex_);  // though it takes a small file
};

}  // namespace lamina
