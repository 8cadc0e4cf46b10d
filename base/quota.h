#pragma once

// Quota: so much of something (bytes of memory, connections to a host) for all who want some of it.
// A part is left to readers; of those who wait, the more urgent are served first, and the same kind
// in the order in which they came. Whoever holds a share must not wait for another one of the same
// quota. Any thread.

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/urgency.h"

namespace lamina {

class Quota {
 public:
  // `for_readers` of `limit` is for nobody else.
  Quota(uint64_t limit, uint64_t for_readers) : limit_(limit), for_readers_(for_readers) {}
  Quota(const Quota&) = delete;
  Quota& operator=(const Quota&) = delete;

  // What somebody has, given back at its end. The quota outlives it.
  class Share {
   public:
    Share() = default;
    Share(Share&& other) noexcept
        : quota_(std::exchange(other.quota_, nullptr)), amount_(other.amount_) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(quota_, other.quota_);
      std::swap(amount_, other.amount_);
      return *this;
    }
    ~Share() {
      if (quota_ != nullptr) quota_->GiveBack(amount_);
    }

   private:
    friend class Quota;
    Share(Quota& quota, uint64_t amount) : quota_(&quota), amount_(amount) {}
    Quota* quota_ = nullptr;
    uint64_t amount_ = 0;
  };

  // Whoever wants more than there may be gets all. Waits to the deadline; nullopt when it passes.
  std::optional<Share> Take(uint64_t amount, Urgency urgency, const Deadline& deadline)
      EXCLUDES(mutex_);
  // Without waiting.
  std::optional<Share> TryTake(uint64_t amount, Urgency urgency) EXCLUDES(mutex_);

  uint64_t limit() const { return limit_; }
  uint64_t used() const EXCLUDES(mutex_);
  uint64_t most_used() const EXCLUDES(mutex_);  // ever at a time
  size_t waiting() const EXCLUDES(mutex_);

 private:
  // In the order in which they are served.
  using Place = std::pair<Urgency, uint64_t>;
  uint64_t LimitOf(Urgency urgency) const {
    return urgency == Urgency::kReader ? limit_ : limit_ - for_readers_;
  }
  bool May(uint64_t amount, const Place& place) const REQUIRES(mutex_);
  Share Give(uint64_t amount) REQUIRES(mutex_);
  void GiveBack(uint64_t amount) EXCLUDES(mutex_);

  const uint64_t limit_;
  const uint64_t for_readers_;
  mutable Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t used_ GUARDED_BY(mutex_) = 0;
  uint64_t most_used_ GUARDED_BY(mutex_) = 0;
  uint64_t next_ GUARDED_BY(mutex_) = 0;
  std::set<Place> waiting_ GUARDED_BY(mutex_);
};

}  // namespace lamina
