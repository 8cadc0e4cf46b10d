#include "index/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"

namespace lamina {
namespace {

constexpr size_t kBufferBytes = 256u << 10;

Result<UniqueFd> OpenNameless(const std::string& folder) {
  Result<UniqueFd> file = OpenFile(folder, O_TMPFILE | O_RDWR);
  if (file.has_value()) return file;
  // Not every file system has O_TMPFILE.
  const std::string path = TemporaryPath(folder + "/spool");
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(path, O_RDWR | O_CREAT | O_EXCL));
  ::unlink(path.c_str());
  return fd;
}

}  // namespace

Status Spool::Append(ByteSpan bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) RETURN_IF_ERROR(Flush());
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

Status Spool::Flush() {
  if (buffer_.empty()) return {};
  RETURN_IF_ERROR(WithRoom(make_room_, [this] { return WriteBuffer(); }));
  flushed_ += buffer_.size();
  buffer_.clear();
  return {};
}

Status Spool::WriteBuffer() {
  if (!file_.valid()) {
    ASSIGN_OR_RETURN(file_, OpenNameless(folder_));
  }
  return PwriteExactly(file_.get(), buffer_, flushed_, "a temporary file in " + folder_);
}

Status Spool::Read(uint64_t offset, MutableByteSpan out) const {
  if (offset > size() || out.size() > size() - offset)
    return Error{Code::kInternal, "read behind the end of a spool"};
  if (offset < flushed_) {
    const size_t take = static_cast<size_t>(std::min<uint64_t>(out.size(), flushed_ - offset));
    RETURN_IF_ERROR(
        PreadExactly(file_.get(), out.first(take), offset, "a temporary file in " + folder_));
    out = out.subspan(take);
    offset += take;
  }
  if (!out.empty())
    std::copy_n(buffer_.begin() + static_cast<ptrdiff_t>(offset - flushed_), out.size(),
                out.begin());
  return {};
}

size_t Spool::PieceAt(uint64_t at) const {
  return static_cast<size_t>(std::min<uint64_t>(kBufferBytes, flushed_ - at));
}

}  // namespace lamina
