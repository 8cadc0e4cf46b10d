#pragma once

// FileRangeBlob: a BlobSource over a stretch of a local file that must still be the file that it
// was: a member of an archive. Immutable once open; any thread.

#include <memory>
#include <string>

#include "base/blob_source.h"
#include "base/unique_fd.h"
#include "fetch/file_identity.h"

namespace lamina {

class FileRangeBlob : public BlobSource {
 public:
  struct Range {
    uint64_t offset = 0;  // bytes in the file
    uint64_t size = 0;
    bool digest_is_name = false;
  };
  // kUnavailable where the file is away, or is not the one of `identity` any more. `origin` is what
  // origin() returns.
  static Result<std::shared_ptr<BlobSource>> Open(const std::string& path,
                                                  const FileIdentity& identity, const Range& range,
                                                  std::string origin);

  uint64_t size() const override { return range_.size; }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override;
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::string origin() const override { return origin_; }
  bool digest_is_name() const override { return range_.digest_is_name; }

 private:
  FileRangeBlob(UniqueFd fd, std::string path, const FileIdentity& identity, const Range& range,
                std::string origin)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        identity_(identity),
        range_(range),
        origin_(std::move(origin)) {}
  Status CheckIdentity() const;
  Status Read(uint64_t offset, MutableByteSpan out) const;

  const UniqueFd fd_;
  const std::string path_;
  const FileIdentity identity_;
  const Range range_;
  const std::string origin_;
};

}  // namespace lamina
