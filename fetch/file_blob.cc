#include "fetch/file_blob.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/errno.h"
#include "base/file.h"

namespace lamina {
namespace {

constexpr uint64_t kPiece = 1u << 20;

}  // namespace

Result<UniqueFd> OpenRegularFile(const std::string& path, bool follow) {
  int fd = -1;
  do {
    // O_NONBLOCK is for the open alone: without it a FIFO would wait for its writer.
    fd = ::open(path.c_str(),
                O_RDONLY | (follow ? 0 : O_NOFOLLOW) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 && errno == ELOOP)
    return Error{Code::kInvalid, path + " is a symbolic link and not a regular file"};
  if (fd < 0) return ErrnoError(errno, "cannot open " + path);
  UniqueFd out(fd);
  struct stat st {};
  if (::fstat(fd, &st) != 0) return ErrnoError(errno, "cannot stat " + path);
  if (!S_ISREG(st.st_mode)) return Error{Code::kInvalid, path + " is not a regular file"};
  return out;
}

Result<std::string> ReadRegularFile(const std::string& path, uint64_t limit) {
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenRegularFile(path));
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd.get(), path));
  if (size > limit)
    return Error{Code::kLimit, path + " has " + std::to_string(size) +
                                   " bytes, more than the limit of " + std::to_string(limit)};
  std::string content(size, '\0');
  RETURN_IF_ERROR(PreadExactly(
      fd.get(), {reinterpret_cast<uint8_t*>(content.data()), content.size()}, 0, path));
  return content;
}

Result<std::shared_ptr<BlobSource>> FileBlob::Open(const std::string& path, uint64_t size,
                                                   std::string origin) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenRegularFile(path));
  std::shared_ptr<FileBlob> blob(new FileBlob(std::move(fd), path, size, std::move(origin)));
  RETURN_IF_ERROR(blob->CheckSize());
  return std::shared_ptr<BlobSource>(std::move(blob));
}

Status FileBlob::CheckSize() const {
  ASSIGN_OR_RETURN(const uint64_t actual, FileSize(fd_.get(), path_));
  if (actual == size_) return {};
  return Error{Code::kCorrupt, path_ + " has " + std::to_string(actual) + " bytes instead of " +
                                   std::to_string(size_)};
}

Status FileBlob::ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& /*deadline*/) {
  if (offset > size_ || out.size() > size_ - offset)
    return Error{Code::kInternal, "a read of " + std::to_string(out.size()) + " bytes at " +
                                      std::to_string(offset) + " leaves " + path_};
  return PreadExactly(fd_.get(), out, offset, path_);
}

Status FileBlob::Stream(uint64_t offset, const ByteSink& sink) {
  if (offset > size_)
    return Error{Code::kInternal, "a stream from " + std::to_string(offset) + " leaves " + path_};
  // Advice only; a file system that ignores it costs nothing but time.
  (void)::posix_fadvise(fd_.get(), static_cast<off_t>(offset), 0, POSIX_FADV_SEQUENTIAL);
  std::vector<uint8_t> buffer(std::min(kPiece, size_ - offset));
  while (offset < size_) {
    const MutableByteSpan piece(buffer.data(), std::min<uint64_t>(buffer.size(), size_ - offset));
    RETURN_IF_ERROR(PreadExactly(fd_.get(), piece, offset, path_));
    RETURN_IF_ERROR(sink(piece));
    offset += piece.size();
  }
  return CheckSize();
}

}  // namespace lamina
