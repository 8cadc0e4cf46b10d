#pragma once

// From a record of a table of contents to a TarEntry: types, times, owners, xattrs, with the limits
// that hold for entries of a tar. Errors have the reason only; the caller knows the entry. Pure
// function; any thread.

#include "base/result.h"
#include "index/tar.h"
#include "index/toc_json.h"

namespace lamina {

// Of any record but a chunk.
Result<TarEntry> TocEntryOf(const TocRecord& record, const TarLimits& limits = {});

}  // namespace lamina
