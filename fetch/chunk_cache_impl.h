#pragma once

// The inside of LayerCache, which is in three parts: chunk_cache.cc reads and verifies chunks,
// chunk_keep.cc keeps and evicts them, chunk_runs.cc gets what is missing. Any thread.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/set_once.h"
#include "fetch/atomic_bitmap.h"
#include "fetch/cache_files.h"
#include "fetch/chunk_cache.h"
#include "fetch/chunk_flights.h"
#include "fetch/chunk_walk.h"
#include "fetch/decoded_chunks.h"
#include "fetch/read_ahead.h"

namespace lamina {

// An error unless the extent lies within the layer and is no larger than a chunk may be.
Status CheckExtent(const ChunkExtent& extent, const ChunkShape& shape);

// How a byte stays right when somebody truncates the data file under us: growing it again would
// turn what was there into zeros, so before that, and under one lock with the counting of `epoch`,
// every chunk ceases to be ready. A reader that finds the epoch changed after its pread does not
// believe what it read, and a writer marks a chunk as ready only in the epoch in which it wrote or
// checked it. Who evicts a chunk leads its flight and does the same with the chunk's own count
// before he punches the hole.
struct LayerCache::Impl : EvictableLayer, std::enable_shared_from_this<LayerCache::Impl> {
  Impl(const std::string& folder, const Digest& layer_digest, const ChunkShape& layer_shape,
       LayerCacheOptions options);
  ~Impl() override;

  const Digest layer;
  const CachePaths paths;
  const ChunkShape shape;
  std::shared_ptr<ChunkOwner> owner;
  std::shared_ptr<CacheCounters> counters;
  SetOnce<CacheFiles> files;  // absent while the disk gives none: then nothing is kept
  const std::chrono::steady_clock::duration retry;       // see OpenFilesAgain()
  std::atomic<std::chrono::steady_clock::rep> tried{0};  // when files were last tried; 0: never
  std::optional<CacheBudget::Account> account;           // absent where nothing limits the cache
  const bool keeps;                                      // false where the limit of the cache is 0
  const CacheCompression compression;
  const std::shared_ptr<DecodedChunks> decoded;
  const uint64_t decoded_as;  // the layer's number there

  AtomicBitmap ready;  // on disk and verified in this process; the read path looks here only
  std::atomic<uint64_t> epoch{0};
  Mutex ready_mutex;  // leaf; for changes of `ready` that depend on `epoch`
  // Of the chunks with this remainder, how often one was evicted.
  std::array<std::atomic<uint64_t>, 64> evictions{};
  std::vector<std::atomic<uint8_t>> warmth;  // of each chunk, how lately and often it was read
  std::atomic<uint64_t> hand{0};             // the chunk at which eviction goes on
  ChunkFlights flights;
  std::atomic<std::chrono::steady_clock::rep> warned{0};  // when, of the steady clock; 0: never
  AtomicBitmap unread;                                    // fetched ahead, and not read since
  const uint64_t most_ahead;                              // flat bytes of a stretch, with all
  ReadAhead read_ahead;
  // When a chunk could not be kept, of the steady clock; 0: never.
  std::atomic<std::chrono::steady_clock::rep> not_kept{0};
  std::atomic<bool> failing{false};  // is `told` set?
  mutable Mutex told_mutex;          // leaf
  std::optional<LayerCache::NotKept> told GUARDED_BY(told_mutex);

  // One call that reads or fetches a range.
  struct Reading {
    uint64_t last = 0;  // chunk of the range; what is joined does not go beyond it
    Deadline deadline;
    bool wants_bytes = true;
    Urgency urgency = Urgency::kReader;
    bool unasked = false;  // nobody reads it yet
    // What came by joined requests, for the parts that follow; null unless wants_bytes.
    std::map<uint64_t, ChunkBuffer> brought = {};
  };

