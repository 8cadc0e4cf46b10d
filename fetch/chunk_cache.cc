#include "fetch/chunk_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "fetch/chunk_cache_impl.h"
#include "fetch/sparse_file.h"

namespace lamina {
namespace {

// Reads count up to here: a chunk that was read often stays for so many rounds of eviction.
constexpr uint8_t kWarmest = 3;

// For whoever is getting a chunk that is to be verified.
constexpr std::chrono::minutes kVerifyWait{1};

// A stretch that is fetched ahead has so many flat bytes, and so many more where a decoder gives
// them without beginning anew.
constexpr uint64_t kMostAhead = 16u << 20;
constexpr uint64_t kMostFurther = 8u << 20;
// What is fetched ahead of one reader takes no more of a small cache. He has two stretches ahead of
// him: the one that he is in, and the one that is fetched.
constexpr uint64_t kPartOfCache = 8;
constexpr uint64_t kStretches = 2;

uint64_t LimitOf(const LayerCacheOptions& options) {
  return options.budget == nullptr ? CacheBudget::kUnlimited : options.budget->limit();
}

Status CheckShape(const ChunkShape& shape, const Digest& layer) {
  if (shape.flat_size % kHoleBlock != 0 || shape.chunk_count > shape.flat_size / kHoleBlock)
    return Error{Code::kInvalid, fmt::format("layer {} claims {} chunks in {} bytes",
                                             layer.ToString(), shape.chunk_count, shape.flat_size)};
  return {};
}

// The bytes of `part` within its whole chunk.
void CopyPart(const ChunkPart& part, const std::vector<uint8_t>& chunk, uint8_t* out) {
  std::memcpy(out, chunk.data() + (part.begin - part.extent.flat_offset), part.length);
}

}  // namespace

LayerCache::Impl::Impl(const std::string& folder, const Digest& layer_digest,
                       const ChunkShape& layer_shape, LayerCacheOptions options)
    : layer(layer_digest),
      paths(folder, layer_digest),
      shape(layer_shape),
      retry(options.retry),
      keeps(LimitOf(options) > 0),
      compression(options.compression),
      decoded(options.decoded ? std::move(options.decoded) : std::make_shared<DecodedChunks>()),
      decoded_as(decoded->NewLayer()),
      ready(layer_shape.chunk_count),
      warmth(layer_shape.chunk_count),
      unread(layer_shape.chunk_count),
      most_ahead(std::min(kMostAhead + kMostFurther, LimitOf(options) / kPartOfCache / kStretches)),
      read_ahead(layer_shape.chunk_count, std::min(kMostAhead, most_ahead)) {
  if (options.budget != nullptr) account.emplace(std::move(options.budget), layer);
}

bool LayerCache::Impl::IsReady(uint64_t offset, uint64_t length) const {
  return VisitChunks(*owner, offset, length, [this](const ChunkPart& part) {
    return part.extent.zero || ready.Test(part.chunk);
  });
}

Status LayerCache::Impl::ReadFromFile(uint64_t offset, MutableByteSpan out) {
  const uint64_t before = epoch.load();
  Status status;
  uint64_t hits = 0;
  uint8_t* to = out.data();
  const bool whole = VisitChunks(*owner, offset, out.size(), [&](const ChunkPart& part) {
    if (part.extent.zero) {
      std::memset(to, 0, part.length);
    } else {
      status = ReadPartFromFile(part, {to, part.length});
      if (!status) return false;
      ++hits;
    }
    to += part.length;
    return true;
  });
  if (!status) return status;
  if (!whole || epoch.load() != before) return NotReady();
  counters->hits.fetch_add(hits, std::memory_order_relaxed);
  if (account) account->Touch();
  return {};
}

Status LayerCache::Impl::ReadPartFromFile(const ChunkPart& part, MutableByteSpan out) {
  const std::atomic<uint64_t>& evicted = evictions[part.chunk % evictions.size()];
  const uint64_t before = evicted.load();
  if (!ready.Test(part.chunk)) return NotReady();
  RETURN_IF_ERROR(LoadPart(part, out));
  if (evicted.load() != before) return NotReady();
  Warm(part.chunk);
  if (unread.Test(part.chunk)) NoteRead(part.chunk);
  return {};
}

Status LayerCache::Impl::LoadPart(const ChunkPart& part, MutableByteSpan out) {
  if (!files->IsCompressed(part.chunk)) {
    // What comes from the disk anew is checked anew, as a whole.
    if (!files->InMemory(part.begin, out.size())) return NotReady();
    return files->Load(part.begin, out);
  }
  ASSIGN_OR_RETURN(const ChunkBuffer bytes, Decoded(part));
  CopyPart(part, *bytes, out.data());
  return {};
}

// Verified each time that it is decoded, so what is remembered is right whatever the file is by
// now.
Result<ChunkBuffer> LayerCache::Impl::Decoded(const ChunkPart& part) {
  if (ChunkBuffer bytes = decoded->Find(decoded_as, part.chunk)) return bytes;
  // The caller may be one who does not wait for disks.
  if (!files->ChunkIsInMemory(part.chunk, part.extent)) return NotReady();
  auto buffer = std::make_shared<std::vector<uint8_t>>(part.extent.flat_length);
  RETURN_IF_ERROR(files->LoadChecked(part.chunk, part.extent.flat_offset, *buffer));
  decoded->Put(decoded_as, part.chunk, buffer);
  return ChunkBuffer(std::move(buffer));
}

Error LayerCache::Impl::NotReady() const {
  return Error{Code::kIo, "not ready in the cache any more: " + layer.ToString()};
}

// Without a lock: a step that gets lost is no harm.
void LayerCache::Impl::Warm(uint64_t chunk) {
  const uint8_t now = warmth[chunk].load(std::memory_order_relaxed);
  if (now < kWarmest) warmth[chunk].store(now + 1, std::memory_order_relaxed);
}

// Part of one chunk, by whatever it takes.
Status LayerCache::Impl::ReadPart(const ChunkPart& part, uint8_t* out, Reading& reading) {
  if (part.extent.zero) {
    std::memset(out, 0, part.length);
    return {};
  }
  while (true) {
    if (ready.Test(part.chunk)) {
      if (ReadFromFile(part.begin, {out, part.length})) return {};
      RestoreSizeIfWrong();
      ready.Clear(part.chunk);
    }
    ASSIGN_OR_RETURN(const ChunkBuffer bytes, Get(part.chunk, part.extent, reading));
    if (bytes == nullptr) continue;  // it is ready, or the flight brought nothing
    CopyPart(part, *bytes, out);
    return {};
  }
}

// A chunk that the map says is there, into `buffer`. False when it is bad, and then it is dropped.
bool LayerCache::Impl::LoadChecked(uint64_t chunk, const ChunkExtent& extent,
                                   MutableByteSpan buffer) {
  const uint64_t seen_epoch = epoch.load();
  const Status status = files->LoadChecked(chunk, extent.flat_offset, buffer);
  counters->checked.fetch_add(1, std::memory_order_relaxed);
  if (status) {
    MarkReady(chunk, seen_epoch);
    return true;
  }
  counters->rotten.fetch_add(1, std::memory_order_relaxed);
  MakeUnready(chunk);  // it may come back in another form, which nobody must take for this one
  files->Drop(chunk);
  ForgetUnread(chunk, counters->ahead_wasted_bytes);
  LogWarning(fmt::format("chunk {} of layer {} is bad in the cache and is fetched again: {}", chunk,
                         layer.ToString(), status.error().message));
  return false;
}

// Who reads the chunk without a lock does not believe what he gets, and comes to the flight.
void LayerCache::Impl::MakeUnready(uint64_t chunk) {
  ready.Clear(chunk);
  evictions[chunk % evictions.size()].fetch_add(1);
}

// Is it right, or gone by now? Whoever is getting it is waited for.
Result<bool> LayerCache::Impl::VerifyChunk(uint64_t chunk, const ChunkExtent& extent) {
  const Deadline bound = Deadline::After(kVerifyWait);
  LedChunks led(flights);
  ChunkFlights::Ticket ticket = led.Join(chunk);
  while (!ticket.leads) {
    const auto landed = led.Wait(chunk, ticket, bound);
    if (!landed && bound.passed()) return landed.error();
    if (!ticket.leads) ticket = led.Join(chunk);
  }
  if (!files->Present(chunk)) return true;
  RETURN_IF_ERROR(CheckExtent(extent, shape));
  MakeUnready(chunk);  // before the pages go: nobody reads what has not been checked
  files->DropPages(extent);
  auto buffer = std::make_shared<std::vector<uint8_t>>(extent.flat_length);
  const bool right = LoadChecked(chunk, extent, *buffer);
  if (!right && account && account->HasFileAlone()) files->FreeBlocks(extent);
  led.Land(chunk, right ? ChunkBuffer(std::move(buffer)) : ChunkBuffer());
  if (!right && account) account->Settle([this] { return DiskBytes(); });
  return right;
}

// Files that lost their name (another pass over the layer made new ones) leave nothing behind.
LayerCache::Impl::~Impl() {
  for (uint64_t chunk = 0; chunk < shape.chunk_count; ++chunk)
    if (unread.Test(chunk)) ForgetUnread(chunk, counters->ahead_wasted_bytes);
  if (account && files.get() != nullptr && files->HaveNames()) account->Keep();
}

void LayerCache::Impl::MarkReady(uint64_t chunk, uint64_t seen_epoch) {
  MutexLock lock(ready_mutex);
  if (epoch.load() == seen_epoch) ready.Set(chunk);
}

void LayerCache::Impl::RestoreSizeIfWrong() {
  if (files->SizeIsRight()) return;
  {
    MutexLock lock(ready_mutex);
    epoch.fetch_add(1);
    ready.ClearAll();
  }
  LogWarning(fmt::format("the cache file of layer {} was truncated; what is gone is fetched again",
                         layer.ToString()));
  if (Status restored = files->RestoreSize(); !restored) LogWarning(restored.error().message);
}

LayerCache::LayerCache(std::shared_ptr<Impl> impl, std::string data_path)
    : impl_(std::move(impl)), data_path_(std::move(data_path)) {}

LayerCache::~LayerCache() = default;

Result<std::shared_ptr<LayerCache>> LayerCache::Open(const std::string& folder, const Digest& layer,
                                                     std::shared_ptr<ChunkOwner> owner,
                                                     std::shared_ptr<CacheCounters> counters,
                                                     LayerCacheOptions options) {
  const ChunkShape shape{owner->chunk_count(), owner->flat_size()};
  RETURN_IF_ERROR(CheckShape(shape, layer));
  auto impl = std::make_shared<Impl>(folder, layer, shape, std::move(options));
  impl->owner = std::move(owner);
  impl->counters = std::move(counters);
  if (Status open = impl->OpenFiles(); !open && impl->keeps) impl->TellNotKept(open.error());
  if (impl->files.get() != nullptr && !impl->CanWrite()) impl->tried = 0;  // the first chunk tells
  const std::string data_path = impl->paths.data;
  return std::shared_ptr<LayerCache>(new LayerCache(std::move(impl), data_path));
}

bool LayerCache::Ready(uint64_t flat_offset, uint64_t length) const {
  return impl_->IsReady(flat_offset, length);
}

Status LayerCache::ReadReady(uint64_t flat_offset, MutableByteSpan out) const {
  return impl_->ReadFromFile(flat_offset, out);
}

Status LayerCache::Read(uint64_t flat_offset, MutableByteSpan out, const Deadline& deadline) {
  if (out.empty()) return {};
  Status status;
  uint8_t* to = out.data();
  Impl::Reading reading{.last = LastChunkFrom(*impl_->owner, flat_offset + out.size() - 1),
                        .deadline = deadline};
  const bool whole =
      VisitChunks(*impl_->owner, flat_offset, out.size(), [&](const ChunkPart& part) {
        status = impl_->ReadPart(part, to, reading);
        to += part.length;
        return status.has_value();
      });
  if (!status || whole) return status;
  return Error{Code::kInvalid,
               fmt::format("the chunks of layer {} do not cover bytes {} to {}",
                           impl_->layer.ToString(), flat_offset, flat_offset + out.size())};
}

uint64_t LayerCache::LastOfRun(uint64_t first) const {
  const uint64_t last = impl_->shape.chunk_count - 1;
  return first < last ? std::clamp(impl_->owner->LastOfRun(first, last), first, last) : first;
}

Status LayerCache::Fetch(uint64_t first, uint64_t last, const Deadline& deadline) {
  if (impl_->shape.chunk_count == 0) return {};
  last = std::min(last, impl_->shape.chunk_count - 1);
  Impl::Reading reading{
      .last = last, .deadline = deadline, .wants_bytes = false, .urgency = Urgency::kAhead};
  for (uint64_t chunk = first; chunk <= last; ++chunk)
    RETURN_IF_ERROR(impl_->Fetch(chunk, reading));
  return {};
}

void LayerCache::Offer(uint64_t chunk, ByteSpan bytes) {
  impl_->Offer(chunk, std::make_shared<std::vector<uint8_t>>(bytes.begin(), bytes.end()));
}

Result<LayerCache::Verified> LayerCache::Verify(
    const std::function<bool(uint64_t bytes)>& progress) {
  Verified verified;
  if (impl_->files.get() != nullptr) RETURN_IF_ERROR(impl_->files->RepairMap());
  for (uint64_t chunk = 0; chunk < impl_->shape.chunk_count; ++chunk) {
    if (!impl_->Present(chunk)) continue;
    const ChunkExtent extent = impl_->owner->Extent(chunk);
    ASSIGN_OR_RETURN(const bool right, impl_->VerifyChunk(chunk, extent));
    if (!right) verified.bad.push_back(chunk);
    ++verified.chunks;
    verified.bytes += extent.flat_length;
    if (!progress(extent.flat_length))
      return Error{Code::kCancelled, "nobody waits for it any more"};
  }
  return verified;
}

std::optional<LayerCache::NotKept> LayerCache::not_kept() const {
  MutexLock lock(impl_->told_mutex);
  return impl_->told;
}

LayerCache::Usage LayerCache::usage() const {
  Usage usage;
  for (uint64_t chunk = 0; chunk < impl_->shape.chunk_count; ++chunk) {
    const ChunkExtent extent = impl_->owner->Extent(chunk);
    if (extent.zero) continue;
    ++usage.chunks_total;
    if (!impl_->Present(chunk)) continue;
    ++usage.chunks_present;
    usage.bytes_present += extent.flat_length;
  }
  if (impl_->files.get() != nullptr) usage.disk_bytes = impl_->DiskBytes();
  return usage;
}

}  // namespace lamina
