#pragma once

// The members of a plain tar file that can be read anywhere: headers are read, bodies are stepped
// over, so that an archive of 100 GB costs a few reads for each member. Names follow the rules of
// TarParser. Pure function; blocks on the source; memory is bounded by the limits.

#include <cstdint>
#include <vector>

#include "base/archive.h"
#include "base/blob_source.h"
#include "base/result.h"
#include "index/tar.h"

namespace lamina {

struct TarDirectoryLimits {
  uint64_t members = 1'000'000;     // of any type
  uint64_t name_bytes = 64u << 20;  // of all paths and link targets together
  TarLimits headers = {};           // raw_bytes does not count here
};

// Offsets are bytes of the file. kInvalid with the place and the reason where a header is broken or
// a member is cut off, kLimit above a limit.
Result<std::vector<ArchiveMember>> ReadTarDirectory(BlobSource& archive,
                                                    const TarDirectoryLimits& limits = {});

}  // namespace lamina
