#include "fetch/file_range_blob.h"

#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "fetch/file_blob.h"

namespace lamina {
namespace {

constexpr uint64_t kPiece = 1u << 20;

}  // namespace

Result<std::shared_ptr<BlobSource>> FileRangeBlob::Open(const std::string& path,
                                                        const FileIdentity& identity,
                                                        const Range& range, std::string origin) {
  // The user has named the file, and may have named it by a link.
  auto fd = OpenRegularFile(path, /*follow=*/true);
  if (!fd && fd.error().code == Code::kNotFound)
    return Error{Code::kUnavailable, origin + " is away: there is no file " + path};
  if (!fd) return std::move(fd).error();
  std::shared_ptr<FileRangeBlob> blob(
      new FileRangeBlob(*std::move(fd), path, identity, range, std::move(origin)));
  RETURN_IF_ERROR(blob->CheckIdentity());
  return std::shared_ptr<BlobSource>(std::move(blob));
}

// The time of change counts as well: a new name or mode is read again for nothing, but a content
// that was changed and given the old time is not mistaken for the old one.
Status FileRangeBlob::CheckIdentity() const {
  ASSIGN_OR_RETURN(const FileIdentity now, IdentifyOpenFile(fd_.get(), path_));
  if (now == identity_) return {};
  return Error{Code::kUnavailable, path_ + " has changed since its list of members was read"};
}

Status FileRangeBlob::Read(uint64_t offset, MutableByteSpan out) const {
  Status read = PreadExactly(fd_.get(), out, range_.offset + offset, path_);
  if (read) return read;
  // A file that was cut is no failure of the disk.
  RETURN_IF_ERROR(CheckIdentity());
  return read;
}

Status FileRangeBlob::ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& /*deadline*/) {
  if (offset > range_.size || out.size() > range_.size - offset)
    return Error{Code::kInternal, "a read of " + std::to_string(out.size()) + " bytes at " +
                                      std::to_string(offset) + " leaves a member of " + path_};
  return Read(offset, out);
}

Status FileRangeBlob::Stream(uint64_t offset, const ByteSink& sink) {
  if (offset > range_.size)
    return Error{Code::kInternal,
                 "a stream from " + std::to_string(offset) + " leaves a member of " + path_};
  // Advice only; a file system that ignores it costs nothing but time.
  (void)::posix_fadvise(fd_.get(), static_cast<off_t>(range_.offset + offset),
                        static_cast<off_t>(range_.size - offset), POSIX_FADV_SEQUENTIAL);
  std::vector<uint8_t> buffer(std::min(kPiece, range_.size - offset));
  while (offset < range_.size) {
    const MutableByteSpan piece(buffer.data(),
                                std::min<uint64_t>(buffer.size(), range_.size - offset));
    RETURN_IF_ERROR(Read(offset, piece));
    RETURN_IF_ERROR(sink(piece));
    offset += piece.size();
  }
  return CheckIdentity();
}

}  // namespace lamina
