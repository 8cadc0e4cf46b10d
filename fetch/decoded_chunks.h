#pragma once

// DecodedChunks: the last chunks that were decoded from their compressed form in the cache and
// verified, of all layers together, so that reads of a few KiB in order do not decode a chunk for
// each. It holds at most 16 MiB; a larger chunk is decoded for every read. Any thread.

#include <atomic>
#include <cstdint>
#include <list>

#include "base/mutex.h"
#include "fetch/chunk_flights.h"

namespace lamina {

class DecodedChunks {
 public:
  explicit DecodedChunks(uint64_t most_bytes = 16u << 20) : most_bytes_(most_bytes) {}

  // A number for a layer, never given twice.
  uint64_t NewLayer() { return next_layer_.fetch_add(1, std::memory_order_relaxed); }
  // Null where it is not there.
  ChunkBuffer Find(uint64_t layer, uint64_t chunk);
  void Put(uint64_t layer, uint64_t chunk, const ChunkBuffer& bytes);

 private:
  struct Item {
    uint64_t layer = 0;
    uint64_t chunk = 0;
    ChunkBuffer bytes;
  };
  // Small chunks are soon decoded again.
  static constexpr size_t kMostItems = 64;

  const uint64_t most_bytes_;
  std::atomic<uint64_t> next_layer_{0};
  Mutex mutex_;                               // leaf
  std::list<Item> items_ GUARDED_BY(mutex_);  // what was used last comes first
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace lamina
