#include "fs/layer_chunks.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "fs/layer_store.h"
#include "index/chunk_reader.h"

namespace lamina {
namespace {

// Bytes that fail verification are fetched again this often, each time from the next place.
constexpr size_t kRefetches = 2;
// How long a place that has failed is asked last.
constexpr std::chrono::seconds kShunned{60};

// The part of the time left that one of `places` may use, so that a silent one leaves the others
// some.
Deadline Share(const Deadline& deadline, size_t places) {
  return Deadline::After(deadline.remaining() / static_cast<int64_t>(places));
}

}  // namespace

LayerChunks::LayerChunks(std::shared_ptr<const LayerIndex> index,
                         std::shared_ptr<LayerCounters> counters,
                         std::shared_ptr<DecodeResources> decoding)
    : index_(std::move(index)), counters_(std::move(counters)), decoding_(std::move(decoding)) {}

void LayerChunks::AddSources(const std::vector<std::shared_ptr<RepositorySource>>& sources,
                             const Descriptor& descriptor) {
  MutexLock lock(mutex_);
  for (const auto& source : sources) {
    const auto same = [&](const Place& place) {
      return place.source->origin() == source->origin();
    };
    const auto known = std::find_if(places_.begin(), places_.end(), same);
    // The latest knows how the host is configured now.
    if (known == places_.end())
      places_.push_back({source, descriptor});
    else
      known->source = source;
  }
}

void LayerChunks::SetCache(std::weak_ptr<LayerCache> cache) {
  MutexLock lock(mutex_);
  cache_ = std::move(cache);
}

std::vector<LayerChunks::Place> LayerChunks::Places() {
  std::vector<Place> places;
  {
    MutexLock lock(mutex_);
    places = places_;
  }
  const auto rank = [](const Place& place) {
    if (place.shunned_until && !place.shunned_until->passed()) return 2;
    return place.source->pool_key() == "local" ? 0 : 1;
  };
  std::stable_sort(places.begin(), places.end(),
                   [&](const Place& a, const Place& b) { return rank(a) < rank(b); });
  return places;
}

void LayerChunks::Shun(const Place& place) {
  MutexLock lock(mutex_);
  for (Place& known : places_)
    if (known.source == place.source) known.shunned_until = Deadline::After(kShunned);
}

uint64_t LayerChunks::chunk_count() const { return index_->facts().chunk_count; }
uint64_t LayerChunks::flat_size() const { return index_->facts().flat_size; }

ChunkExtent LayerChunks::Extent(uint64_t chunk) const {
  auto record = index_->Chunk(chunk);
  if (!record) return {};
  return {record->flat_offset, record->flat_length, record->zero};
}

std::optional<uint32_t> LayerChunks::Checksum(uint64_t chunk) const {
  const auto record = index_->Chunk(chunk);
  return record ? record->checksum : std::nullopt;
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
    const Place& place = places[attempt % places.size()];
    const size_t left = attempt < places.size() ? places.size() - attempt : 1;
    last = ProduceFrom(place, chunk, out, Share(deadline, left));
    if (last.has_value()) return last;
    if (places.size() > 1) Shun(place);
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
