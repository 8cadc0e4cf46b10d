#include "fs/layer_chunks.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "fs/layer_store.h"
#include "index/chunk_reader.h"

namespace lamina {
namespace {

// Bytes that fail verification are fetched again this often, each time from the next place.
constexpr int kRefetches = 2;

}  // namespace

LayerChunks::LayerChunks(std::shared_ptr<const LayerIndex> index,
                         std::shared_ptr<LayerCounters> counters,
                         std::shared_ptr<DecodeResources> decoding)
    : index_(std::move(index)), counters_(std::move(counters)), decoding_(std::move(decoding)) {}

void LayerChunks::AddSource(const std::shared_ptr<RepositorySource>& source,
                            const Descriptor& descriptor) {
  MutexLock lock(mutex_);
  const auto same = [&](const Place& place) { return place.source->origin() == source->origin(); };
  if (std::none_of(places_.begin(), places_.end(), same)) places_.push_back({source, descriptor});
}

void LayerChunks::SetCache(std::weak_ptr<LayerCache> cache) {
  MutexLock lock(mutex_);
  cache_ = std::move(cache);
}

std::vector<LayerChunks::Place> LayerChunks::Places() {
  MutexLock lock(mutex_);
  return places_;
}

uint64_t LayerChunks::chunk_count() const { return index_->facts().chunk_count; }
uint64_t LayerChunks::flat_size() const { return index_->facts().flat_size; }

ChunkExtent LayerChunks::Extent(uint64_t chunk) const {
  auto record = index_->Chunk(chunk);
  if (!record) return {};
  return {record->flat_offset, record->flat_length, record->zero};
}

Status LayerChunks::Verify(uint64_t chunk, ByteSpan bytes) const {
  return VerifyChunk(*index_, chunk, bytes);
}

Status LayerChunks::Produce(uint64_t chunk, MutableByteSpan out, const Deadline& deadline) {
  const std::vector<Place> places = Places();
  if (places.empty())
    return Error{Code::kUnavailable,
                 fmt::format("no source for layer {}", index_->facts().blob_digest.ToString())};
  Status last = Error{Code::kUnavailable, "no attempt was made"};
  const size_t attempts = places.size() + kRefetches;
  for (size_t attempt = 0; attempt < attempts; ++attempt) {
    if (attempt > 0) std::fill(out.begin(), out.end(), uint8_t{0});
    last = ProduceFrom(places[attempt % places.size()], chunk, out, deadline);
    if (last.has_value()) return last;
    // Only wrong bytes are worth asking the same place again: it has retried everything else
    // itself.
    if (attempt + 1 >= places.size() && last.error().code != Code::kCorrupt) return last;
    if (deadline.passed()) return last;
    LogWarning(fmt::format("chunk {}: {}; trying again", chunk, last.error().message));
  }
  return last;
}

Status LayerChunks::ProduceFrom(const Place& place, uint64_t chunk, MutableByteSpan out,
                                const Deadline& deadline) {
  ASSIGN_OR_RETURN(const std::shared_ptr<BlobSource> blob,
                   place.source->OpenBlob(place.descriptor));
  std::shared_ptr<LayerCache> cache;
  {
    MutexLock lock(mutex_);
    cache = cache_.lock();
  }
  const PassingChunk passing = [&](uint64_t other, ByteSpan bytes) {
    if (cache) cache->Offer(other, bytes);
  };
  ++counters_->chunk_fetches;
  Status done = DecodeChunk(*index_, chunk, *blob, out, deadline, passing, decoding_.get());
  if (!done)
    return done.error().Within(
        fmt::format("layer {} from {}", index_->facts().blob_digest.ToString(), blob->origin()));
  return done;
}

}  // namespace lamina
