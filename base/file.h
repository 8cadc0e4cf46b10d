#pragma once

// Local files: whole reads and writes that are exact or an error, atomic replacement, read-only
// maps, folders. Paths are std::string, as the system calls take them. Functions are safe from any
// thread; a MappedFile is immutable.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/mapped_fault.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace lamina {

// O_CLOEXEC is always added.
Result<UniqueFd> OpenFile(const std::string& path, int flags, int mode = 0600);
// A file of the store. kCorrupt where something else stands in its place (a folder, a symbolic
// link, a pipe); never waits for anybody. Remove it with RemoveOwnFile().
Result<UniqueFd> OpenOwnFile(const std::string& path, int flags);
// `fd`, which has the file open for reading, can write it from now on; others may read it by `fd`
// meanwhile. kCorrupt where another file has the name by now.
Status ReopenForWriting(int fd, const std::string& path);
// Makes the name free for a new file. What is no folder is removed; a folder, which none of ours
// would be, is renamed to PATH.aside.N.
Status RemoveOwnFile(const std::string& path);
Result<uint64_t> FileSize(int fd, std::string_view name);

// Exactly out.size() bytes from `offset`, or an error (an early end of file is kIo). `name` is for
// the message.
Status PreadExactly(int fd, MutableByteSpan out, uint64_t offset, std::string_view name);
Status PwriteExactly(int fd, ByteSpan bytes, uint64_t offset, std::string_view name);
Status WriteExactly(int fd, ByteSpan bytes, std::string_view name);

// The whole file; kLimit where it is larger than `limit` bytes, kNotFound where it is missing.
Result<std::string> ReadWholeFile(const std::string& path, uint64_t limit);

// A file being written beside its final name. Commit() makes it durable and visible at once (fsync,
// rename, fsync of the folder); destruction without Commit() removes it. One thread.
class AtomicFile {
 public:
  // `path` is the final name; its folder exists.
  static Result<AtomicFile> Create(const std::string& path, int mode = 0600);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  int fd() const { return fd_.get(); }
  const std::string& temporary_path() const { return temporary_; }
  Status Commit();

 private:
  AtomicFile(UniqueFd fd, std::string temporary, std::string path);
  UniqueFd fd_;
  std::string temporary_;  // empty once committed or moved from
  std::string path_;
};

// The name under which a file of this final name is written: PATH.tmp.PID.SERIAL, new with every
// call.
std::string TemporaryPath(const std::string& path);
// Removes what a process that was killed has left in the folder: the regular files with names as
// TemporaryPath() makes them. For who alone uses the folder. Gives how many there were.
Result<size_t> RemoveTemporaries(const std::string& folder);

Status WriteFileAtomically(const std::string& path, ByteSpan content, int mode = 0600);

// mkdir -p; existing folders are fine. New ones get `mode`.
Status MakeFolders(const std::string& path, int mode = 0700);
Status SyncFolder(const std::string& path);
// rm -rf without following symbolic links; a missing path is fine.
Status RemoveTree(const std::string& path);
bool FileExists(const std::string& path);

// A whole file mapped read-only. Empty files give an empty span. A page that the disk does not
// give, or that was cut off, reads as zeros and leaves the file damaged.
class MappedFile {
 public:
  // As OpenOwnFile() does.
  static Result<MappedFile> Open(const std::string& path);
  // All of an open file; `path` is for messages.
  static Result<MappedFile> Map(int fd, const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();

  ByteSpan bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Asked after bytes were read and before they are believed; once true, it stays so.
  bool damaged() const { return MappedFault::Damaged(slot_); }

 private:
  MappedFile(const uint8_t* data, size_t size, std::string path);
  const uint8_t* data_;
  size_t size_;
  MappedFault::Slot slot_;
  std::string path_;
};

// A fresh folder under $TMPDIR or /tmp, removed with all it holds at destruction.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> Create(std::string_view prefix);
  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace lamina
