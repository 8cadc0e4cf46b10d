#pragma once

// What commands take out of an image without a mount: a file's bytes, a listing, a tar. Each goes
// to a sink as it is made; what is missing is fetched on the way. Any thread; the calls block.

#include <cstddef>
#include <functional>
#include <string>

#include "base/blob_source.h"
#include "base/result.h"
#include "fs/image.h"

namespace lamina {

// A place in the merged tree of an image.
struct ImagePlace {
  Image& image;
  MountedTree& mounted;
  Nid nid = 0;
};

// The bytes of a regular file. kInvalid where the place is none.
Status WriteFileBytes(const ImagePlace& place, const ByteSink& out);

// A line of JSON for each entry, as `lamina tree --json` prints them (docs/semantics.md).
// `max_depth` as WalkTree().
Status WriteListing(const Tree& tree, Nid start, size_t max_depth, const ByteSink& out);

// A PAX tar of the place and all below it, the place itself being named `name`: types, modes,
// numeric owners, nanosecond times, hard links, xattrs, sparse files. `progress` is told the bytes
// of the files that are done, and of all; it says whether to go on.
Status WriteTar(const ImagePlace& place, const std::string& name,
                const std::function<bool(uint64_t done, uint64_t of)>& progress,
                const ByteSink& out);

}  // namespace lamina
