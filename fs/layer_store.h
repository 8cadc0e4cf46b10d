#pragma once

// LayerStore: the layers that are open. A Layer joins what is known of one blob: its index, its
// cache file and the source that its compressed bytes come from. There is one Layer object per
// digest in the process, whatever images hold it, so that one indexing pass and one fetch per chunk
// serve them all.
//
// Any thread. Get() blocks (it may index the layer), so never on a FUSE thread; a Layer's Cache()
// does not.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/blob_source.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/quota.h"
#include "base/result.h"
#include "base/set_once.h"
#include "base/single_flight.h"
#include "fetch/chunk_cache.h"
#include "fetch/manifest.h"
#include "fetch/repository_source.h"
#include "fs/layout.h"
#include "fs/leases.h"
#include "index/layer_index.h"
#include "index/layer_indexer.h"
#include "index/memory_budget.h"
#include "index/read_cost.h"

namespace lamina {

class AtomicFile;
class LayerChunks;
class SociFinder;
struct ChunkResources;

// All transfers of a process hold so many bytes of blobs, and of what they were decoded to, at a
// time: those who want more wait. A fourth is for what a reader waits for.
inline constexpr uint64_t kTransferMemory = 64u << 20;
std::shared_ptr<Quota> MakeTransferMemory();

class Layer {
 public:
  const Digest& digest() const { return index_->facts().blob_digest; }
  const LayerIndex& index() const { return *index_; }
  const std::shared_ptr<const LayerIndex>& shared_index() const { return index_; }
  LayerCache& cache() const { return *cache_; }
  // Of a read of a few bytes, none of which is local.
  const ReadCost& cold_read() const { return cold_read_; }
  // Has all of the layer been verified, or only what was read?
  bool verified() const { return index_->facts().kind == IndexKind::kOwn; }
  // Set once the whole layer has come and is not what its index says: nothing of it is to be served
  // any more.
  const Error* refusal() const { return refusal_.get(); }

 private:
  friend class LayerStore;
  Layer(std::shared_ptr<const LayerIndex> index, std::shared_ptr<LayerChunks> chunks,
        std::shared_ptr<LayerCache> cache, Leases::Lease lease)
      : lease_(std::move(lease)),
        index_(std::move(index)),
        chunks_(std::move(chunks)),
        cache_(std::move(cache)),
        cold_read_(ColdReadCost(*index_)) {}
  const Leases::Lease lease_;  // ends when all else is closed
  std::shared_ptr<const LayerIndex> index_;
  std::shared_ptr<LayerChunks> chunks_;
  std::shared_ptr<LayerCache> cache_;
  const ReadCost cold_read_;
  SetOnce<Error> refusal_;
};

// How far the indexing of a layer is; read by status.json and progress bars while it runs.
struct LayerProgress {
  std::atomic<uint64_t> done_bytes{0};  // compressed
  std::atomic<uint64_t> total_bytes{0};
  std::atomic<bool> finished{false};
};

// What is needed to open a layer.
struct LayerRequest {
  Descriptor descriptor;
  std::optional<Digest> diff_id;
  std::string name;  // for messages: "layer 2 (sha256:…) of docker.io/library/debian@sha256:…"
  std::vector<std::shared_ptr<RepositorySource>> sources;  // that may hold it, nearest first
  std::shared_ptr<LayerProgress> progress;                 // may be absent
  // Only a layer that was verified as a whole will do: no foreign index is believed.
  bool strict = false;
  // Of the image: beside one of them an external table of contents may stand.
  std::vector<std::string> tags = {};
  std::shared_ptr<SociFinder> soci = nullptr;  // of the image; absent: nobody is asked for zTOCs
};

// What was collected as garbage in this process (fs/garbage.h).
struct GarbageCounters {
  std::atomic<uint64_t> runs{0};
  std::atomic<uint64_t> collected{0};    // layers, trees, documents, files
  std::atomic<uint64_t> freed_bytes{0};  // of disk
};

struct LayerCounters {
  std::atomic<uint64_t> indexed{0};  // passes finished
  std::atomic<uint64_t> foreign{0};  // indexes made of TOCs and zTOCs
  std::atomic<uint64_t> index_failures{0};
  std::atomic<uint64_t> chunk_fetches{0};  // chunks decoded from the source
};

class LayerStore {
 public:
  // `cache_limit`: bytes of disk for the bytes of layers.
  // `memory`: bytes in flight, shared with the streams of registries; by default one of its own.
  explicit LayerStore(StorePaths paths, uint64_t cache_limit = CacheBudget::kUnlimited,
                      std::shared_ptr<Quota> memory = nullptr,
                      CacheCompression compression = CacheCompression::kNone);
  ~LayerStore();

