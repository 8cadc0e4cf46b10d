#pragma once

// FileBlob: a BlobSource over a local regular file. Immutable once open; any thread.

#include <memory>
#include <string>

#include "base/blob_source.h"
#include "base/unique_fd.h"

namespace lamina {

// Opens `path` to read, if it is a regular file: its last component is not followed when it is a
// symbolic link (unless that is asked for), and a FIFO or a device is refused without waiting for
// it. kNotFound where there is nothing.
Result<UniqueFd> OpenRegularFile(const std::string& path, bool follow = false);

// The whole file, as ReadWholeFile() of base, but of a regular file only; kLimit above `limit`
// bytes.
Result<std::string> ReadRegularFile(const std::string& path, uint64_t limit);

class FileBlob : public BlobSource {
 public:
  // kCorrupt unless the file has exactly `size` bytes. `origin` is what origin() returns. The file
  // may be removed or replaced afterwards; this goes on reading the one that it opened.
  static Result<std::shared_ptr<BlobSource>> Open(const std::string& path, uint64_t size,
                                                  std::string origin);

  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override;
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::string origin() const override { return origin_; }

 private:
  FileBlob(UniqueFd fd, std::string path, uint64_t size, std::string origin)
      : fd_(std::move(fd)), path_(std::move(path)), size_(size), origin_(std::move(origin)) {}
  Status CheckSize() const;

  const UniqueFd fd_;
  const std::string path_;
  const uint64_t size_;
  const std::string origin_;
};

}  // namespace lamina
