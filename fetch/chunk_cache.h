#pragma once

// ChunkCache: the decoded bytes of layers on local disk, one sparse file per layer in the layout of
// the layer's flat address space, with a map of the chunks that are there and their checksums. The
// bytes of a chunk are compared with its checksum when they enter memory, for the first time in a
// process or anew: what was verified when it came is then still what it was.
//
// A LayerCache is shared by all readers of one layer. Peeks are wait-free; Fill leads or joins the
// one fetch of a chunk, and neighbours that are missing together come by one request. Who reads one
// chunk after another is read ahead for (see ReadAhead). Any thread; Fill blocks and never runs on
// a FUSE thread.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "base/urgency.h"
#include "fetch/cache_budget.h"
#include "fetch/chunk_codec.h"

namespace lamina {

class DecodedChunks;

// A chunk's place in the flat address space. `zero` chunks hold no data: they read as zeros, cost
// no cache and are always there.
struct ChunkExtent {
  uint64_t flat_offset = 0;  // bytes, multiple of 4096
  uint64_t flat_length = 0;  // bytes, multiple of 4096
  bool zero = false;
};

// Takes a chunk that was decoded and verified, flat_length bytes.
using ChunkSink = std::function<void(uint64_t chunk, std::vector<uint8_t> bytes)>;

// What the cache asks of the layer whose chunks it keeps (the index gives it; see fs/layer.cc).
class ChunkOwner {
 public:
  virtual ~ChunkOwner() = default;
  virtual uint64_t chunk_count() const = 0;
  virtual uint64_t flat_size() const = 0;  // bytes
  virtual ChunkExtent Extent(uint64_t chunk) const = 0;
  // Fetches, decodes and verifies: fills `out` (flat_length bytes, zeroed before) or fails.
  virtual Status Produce(uint64_t chunk, MutableByteSpan out, const Deadline& deadline,
                         Urgency urgency) = 0;
  // CRC-32C of the chunk's bytes, where the pass over the whole layer has learnt it.
  virtual std::optional<uint32_t> Checksum(uint64_t chunk) const = 0;

  // The last chunk, at most `last`, that one request brings together with `first`; both are data
  // chunks. `first` where nothing is joined.
  virtual uint64_t LastOfRun(uint64_t first, uint64_t /*last*/) const { return first; }
  // One attempt at the data chunks from `first` to `last`. Gives `sink` each as soon as it is
  // there, and others that were decoded on the way. kCorrupt where some of the bytes were wrong:
  // then each chunk is worth a Produce() of its own.
  virtual Status ProduceRun(uint64_t first, uint64_t last, const ChunkSink& sink,
                            const Deadline& deadline, Urgency urgency);
  // Reading ahead ends well at the chunk `last` or a little behind it.
  virtual uint64_t EndOfReadAhead(uint64_t last) const { return last; }
  // True where the chunks are worth fetching before anybody asks for them.
  virtual bool MayReadAhead(uint64_t /*first*/, uint64_t /*last*/) const { return false; }
  // Runs `job` on another thread some time, or nobody does. Whoever has the cache open keeps it so
  // while the job runs: it would else live on beside one that is opened anew.
  virtual void Post(std::function<void()> /*job*/) {}
};

struct CacheCounters {
  std::atomic<uint64_t> hits{0};            // chunks found verified
  std::atomic<uint64_t> misses{0};          // chunks produced
  std::atomic<uint64_t> joined{0};          // readers that waited for another's fetch
  std::atomic<uint64_t> checked{0};         // chunks verified on entry from disk
  std::atomic<uint64_t> rotten{0};          // chunks found bad on disk and dropped
  std::atomic<uint64_t> write_failures{0};  // chunks served but not kept (disk full)
  std::atomic<uint64_t> runs{0};            // attempts at several chunks at once
  std::atomic<uint64_t> run_chunks{0};      // chunks that came by them
  // Flat bytes of chunks that came before anybody asked for them; of these, what was read later,
  // and what was evicted unread.
  std::atomic<uint64_t> ahead_bytes{0};
  std::atomic<uint64_t> ahead_used_bytes{0};
  std::atomic<uint64_t> ahead_wasted_bytes{0};
};

// Fills a layer's cache file while the layer is indexed, before its chunk table is known. Nothing
// counts as present until Commit(). One thread. Runs of zero blocks are not written. A full disk
// ends the keeping, not the work: the disk's reserve (see DiskRoom) is left to others, or given
// back as soon as it is found to be taken.
class CacheWriter {
 public:
  // Within `budget`, where there is one: a layer keeps at most half of it while it is indexed, so
  // that one large layer does not take everybody's place.
  // What is written is plain until Commit() compresses it.
  static Result<std::unique_ptr<CacheWriter>> Create(
      const std::string& folder, const Digest& layer, std::shared_ptr<CacheBudget> budget = nullptr,
      CacheCompression compression = CacheCompression::kNone);
  ~CacheWriter();  // without Commit(): removes the file
  // `flat_offset` grows; both are multiples of 4096.
  void Write(uint64_t flat_offset, ByteSpan bytes);
  // Frees some of what was written, the last bytes first, and keeps nothing more. False where there
  // is nothing left to free.
  bool GiveBack();
  // The pass has verified everything: the chunks that were wholly written are present from now on,
  // to be seen by a LayerCache that is opened after this. An error means that nothing was kept; the
  // layer works all the same.
  Status Commit(const ChunkOwner& owner);

