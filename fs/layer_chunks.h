#pragma once

// LayerChunks: tells the chunk cache what the chunks of a layer are and where to get them: the
// index on one side, the places that hold the blob on the other. Any thread.

#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "fetch/chunk_cache.h"
#include "fetch/repository_source.h"
#include "index/layer_index.h"

namespace lamina {

struct DecodeResources;
struct LayerCounters;

class LayerChunks : public ChunkOwner {
 public:
  LayerChunks(std::shared_ptr<const LayerIndex> index, std::shared_ptr<LayerCounters> counters,
              std::shared_ptr<DecodeResources> decoding);

  // More places that hold the blob, nearest first. The same origin counts once.
  void AddSources(const std::vector<std::shared_ptr<RepositorySource>>& sources,
                  const Descriptor& descriptor);
  // Chunks that are decoded on the way to another one go here.
  void SetCache(std::weak_ptr<LayerCache> cache);

  uint64_t chunk_count() const override;
  uint64_t flat_size() const override;
  ChunkExtent Extent(uint64_t chunk) const override;
  Status Produce(uint64_t chunk, MutableByteSpan out, const Deadline& deadline) override;
  std::optional<uint32_t> Checksum(uint64_t chunk) const override;

 private:
  struct Place {
    std::shared_ptr<RepositorySource> source;
    Descriptor descriptor;
    // It has failed: until then it is asked after the others.
    std::optional<Deadline> shunned_until = {};
  };
  // In the order in which to ask: local ones, then the rest, then those that failed of late.
  std::vector<Place> Places();
  void Shun(const Place& place);
  Status ProduceFrom(const Place& place, uint64_t chunk, MutableByteSpan out,
                     const Deadline& deadline);

  const std::shared_ptr<const LayerIndex> index_;
  const std::shared_ptr<LayerCounters> counters_;
  const std::shared_ptr<DecodeResources> decoding_;
  Mutex mutex_;  // leaf
  std::vector<Place> places_ GUARDED_BY(mutex_);
  std::weak_ptr<LayerCache> cache_ GUARDED_BY(mutex_);
};

}  // namespace lamina
