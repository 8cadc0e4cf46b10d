#include "fs/layer_chunks.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "fs/layer_store.h"
#include "fs/transfer_threads.h"
#include "index/chunk_reader.h"
#include "index/chunk_run.h"
#include "index/verified_range.h"
#include "index/window_budget.h"

namespace lamina {
namespace {

// Bytes that fail verification are fetched again this often, each time from the next place.
constexpr size_t kRefetches = 2;
// How long a place that has failed is asked last.
constexpr std::chrono::seconds kShunned{60};

}  // namespace

LayerChunks::LayerChunks(std::shared_ptr<const LayerIndex> index, ChunkResources resources)
    : index_(std::move(index)), resources_(std::move(resources)), most_joined_(kMostJoined) {}

void LayerChunks::AddSources(const std::vector<std::shared_ptr<RepositorySource>>& sources,
                             const Descriptor& descriptor) {
  std::vector<Place> replaced;  // ends connections: without the lock
  MutexLock lock(mutex_);
  for (const auto& source : sources) {
    const auto same = [&](const Place& place) {
      return place.source->origin() == source->origin();
    };
    const auto known = std::find_if(places_.begin(), places_.end(), same);
    // The latest knows how the host is configured now.
    if (known == places_.end()) {
      places_.push_back({source, descriptor});
    } else {
      replaced.push_back(std::exchange(*known, {source, descriptor, known->shunned_until}));
    }
  }
}

void LayerChunks::SetLayer(std::weak_ptr<Layer> layer) {
  MutexLock lock(mutex_);
  layer_ = std::move(layer);
}

std::weak_ptr<Layer> LayerChunks::OwnLayer() {
  MutexLock lock(mutex_);
  return layer_;
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

Status LayerChunks::Produce(uint64_t chunk, MutableByteSpan out, const Deadline& deadline,
                            Urgency urgency) {
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
    Attempt tried = ProduceFrom(place, chunk, out, deadline.Share(left), urgency);
    last = std::move(tried.done);
    if (last.has_value()) return last;
    if (places.size() > 1 && tried.tells_of_place) Shun(place);
    // Only wrong bytes are worth asking the same place again: it has retried everything else
    // itself.
    if (attempt + 1 >= places.size() && last.error().code != Code::kCorrupt) return last;
    if (deadline.passed()) return last;
    LogWarning(fmt::format("chunk {}: {}; trying again", chunk, last.error().message));
  }
  return last;
}

Result<std::shared_ptr<BlobSource>> LayerChunks::OpenBlob(const Place& place) {
  if (place.blob) return place.blob;
  ASSIGN_OR_RETURN(auto blob, place.source->OpenBlob(place.descriptor));
  if (place.source->pool_key() == "local") return blob;  // what is opened is the file of now
  MutexLock lock(mutex_);
  for (Place& known : places_) {
    if (known.source != place.source) continue;
    if (!known.blob) known.blob = std::move(blob);
    return known.blob;
  }
  return blob;
}

Result<std::shared_ptr<BlobSource>> LayerChunks::OpenBlobFor(const Place& place, Urgency urgency) {
  ASSIGN_OR_RETURN(std::shared_ptr<BlobSource> blob, OpenBlob(place));
  auto other = blob->WithUrgency(urgency);
  return other ? std::move(other) : std::move(blob);
}

LayerChunks::Need LayerChunks::NeedOf(uint64_t first, uint64_t last) const {
  uint64_t flat = 0;
  for (uint64_t chunk = first; chunk <= last; ++chunk) {
    const ChunkExtent extent = Extent(chunk);
    if (extent.zero) continue;
    // Of several chunks that are decoded one after another only one is held.
    flat =
        index_->piece_count() > 0 ? flat + extent.flat_length : std::max(flat, extent.flat_length);
  }
  const uint64_t blob = RunBytes(*index_, first, last);
  return {blob, std::min(blob, kOneFetch) + flat};
}

Result<Quota::Share> LayerChunks::TakeMemory(const BlobSource& blob, uint64_t bytes,
                                             Urgency urgency, const Deadline& deadline) {
  auto share = resources_.memory->Take(bytes, urgency, deadline, OwnerOf(blob.origin()));
  if (share) return *std::move(share);
  return Error{Code::kTimeout, "other transfers took all memory that there is for them"};
}

Error LayerChunks::OfLayer(const Error& error, const BlobSource& blob) const {
  return error.Within(
      fmt::format("layer {} from {}", index_->facts().blob_digest.ToString(), blob.origin()));
}

LayerChunks::Attempt LayerChunks::ProduceFrom(const Place& place, uint64_t chunk,
                                              MutableByteSpan out, const Deadline& deadline,
                                              Urgency urgency) {
  const auto blob = OpenBlobFor(place, urgency);
  if (!blob) return {blob.error()};
  const Need need = NeedOf(chunk, chunk);
  const auto memory = TakeMemory(**blob, need.memory, urgency, deadline);
  if (!memory) return {OfLayer(memory.error(), **blob), false};
  const std::shared_ptr<Layer> layer = OwnLayer().lock();
  const PassingChunk passing = [&](uint64_t other, ByteSpan bytes) {
    if (layer) layer->cache().Offer(other, bytes);
  };
  ++resources_.counters->chunk_fetches;
  const auto begun = Deadline::Clock::now();
  Status done =
      DecodeChunk(*index_, chunk, **blob, out, deadline, passing, resources_.decoding.get());
  if (!done) return {OfLayer(done.error(), **blob)};
  NoteSpeed(need.blob, begun, **blob);
  return {done};
}

// --- runs ----------------------------------------------------------------------------------------

uint64_t LayerChunks::LastOfRun(uint64_t first, uint64_t last) const {
  return lamina::LastOfRun(*index_, first, last, most_joined_.load(std::memory_order_relaxed));
}

uint64_t LayerChunks::EndOfReadAhead(uint64_t last) const {
  return LastOfCheckpoint(*index_, last);
}

// Not where the decoder would have to come from far to the first chunk.
bool LayerChunks::MayReadAhead(uint64_t first, uint64_t last) const {
  return RunBytes(*index_, first, last) <= kOneFetch;
}

// The layer stays open while the job runs. Were only its cache left, whoever opens the layer again
// would get a second cache of the same file, and nothing is evicted from a file that two have.
void LayerChunks::Post(std::function<void()> job) {
  const std::vector<Place> places = Places();
  if (places.empty()) return;
  resources_.threads->Post(places.front().source->pool_key(),
                           [weak = OwnLayer(), job = std::move(job)] {
                             if (const std::shared_ptr<Layer> open = weak.lock()) job();
                           });
}

Status LayerChunks::ProduceRun(uint64_t first, uint64_t last, const ChunkSink& sink,
                               const Deadline& deadline, Urgency urgency) {
  const std::vector<Place> places = Places();
  Status done = Error{Code::kUnavailable, fmt::format("no source for layer {}",
                                                      index_->facts().blob_digest.ToString())};
  uint64_t next = first;  // the first that has not come
  const ChunkSink counted = [&](uint64_t chunk, std::vector<uint8_t> bytes) {
    if (chunk >= first) next = chunk + 1;
    ++resources_.counters->chunk_fetches;
    sink(chunk, std::move(bytes));
  };
  for (size_t i = 0; i < places.size() && !deadline.passed(); ++i) {
    while (next < last && Extent(next).zero) ++next;
    const Deadline share = deadline.Share(places.size() - i);
    Attempt tried = ProduceRunFrom(places[i], next, last, counted, share, urgency);
    done = std::move(tried.done);
    if (done || next > last) return done;
    if (places.size() > 1 && tried.tells_of_place) Shun(places[i]);
    if (done.error().code == Code::kCorrupt) return done;
  }
  return done;
}

LayerChunks::Attempt LayerChunks::ProduceRunFrom(const Place& place, uint64_t first, uint64_t last,
                                                 const ChunkSink& sink, const Deadline& deadline,
                                                 Urgency urgency) {
  const auto blob = OpenBlobFor(place, urgency);
  if (!blob) return {blob.error()};
  const Need need = NeedOf(first, last);
  const auto memory = TakeMemory(**blob, need.memory, urgency, deadline);
  if (!memory) return {OfLayer(memory.error(), **blob), false};
  const auto begun = Deadline::Clock::now();
  Status done = DecodeRun(*index_, first, last, **blob, deadline, sink, resources_.decoding.get());
  if (!done && done.error().code == Code::kTimeout) NoteSpeed(need.blob / 2, begun, **blob);
  if (!done) return {OfLayer(done.error(), **blob)};
  NoteSpeed(need.blob, begun, **blob);
  return {done};
}

// A reader may wait for a chunk at the end of what is joined. What its requests waited for their
// turn says nothing of how fast bytes come, and smaller ones would wait more often.
void LayerChunks::NoteSpeed(uint64_t bytes, Deadline::Clock::time_point begun,
                            const BlobSource& blob) {
  constexpr uint64_t kLeastJoined = 1u << 20;
  constexpr int64_t kMillisecondsOfARun = 2000;
  const auto taken = std::chrono::duration_cast<std::chrono::milliseconds>(Deadline::Clock::now() -
                                                                           begun - blob.queued());
  const uint64_t most = bytes * kMillisecondsOfARun / std::max<int64_t>(1, taken.count());
  most_joined_.store(std::clamp(most, kLeastJoined, kMostJoined), std::memory_order_relaxed);
}

}  // namespace lamina
