#pragma once

// LayerChunks: tells the chunk cache what the chunks of a layer are and where to get them: the
// index on one side, the places that hold the blob on the other. Any thread.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/quota.h"
#include "fetch/chunk_cache.h"
#include "fetch/repository_source.h"
#include "index/layer_index.h"

namespace lamina {

class Layer;
class TransferThreads;
struct DecodeResources;
struct LayerCounters;

// What the layers of a process share to get their chunks.
struct ChunkResources {
  std::shared_ptr<LayerCounters> counters;
  std::shared_ptr<DecodeResources> decoding;
  std::shared_ptr<Quota> memory;  // bytes in flight
  std::shared_ptr<TransferThreads> threads;
};

class LayerChunks : public ChunkOwner {
 public:
  LayerChunks(std::shared_ptr<const LayerIndex> index, ChunkResources resources);

  // More places that hold the blob, nearest first. The same origin counts once.
  void AddSources(const std::vector<std::shared_ptr<RepositorySource>>& sources,
                  const Descriptor& descriptor);
  // Whose chunks these are. Those that are decoded on the way to another one go to its cache, and
  // what is posted runs while it is open.
  void SetLayer(std::weak_ptr<Layer> layer);

  uint64_t chunk_count() const override;
  uint64_t flat_size() const override;
  ChunkExtent Extent(uint64_t chunk) const override;
  Status Produce(uint64_t chunk, MutableByteSpan out, const Deadline& deadline,
                 Urgency urgency) override;
  std::optional<uint32_t> Checksum(uint64_t chunk) const override;
  uint64_t LastOfRun(uint64_t first, uint64_t last) const override;
  Status ProduceRun(uint64_t first, uint64_t last, const ChunkSink& sink, const Deadline& deadline,
                    Urgency urgency) override;
  uint64_t EndOfReadAhead(uint64_t last) const override;
  bool MayReadAhead(uint64_t first, uint64_t last) const override;
  void Post(std::function<void()> job) override;

 private:
  struct Place {
    std::shared_ptr<RepositorySource> source;
    Descriptor descriptor;
    // It has failed: until then it is asked after the others.
    std::optional<Deadline> shunned_until = {};
    // Of a registry: it knows where the registry redirects to.
    std::shared_ptr<BlobSource> blob = {};
  };
  // A failure for want of memory says nothing of the place.
  struct Attempt {
    Status done;
    bool tells_of_place = true;
  };
  std::weak_ptr<Layer> OwnLayer();
  // In the order in which to ask: local ones, then the rest, then those that failed of late.
  std::vector<Place> Places();
  void Shun(const Place& place);
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Place& place);
  // For one fetch, so that what it waits for is known.
  Result<std::shared_ptr<BlobSource>> OpenBlobFor(const Place& place, Urgency urgency);
  // What it takes to get these chunks.
  struct Need {
    uint64_t blob = 0;    // bytes of it
    uint64_t memory = 0;  // for what is fetched and decoded at a time
  };
  Need NeedOf(uint64_t first, uint64_t last) const;
  // On the account of the blob's server.
  Result<Quota::Share> TakeMemory(const BlobSource& blob, uint64_t bytes, Urgency urgency,
                                  const Deadline& deadline);
  Attempt ProduceFrom(const Place& place, uint64_t chunk, MutableByteSpan out,
                      const Deadline& deadline, Urgency urgency);
  Attempt ProduceRunFrom(const Place& place, uint64_t first, uint64_t last, const ChunkSink& sink,
                         const Deadline& deadline, Urgency urgency);
  Error OfLayer(const Error& error, const BlobSource& blob) const;
  void NoteSpeed(uint64_t bytes, Deadline::Clock::time_point begun, const BlobSource& blob);

  const std::shared_ptr<const LayerIndex> index_;
  const ChunkResources resources_;
  std::atomic<uint64_t> most_joined_;  // blob bytes; what comes within a second or two
  Mutex mutex_;                        // leaf
  std::vector<Place> places_ GUARDED_BY(mutex_);
  std::weak_ptr<Layer> layer_ GUARDED_BY(mutex_);
};

}  // namespace lamina
