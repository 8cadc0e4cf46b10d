#include "fetch/decoded_chunks.h"

#include <algorithm>

namespace lamina {

ChunkBuffer DecodedChunks::Find(uint64_t layer, uint64_t chunk) {
  MutexLock lock(mutex_);
  const auto at = std::ranges::find_if(
      items_, [&](const Item& item) { return item.layer == layer && item.chunk == chunk; });
  if (at == items_.end()) return nullptr;
  items_.splice(items_.begin(), items_, at);
  return at->bytes;
}

void DecodedChunks::Put(uint64_t layer, uint64_t chunk, const ChunkBuffer& bytes) {
  if (bytes->size() > most_bytes_) return;
  std::list<Item> added{{layer, chunk, bytes}};
  std::list<Item> dropped;  // freed without the lock
  MutexLock lock(mutex_);
  items_.splice(items_.begin(), added);
  bytes_ += bytes->size();
  while (bytes_ > most_bytes_ || items_.size() > kMostItems) {
    bytes_ -= items_.back().bytes->size();
    dropped.splice(dropped.begin(), items_, std::prev(items_.end()));
  }
}

}  // namespace lamina