  // The open layer; indexes it first where no index is there yet. Of callers with the same sources
  // one leads the pass and the others wait for it; those with other sources lead their own, so that
  // nobody waits for a place that he has not named. Failures are delivered to all who wait and not
  // remembered, but for one: a layer that is not what a foreign index said of it is refused for
  // ever (kInvalid). kCorrupt where the layer is not the one that the request describes.
  Result<std::shared_ptr<Layer>> Get(const LayerRequest& request);
  // The layer if it is open or its index is on disk; kNotFound otherwise. Local disk only.
  Result<std::shared_ptr<Layer>> GetIndexed(const LayerRequest& request);

  // Has this layer been refused? Local disk only.
  Status CheckNotRefused(const LayerRequest& request) const;

  // Running passes give up with kCancelled, later calls fail.
  void Cancel();
  // For what else is made of layers.
  const std::atomic<bool>& cancelled() const { return cancelled_; }

  // Nothing of these layers is evicted, by Digest::PathName(); of others what is above the limit.
  void SetPinned(std::set<std::string> layers);

  // --- what is kept (layer_store_upkeep.cc); local disk only
  // Who uses what; nothing of it is collected.
  Leases& leases() { return leases_; }
  GarbageCounters& garbage_counters() { return garbage_counters_; }
  const GarbageCounters& garbage_counters() const { return garbage_counters_; }
  struct KeptLayer {
    Digest digest;
    uint64_t index_bytes = 0;  // of disk, with the reason of a refusal
    uint64_t cache_bytes = 0;  // of disk
    int64_t changed_ns = 0;    // the youngest of its files
  };
  // By digest.
  std::vector<KeptLayer> KeptLayers() const;
  // The layer by what is on disk, without a source of what is missing. kNotFound where it has no
  // index, kCorrupt where that is damaged.
  Result<std::shared_ptr<Layer>> OpenStored(const Digest& digest);
  // Whoever gets it next opens it anew from disk.
  void LetGo(const Digest& digest);
  // Writes down when the cached bytes of open layers were last read.
  void StampUses() { cache_budget_->StampUses(); }
  // Removes its cached bytes; readers go on and fetch again.
  void ClearCache(const Digest& digest) { cache_budget_->Clear(digest.PathName()); }
  // Removes index, refusal and cached bytes. False where somebody uses the layer, or `may` says no
  // when nobody can any more; it takes no lease.
  bool Collect(const Digest& digest, const std::function<bool()>& may);

  const CacheBudget& cache_budget() const { return *cache_budget_; }
  const CacheCounters& cache_counters() const { return *cache_counters_; }
  const LayerCounters& counters() const;
  const Quota& memory() const;  // bytes in flight
  const StorePaths& paths() const { return paths_; }

 private:
  std::shared_ptr<Layer> Opened(const LayerRequest& request);
  Result<std::shared_ptr<Layer>> OpenOrIndex(const LayerRequest& request);
  Result<std::shared_ptr<const LayerIndex>> OpenIndex(const LayerRequest& request) const;
  Result<std::shared_ptr<const LayerIndex>> MakeIndex(const LayerRequest& request);
  Result<std::shared_ptr<const LayerIndex>> MakeIndexAt(const std::string& path,
                                                        const LayerRequest& request);
  IndexRequest PassOf(const LayerRequest& request, const std::string& path);
  Result<std::shared_ptr<const LayerIndex>> ForeignIndex(const std::string& path,
                                                         const LayerRequest& request);
  static Result<std::shared_ptr<BlobSource>> OpenContinued(size_t source,
                                                           const LayerRequest& request);
  // By a pass over the blob that the source with this number gives.
  Result<std::shared_ptr<const LayerIndex>> IndexFrom(size_t source, const std::string& path,
                                                      const LayerRequest& request);
  std::unique_ptr<CacheWriter> WriterFor(const LayerRequest& request) const;
  Status Publish(const LayerRequest& request, const std::shared_ptr<const LayerIndex>& index,
                 AtomicFile& file, CacheWriter* writer);
  Result<bool> MayTakePlace(const LayerRequest& request, const LayerIndex& index);
  void Refuse(const LayerRequest& request, const Error& reason);
  Result<std::shared_ptr<Layer>> Assemble(const LayerRequest& request,
                                          const std::shared_ptr<const LayerIndex>& index);

  const StorePaths paths_;
  std::atomic<bool> cancelled_{false};
  MemoryBudget index_memory_{uint64_t{1} << 30};  // of all passes together
  const std::shared_ptr<CacheBudget> cache_budget_;
  const std::shared_ptr<CacheCounters> cache_counters_;
  const CacheCompression cache_compression_;
  const std::shared_ptr<DecodedChunks> decoded_chunks_;
  Leases leases_;
  GarbageCounters garbage_counters_;
  const std::shared_ptr<ChunkResources> resources_;
  SingleFlight<std::string, std::shared_ptr<Layer>> opening_;  // by layer and sources
  SingleFlight<Digest, bool> publishing_;                      // local disk only
  SingleFlight<Digest, std::shared_ptr<Layer>> assembling_;    // local disk only
  Mutex mutex_;                                                // leaf
  std::map<Digest, std::weak_ptr<Layer>> open_ GUARDED_BY(mutex_);
};

}  // namespace lamina
