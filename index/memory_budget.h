#pragma once

// MemoryBudget: bytes that many may take together. MemoryShare: what one of them has taken, with a
// limit of its own; it gives all back at destruction. A budget is safe from any thread and outlives
// its shares; a share belongs to one thread.

#include <atomic>
#include <cstdint>

#include "base/result.h"

namespace lamina {

class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t limit) : limit_(limit) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  friend class MemoryShare;
  bool Take(uint64_t bytes);
  void Give(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  const uint64_t limit_;
  std::atomic<uint64_t> used_{0};
};

class MemoryShare {
 public:
  // `shared` may be absent.
  MemoryShare(uint64_t limit, MemoryBudget* shared) : limit_(limit), shared_(shared) {}
  ~MemoryShare() { Give(used_); }
  MemoryShare(const MemoryShare&) = delete;
  MemoryShare& operator=(const MemoryShare&) = delete;

  // kLimit, with the limit and what would be used, where it is too much; nothing is taken then.
  Status Take(uint64_t bytes);
  void Give(uint64_t bytes);
  uint64_t used() const { return used_; }

 private:
  const uint64_t limit_;
  MemoryBudget* const shared_;
  uint64_t used_ = 0;
};

}  // namespace lamina
