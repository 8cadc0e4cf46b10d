#pragma once

// Archive: an archive file as it was at one moment, as its list of members and random access to
// their bytes. The seam between who reads archives (index) and who knows what they hold (fetch).
// Immutable; any thread. Open() blocks on local disk.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/blob_source.h"
#include "base/result.h"

namespace lamina {

struct ArchiveMember {
  enum class Kind : uint8_t { kFile, kSymlink, kHardlink };

  Kind kind = Kind::kFile;
  bool sparse = false;   // holes are left out of its bytes: it cannot be read in place
  std::string path{};    // as in the archive, not cleaned
  std::string target{};  // of links, as written
  uint64_t offset = 0;   // of its bytes, in a space of the archive's own
  uint64_t size = 0;     // bytes
};

class Archive {
 public:
  virtual ~Archive() = default;

  // Files and links in the order of the archive; folders and devices are left out. Of two with one
  // path the last counts.
  virtual const std::vector<ArchiveMember>& members() const = 0;
  // The bytes of a member of this archive that is a file. kUnavailable where the archive is not any
  // more what it was.
  virtual Result<std::shared_ptr<BlobSource>> Open(const ArchiveMember& member) const = 0;
};

}  // namespace lamina
