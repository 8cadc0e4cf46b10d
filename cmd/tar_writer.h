#pragma once

// TarWriter: a PAX tar as a stream of bytes (libarchive makes it). One thread.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/blob_source.h"
#include "base/result.h"
#include "overlay/tree.h"

namespace lamina {

// `length` bytes of a file at `offset` that are no hole.
struct DataStretch {
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct TarMember {
  std::string path;
  TreeAttr attr;
  std::string target{};     // of a symbolic link
  std::string hard_link{};  // set: another name of that earlier member, and nothing else counts
  std::vector<std::pair<std::string, std::string>> xattrs{};
  std::vector<DataStretch> data{};  // of a regular file; in order
};

class TarWriter {
 public:
  // `out` outlives the writer.
  static Result<std::unique_ptr<TarWriter>> Begin(const ByteSink& out);
  ~TarWriter();

  // Behind a regular file that is no hard link come its attr.size bytes, holes included.
  Status Add(const TarMember& member);
  Status Write(ByteSpan bytes);
  Status WriteZeros(uint64_t count);
  // Once, at the end.
  Status Finish();

 private:
  struct Impl;
  explicit TarWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