 private:
  struct Impl;
  explicit CacheWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct LayerCacheOptions {
  // Says how much may be kept, and may take chunks away again; with a limit of 0 no file is made.
  std::shared_ptr<CacheBudget> budget = nullptr;
  // Of what is kept from now on.
  CacheCompression compression = CacheCompression::kNone;
  std::shared_ptr<DecodedChunks> decoded = nullptr;  // of all layers; absent: one of its own
  // Between two attempts at files that the disk does not give.
  std::chrono::steady_clock::duration retry = std::chrono::seconds(10);
};

class LayerCache {
 public:
  // Opens or makes `<folder>/<digest path name>.data` and `.map`. A map of another layout is
  // dropped. A disk that gives no files, or gives them for reading only, is no error: then what is
  // missing is fetched and not kept, until it does; it is tried again when something is to be kept.
  // Blocks that the map does not name, as a process that was killed while it evicted leaves them,
  // are freed.
  static Result<std::shared_ptr<LayerCache>> Open(const std::string& folder, const Digest& layer,
                                                  std::shared_ptr<ChunkOwner> owner,
                                                  std::shared_ptr<CacheCounters> counters,
                                                  LayerCacheOptions options = {});
  ~LayerCache();

  // Are all chunks that overlap the range present and verified in this process? Never blocks.
  bool Ready(uint64_t flat_offset, uint64_t length) const;
  // Reads a range for which Ready() holds, straight from the cache file; zero chunks and holes as
  // zeros. kIo when it does not hold (any more), as after somebody truncated the file: Read()
  // repairs that.
  Status ReadReady(uint64_t flat_offset, MutableByteSpan out) const;
  // Makes the range ready: checks what is on disk, produces what is missing (one fetch per chunk
  // however many callers), and copies it to `out`. A full disk serves the bytes and keeps none.
  // A reader's failure reaches all readers who wait with him and is not remembered.
  Status Read(uint64_t flat_offset, MutableByteSpan out, const Deadline& deadline);

  // The last of the chunks that one request brings together with `first`.
  uint64_t LastOfRun(uint64_t first) const;
  // Makes the data chunks among `first` to `last` local, as far as they can be kept, many by one
  // request. What somebody else is getting is waited for.
  Status Fetch(uint64_t first, uint64_t last, const Deadline& deadline);

  struct Verified {
    uint64_t chunks = 0;  // that were there
    uint64_t bytes = 0;
    std::vector<uint64_t> bad;  // chunks; dropped
  };
  // Reads every chunk that is there from the disk, whatever the page cache has, and drops those
  // that do not have their checksum. The header of the map is written again where it is damaged.
  // Readers go on meanwhile. `progress` is told the bytes of each chunk, and asked whether to go
  // on: kCancelled where not.
  Result<Verified> Verify(const std::function<bool(uint64_t bytes)>& progress);

  // Keeps a chunk that was decoded and verified on the way to another one, unless it is there
  // already.
  void Offer(uint64_t chunk, ByteSpan bytes);

  struct Usage {
    uint64_t chunks_present = 0;
    uint64_t chunks_total = 0;   // without zero chunks
    uint64_t bytes_present = 0;  // flat bytes of present chunks
    uint64_t disk_bytes = 0;     // blocks of the data file
  };
  Usage usage() const;

  struct NotKept {
    std::string reason;
    int64_t at_ns = 0;  // since 1970, UTC
  };
  // Why the last chunk that was to be kept was not; nothing where it was.
  std::optional<NotKept> not_kept() const;
  // The file in flat layout, for handing a wholly local layer of which nothing is compressed to the
  // kernel.
  const std::string& data_path() const { return data_path_; }

 private:
  struct Impl;
  explicit LayerCache(std::shared_ptr<Impl> impl, std::string data_path);
  std::shared_ptr<Impl> impl_;  // shared with the budget while it evicts
  std::string data_path_;
};

}  // namespace lamina
