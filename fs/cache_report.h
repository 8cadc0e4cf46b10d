#pragma once

// ReportCache: what is kept, in figures, from what is on disk: nothing is opened for it and no
// layer is read. Any thread; blocks on local disk.

#include <cstdint>

#include "base/result.h"
#include "fs/layer_store.h"
#include "fs/layout.h"
#include "index/store.h"

namespace lamina {

struct CacheReport {
  uint64_t disk_free = 0;     // bytes for whoever may not use the disk's own reserve
  uint64_t layers_whole = 0;  // all bytes of which are here
  uint64_t layers_part = 0;   // some are
  uint64_t layers_none = 0;   // indexed, and none is
  uint64_t chunks_present = 0;
  uint64_t chunks_total = 0;  // of the layers that are indexed, without those of zeros
  uint64_t chunks_compressed = 0;
  uint64_t compressed_from = 0;  // bytes of these, decoded
  uint64_t compressed_to = 0;    // of disk that they take
  uint64_t pinned_bytes = 0;     // of disk
  uint64_t index_bytes = 0;      // of disk
  uint64_t tree_bytes = 0;       // of disk
  uint64_t document_bytes = 0;
};

Result<CacheReport> ReportCache(const StorePaths& paths, Store& store, const LayerStore& layers);

}  // namespace lamina
