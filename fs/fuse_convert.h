#pragma once

// From the namespace's values to libfuse's. Pure functions; any thread.

#include <sys/stat.h>

#include "fs/namespace_types.h"

struct fuse_entry_param;

namespace lamina {

// st_blocks is what EROFS gives (the size in whole blocks), so that FUSE and a kernel mount of the
// tree agree.
struct stat ToStat(const NodeAttr& attr);
fuse_entry_param ToEntryParam(const NodeEntry& entry);
// The S_IFMT bits.
mode_t TypeBits(EntryType type);

}  // namespace lamina
