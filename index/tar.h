#pragma once

// TarParser: reads the raw tar stream of a layer by pushing (ustar, v7, PAX, GNU long names, all
// sparse forms) and tells a handler about entries and their data. The rules where archives are
// ambiguous or hostile are those of docs/semantics.md. One thread; holds no more than one entry's
// headers (1 MiB each).

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lamina {

enum class EntryType : uint8_t {
  kRegular = 1,
  kDirectory = 2,
  kSymlink = 3,
  kHardlink = 4,
  kCharDevice = 5,
  kBlockDevice = 6,
  kFifo = 7,
  kSocket = 8,  // never in a tar; here for trees
};

// A stretch of a sparse file that holds data; in order, not overlapping, inside the size.
struct SparseRegion {
  uint64_t offset = 0;  // bytes in the file
  uint64_t length = 0;
};

struct TarEntry {
  EntryType type = EntryType::kRegular;
  std::string path;         // as in the archive, after PAX and GNU names; not cleaned
  std::string link_target;  // of symbolic and hard links, as written
  uint32_t mode = 0;        // permission bits, 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_s = 0;    // seconds since 1970; may be negative
  uint32_t mtime_ns = 0;  // 0 to 999,999,999
  uint64_t size = 0;      // bytes of the file as a user sees it (the real size of a sparse file)
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs;  // of SCHILY.xattr. and LIBARCHIVE.xattr., unfiltered
  bool sparse = false;
  std::vector<SparseRegion> regions;  // of a sparse file
  uint64_t header_offset = 0;         // of the entry's first header block in the raw stream
};

// What the parser finds. Entries come in order; OnData brings the data of the last regular entry in
// order and without holes. An error stops the parse and is what Feed() returns.
class TarHandler {
 public:
  virtual ~TarHandler() = default;
  virtual Status OnEntry(const TarEntry& entry) = 0;
  // `file_offset`: where in the file; `raw_offset`: where in the raw stream.
  virtual Status OnData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset) = 0;
  virtual void OnWarning(std::string text) = 0;
};

struct TarLimits {
  uint64_t long_header = 1u << 20;  // bytes of one PAX or GNU long name block
  uint64_t sparse_regions = 1u << 20;
  uint64_t path = 4096;
  uint64_t component = 255;
  uint64_t xattr_value = 64u << 10;
  uint64_t xattrs_per_file = 1u << 20;
  uint64_t raw_bytes = uint64_t{1} << 40;
};

class TarParser {
 public:
  TarParser(TarHandler& handler, TarLimits limits = {});
  ~TarParser();
  // The next bytes of the stream, in pieces of any size. Errors name the entry and the reason.
  Status Feed(ByteSpan bytes);
  // At the end of the stream: kInvalid when it stops inside an entry or after one lone zero block
  // followed by data.
  Status Finish();
  bool ended() const;  // two zero blocks were seen; what follows is ignored

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