  bool IsReady(uint64_t offset, uint64_t length) const;
  Status ReadFromFile(uint64_t offset, MutableByteSpan out);
  Status ReadPartFromFile(const ChunkPart& part, MutableByteSpan out);
  Status LoadPart(const ChunkPart& part, MutableByteSpan out);
  Result<ChunkBuffer> Decoded(const ChunkPart& part);
  Error NotReady() const;
  Status ReadPart(const ChunkPart& part, uint8_t* out, Reading& reading);

  // The chunk's bytes; null where it is ready, or was when they were looked for, or came and is of
  // no use to `reading`. Waits for who gets it, or gets it.
  Result<ChunkBuffer> Get(uint64_t chunk, const ChunkExtent& extent, Reading& reading);
  // With its flight, which the caller leads.
  Result<ChunkBuffer> Obtain(uint64_t chunk, const ChunkExtent& extent, Reading& reading,
                             LedChunks& led);
  Result<ChunkBuffer> ProduceOne(uint64_t chunk, const ChunkExtent& extent, const Reading& reading);
  bool IsAbsent(uint64_t chunk) const;
  // True where the chunk is missing and `led` leads it from now on.
  bool LeadAbsent(uint64_t chunk, LedChunks& led);
  // Leads what else is missing behind `first`, which the caller leads, and comes with it.
  uint64_t LeadRun(uint64_t first, uint64_t last, LedChunks& led);
  Status ProduceRun(uint64_t first, uint64_t last, Reading& reading, LedChunks& led);
  void TakeOfRun(uint64_t chunk, std::vector<uint8_t> bytes, Reading& reading, LedChunks& led);
  void Offer(uint64_t chunk, const ChunkBuffer& buffer);
  Status Fetch(uint64_t chunk, Reading& reading);

  // --- reading ahead
  void NoteRead(uint64_t chunk);
  void Post(void (Impl::*step)(uint64_t first, uint64_t end), uint64_t first, uint64_t end);
  uint64_t EndWithin(uint64_t first, uint64_t end, uint64_t bytes) const;
  uint64_t EndOfStretch(const ReadAhead::Stretch& stretch) const;
  void FetchStretch(uint64_t first, uint64_t end);
  void FetchAhead(uint64_t first, uint64_t end);
  bool IsKeeping() const;
  // Neither wasted nor to come any more.
  void ForgetUnread(uint64_t chunk, std::atomic<uint64_t>& counter);

  bool LoadChecked(uint64_t chunk, const ChunkExtent& extent, MutableByteSpan buffer);
  // `unasked`: nobody has asked for it yet. False where it is not kept.
  bool Keep(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes, bool unasked = false);
  Status KeepNow(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes, bool unasked);
  Status KeepWithinBudget(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes);
  void TellNotKept(const Error& error);
  void TellKept();

  // --- the files (chunk_keep.cc)
  bool Present(uint64_t chunk) const {
    const CacheFiles* open = files.get();
    return open != nullptr && open->Present(chunk);
  }
  bool CanWrite() const {
    const CacheFiles* open = files.get();
    return open != nullptr && open->writable();
  }
  uint64_t DiskBytes() const { return files->DiskBytes(); }
  // What is plain stays readable for who shares the file and takes it for plain.
  CacheCompression FormToKeep() const {
    return account && !account->HasFileAlone() ? CacheCompression::kNone : compression;
  }
  Status OpenFiles();
  Status OpenFilesAgain();

  bool Evict(uint64_t bytes) override;
  void EvictAll() override;
  // False where somebody is getting it at this moment. An error where the disk does not let it go:
  // then it is still there, to be checked again.
  Result<bool> EvictChunk(uint64_t chunk, const ChunkExtent& extent);
  void Warm(uint64_t chunk);
  void MakeUnready(uint64_t chunk);
  Result<bool> VerifyChunk(uint64_t chunk, const ChunkExtent& extent);

  void MarkReady(uint64_t chunk, uint64_t seen_epoch);
  void CountFiles(CacheFiles& opened);
  void RestoreSizeIfWrong();
  void WarnNotKept(const Error& error);
};

}  // namespace lamina
