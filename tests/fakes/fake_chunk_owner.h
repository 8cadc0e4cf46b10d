#pragma once

// FakeChunkOwner: a layer of made-up chunks for tests of the cache. Its bytes are a pure function
// of the seed and the flat offset, so any reader's result can be judged. Fetches can be held back,
// let go and made to fail, and are counted. Safe from any thread; change the plain members only
// while nobody reads.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "base/mutex.h"
#include "fetch/chunk_cache.h"

namespace lamina {

class FakeChunkOwner : public ChunkOwner {
 public:
  struct Chunk {
    uint64_t blocks = 1;  // of 4096 bytes
    bool zero = false;
  };

  explicit FakeChunkOwner(const std::vector<Chunk>& chunks, uint64_t seed = 1) : seed_(seed) {
    for (const Chunk& chunk : chunks) {
      extents_.push_back({flat_size_, chunk.blocks * 4096, chunk.zero});
      flat_size_ += chunk.blocks * 4096;
    }
  }
  // `count` data chunks of `blocks` blocks each.
  FakeChunkOwner(uint64_t count, uint64_t blocks)
      : FakeChunkOwner(std::vector<Chunk>(count, Chunk{blocks, false})) {}

  uint64_t chunk_count() const override { return extents_.size(); }
  uint64_t flat_size() const override { return flat_size_; }
  ChunkExtent Extent(uint64_t chunk) const override { return extents_[chunk]; }

  Status Produce(uint64_t chunk, MutableByteSpan out, const Deadline&, Urgency urgency) override {
    {
      MutexLock lock(mutex_);
      ++begun_;
      ++produced_[chunk];
      urgencies_.insert(urgency);
      changed_.NotifyAll();
      while (held_) changed_.WaitUntil(mutex_, Deadline::After(std::chrono::seconds(1)));
    }
    if (on_produce) on_produce(chunk);
    if (failing.load()) return Error{Code::kUnavailable, "the registry is down"};
    const std::vector<uint8_t> content = Content(extents_[chunk].flat_offset, out.size());
    std::copy(content.begin(), content.end(), out.begin());
    return {};
  }

  std::optional<uint32_t> Checksum(uint64_t chunk) const override {
    return Crc32c(Content(extents_[chunk].flat_offset, extents_[chunk].flat_length));
  }

  // What any read must give. Every fourth block of a data chunk is zeros.
  std::vector<uint8_t> Content(uint64_t flat_offset, uint64_t length) const {
    std::vector<uint8_t> bytes(length);
    for (const ChunkExtent& extent : extents_) {
      const uint64_t begin = std::max(flat_offset, extent.flat_offset);
      const uint64_t end = std::min(flat_offset + length, extent.flat_offset + extent.flat_length);
      for (uint64_t at = begin; !extent.zero && at < end; ++at)
        bytes[at - flat_offset] = ByteAt(at);
    }
    return bytes;
  }

  void Hold() {
    MutexLock lock(mutex_);
    held_ = true;
  }
  void LetGo() {
    MutexLock lock(mutex_);
    held_ = false;
    changed_.NotifyAll();
  }
  // Until `count` fetches have begun since construction; false when that takes a minute.
  bool WaitUntilBegun(uint64_t count) {
    const Deadline bound = Deadline::After(std::chrono::minutes(1));
    MutexLock lock(mutex_);
    while (begun_ < count && !bound.passed()) changed_.WaitUntil(mutex_, bound);
    return begun_ >= count;
  }
  uint64_t begun() {
    MutexLock lock(mutex_);
    return begun_;
  }
  uint64_t produced(uint64_t chunk) {
    MutexLock lock(mutex_);
    return produced_[chunk];
  }

  // Of all fetches so far.
  std::set<Urgency> urgencies() {
    MutexLock lock(mutex_);
    return urgencies_;
  }

  // Content that LZ4 and zstd make a small part of; set before anything is read.
  bool compressible = false;
  std::atomic<bool> failing{false};
  std::function<void(uint64_t chunk)> on_produce;  // called in each fetch; may throw

 private:
  uint8_t ByteAt(uint64_t at) const {
    const uint64_t block = at / 4096;
    if (block % 4 == 3) return 0;
    if (compressible) at = at / 64 * 64;
    uint64_t mixed = (at / 8 + 1) * (seed_ * 2 + 1) * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 29;
    return static_cast<uint8_t>(mixed >> (at % 8 * 8));
  }

  const uint64_t seed_;
  std::vector<ChunkExtent> extents_;
  uint64_t flat_size_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool held_ GUARDED_BY(mutex_) = false;
  uint64_t begun_ GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, uint64_t> produced_ GUARDED_BY(mutex_);
  std::set<Urgency> urgencies_ GUARDED_BY(mutex_);
};

}  // namespace lamina
