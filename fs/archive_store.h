#pragma once

// ArchiveStore: opens archive files, so that their members can be read in place. A plain tar costs
// a read for each header. One that is compressed as a whole (gzip, zstd, by its magic) is treated
// as a layer: it is streamed once into a layer index with checkpoints, named by what stat(2) says
// of the file, and read through the cache like a layer from then on, by this process and later
// ones.
//
// Any thread. Blocks on local disk; the first time on a compressed archive for as long as it takes
// to stream it.

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/archive.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fetch/file_identity.h"
#include "fs/layer_store.h"

namespace lamina {

class ArchiveStore {
 public:
  // The name of the layer that the archive is, or would be if it were compressed. kNotFound and the
  // like where the file is away.
  static Result<Digest> LayerNameOf(const std::string& path);

  // `layers` outlives it.
  explicit ArchiveStore(LayerStore& layers) : layers_(layers) {}

  // kUnavailable where the file is away or is not the one of `identity` any more.
  Result<std::shared_ptr<const Archive>> Open(const std::string& path,
                                              const FileIdentity& identity);

  // Bytes done, and of how many, of the compressed archives that are being streamed now.
  std::pair<uint64_t, uint64_t> Streamed() const EXCLUDES(mutex_);
  // The layer that a compressed archive is. The last few stay open, not all: there may be more
  // archives than file descriptors.
  Result<std::shared_ptr<Layer>> OpenLayer(const LayerRequest& request) EXCLUDES(mutex_);
  const std::atomic<bool>& cancelled() const { return layers_.cancelled(); }

 private:
  std::shared_ptr<LayerProgress> NewProgress() EXCLUDES(mutex_);
  Result<std::shared_ptr<const Archive>> OpenPacked(const std::string& path,
                                                    const FileIdentity& identity);

  LayerStore& layers_;
  mutable Mutex mutex_;  // leaf
  std::vector<std::weak_ptr<LayerProgress>> streaming_ GUARDED_BY(mutex_);
  std::deque<std::shared_ptr<Layer>> kept_ GUARDED_BY(mutex_);  // the one used last is the last
};

}  // namespace lamina
