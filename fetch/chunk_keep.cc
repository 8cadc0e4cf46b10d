// How LayerCache keeps chunks and lets them go: the files, which may not be there yet or be for
// reading only, the budget, what is told where nothing can be kept, eviction.

#include <fmt/format.h>

#include <chrono>
#include <limits>

#include "fetch/chunk_cache_impl.h"

namespace lamina {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr SteadyClock::duration kWarnInterval = std::chrono::minutes(1);
// In place of a time: somebody is trying at this moment.
constexpr SteadyClock::rep kTrying = std::numeric_limits<SteadyClock::rep>::max();

SteadyClock::rep Now() { return SteadyClock::now().time_since_epoch().count(); }

}  // namespace

// --- the files

Status LayerCache::Impl::OpenFiles() {
  struct Trying {
    ~Trying() { tried = Now(); }
    std::atomic<SteadyClock::rep>& tried;
  } trying{tried};
  if (files.get() != nullptr) return files->MakeWritable();
  ASSIGN_OR_RETURN(auto opened, CacheFiles::Open(paths, shape, keeps));
  if (account) CountFiles(*opened);
  files.Set(std::move(opened));
  return {};
}

// Of those who come at the same time one tries.
Status LayerCache::Impl::OpenFilesAgain() {
  auto last = tried.load();
  const bool waited = last == 0 || (last != kTrying && Now() - last >= retry.count());
  if (waited && tried.compare_exchange_strong(last, kTrying)) return OpenFiles();
  MutexLock lock(told_mutex);
  return Error{Code::kIo, told ? told->reason : "the cache files are being opened"};
}

// Nobody here writes to the files yet, and nobody at all where nobody else has them.
void LayerCache::Impl::CountFiles(CacheFiles& opened) {
  account->SetFile(opened.Inode(), weak_from_this());
  if (account->HasFileAlone()) opened.FreeUnnamed(*owner);
  account->Settle([&] { return opened.DiskBytes(); });
}

// --- keeping

bool LayerCache::Impl::Keep(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes,
                            bool unasked) {
  if (!keeps) return false;
  Status kept = CanWrite() ? Status() : OpenFilesAgain();
  if (kept) kept = KeepNow(chunk, extent, bytes, unasked);
  if (kept) {
    TellKept();
    return true;
  }
  counters->write_failures.fetch_add(1, std::memory_order_relaxed);
  not_kept = Now();
  TellNotKept(kept.error());
  return false;
}

Status LayerCache::Impl::KeepNow(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes,
                                 bool unasked) {
  // Writing beyond the end of a truncated file would grow it with zeros where ready chunks were.
  RestoreSizeIfWrong();
  const uint64_t seen_epoch = epoch.load();
  RETURN_IF_ERROR(KeepWithinBudget(chunk, extent, bytes));
  RestoreSizeIfWrong();
  if (unasked) unread.Set(chunk);  // it is there, and nobody has seen it
  MarkReady(chunk, seen_epoch);
  return {};
}

Status LayerCache::Impl::KeepWithinBudget(uint64_t chunk, const ChunkExtent& extent,
                                          ByteSpan bytes) {
  if (!account) return files->Keep(chunk, extent, bytes, FormToKeep());
  ASSIGN_OR_RETURN(auto room, account->Reserve(bytes.size()));
  Status kept = files->Keep(chunk, extent, bytes, FormToKeep());
  room.Settle([this] { return DiskBytes(); });
  if (kept) warmth[chunk].store(1, std::memory_order_relaxed);
  return kept;
}

void LayerCache::Impl::TellNotKept(const Error& error) {
  {
    MutexLock lock(told_mutex);
    told = NotKept{error.message, WallClock::System().NowNs()};
    failing = true;
  }
  WarnNotKept(error);
}

void LayerCache::Impl::TellKept() {
  if (!failing.load(std::memory_order_relaxed)) return;
  MutexLock lock(told_mutex);
  told.reset();
  failing = false;
}

// At most once a minute: a full disk is met by every chunk.
void LayerCache::Impl::WarnNotKept(const Error& error) {
  const auto now = Now();
  auto last = warned.load();
  if (last != 0 && SteadyClock::duration(now - last) < kWarnInterval) return;
  if (!warned.compare_exchange_strong(last, now)) return;
  LogWarning(fmt::format("chunks of layer {} are served but not kept: {}", layer.ToString(),
                         error.message));
}

// --- eviction

// One round over the chunks, as far as the disk lets them go.
bool LayerCache::Impl::Evict(uint64_t bytes) {
  if (!CanWrite()) return false;
  uint64_t dropped = 0;
  for (uint64_t n = 0; n < shape.chunk_count && dropped < bytes; ++n) {
    const uint64_t chunk = hand.fetch_add(1, std::memory_order_relaxed) % shape.chunk_count;
    if (!Present(chunk)) continue;
    const uint8_t warm = warmth[chunk].load(std::memory_order_relaxed);
    if (warm > 0) {
      warmth[chunk].store(warm - 1, std::memory_order_relaxed);
      continue;
    }
    const ChunkExtent extent = owner->Extent(chunk);
    const auto evicted = EvictChunk(chunk, extent);
    if (!evicted) break;
    if (*evicted) dropped += extent.flat_length;
  }
  if (dropped > 0) account->SettleEvicted([this] { return DiskBytes(); });
  return dropped > 0;
}

void LayerCache::Impl::EvictAll() {
  if (!CanWrite()) return;
  for (uint64_t chunk = 0; chunk < shape.chunk_count; ++chunk)
    if (Present(chunk)) (void)EvictChunk(chunk, owner->Extent(chunk)).has_value();
  account->SettleEvicted([this] { return DiskBytes(); });
}

Result<bool> LayerCache::Impl::EvictChunk(uint64_t chunk, const ChunkExtent& extent) {
  LedChunks led(flights);
  if (!led.TryLead(chunk)) return false;
  MakeUnready(chunk);
  RETURN_IF_ERROR(files->Evict(chunk, extent));
  ForgetUnread(chunk, counters->ahead_wasted_bytes);
  return true;
}

}  // namespace lamina
