#pragma once

// Quota: so much of something (bytes of memory, connections to a host) for all who want some of it.
// A part is left to readers; of those who wait, the more urgent are served first, and the same kind
// in the order in which they came. Shares may have an owner (a host), who has at most half of what
// there is for their urgency: who waits for his owner's other shares holds up nobody else. Whoever
// holds a share must not wait for another one of the same quota. Any thread.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
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
        : quota_(std::exchange(other.quota_, nullptr)),
          amount_(other.amount_),
          owner_(std::move(other.owner_)) {}
    Share& operator=(Share&& other) noexcept {
      std::swap(quota_, other.quota_);
      std::swap(amount_, other.amount_);
      owner_.swap(other.owner_);
      return *this;
    }
    ~Share() {
      if (quota_ != nullptr) quota_->GiveBack(amount_, owner_);
    }

   private:
    friend class Quota;
    Share(uint64_t amount, std::string owner) : amount_(amount), owner_(std::move(owner)) {}
    Quota* quota_ = nullptr;
    uint64_t amount_ = 0;
    std::string owner_;
  };

 private:
  // In the order in which they are served.
  using Place = std::pair<Urgency, uint64_t>;
  struct Wish {
    uint64_t amount = 0;
    Urgency urgency = Urgency::kReader;
    std::string owner;
  };

 public:
  // A place among those who wait, for who looks at something else meanwhile. One thread.
  class Waiting {
   public:
    Waiting(Quota& quota, uint64_t amount, Urgency urgency, const std::string& owner = {});
    ~Waiting();
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    // The share, once; nullopt when the deadline passes: the place stays.
    std::optional<Share> Until(const Deadline& deadline);

   private:
    Quota& quota_;
    Place place_;
  };

  // Whoever wants more than there may be gets all. Waits to the deadline; nullopt when it passes.
  // An empty owner has no bound.
  std::optional<Share> Take(uint64_t amount, Urgency urgency, const Deadline& deadline,
                            const std::string& owner = {}) EXCLUDES(mutex_);
  // Without waiting.
  std::optional<Share> TryTake(uint64_t amount, Urgency urgency, const std::string& owner = {})
      EXCLUDES(mutex_);

  uint64_t limit() const { return limit_; }
  uint64_t used() const EXCLUDES(mutex_);
  uint64_t most_used() const EXCLUDES(mutex_);  // ever at a time
  size_t waiting() const EXCLUDES(mutex_);

 private:
  // The most that the wish's owner, or without one everybody, may have with this urgency.
  uint64_t LimitOf(const Wish& wish) const;
  Wish WishFor(uint64_t amount, Urgency urgency, const std::string& owner) const;
  bool OwnerMay(const Wish& wish) const REQUIRES(mutex_);
  bool May(const Wish& wish, const Place& place) const REQUIRES(mutex_);
  Share Give(const Wish& wish) REQUIRES(mutex_);
  void GiveBack(uint64_t amount, const std::string& owner) EXCLUDES(mutex_);

  const uint64_t limit_;
  const uint64_t for_readers_;
  mutable Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t used_ GUARDED_BY(mutex_) = 0;
  uint64_t most_used_ GUARDED_BY(mutex_) = 0;
  uint64_t next_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> used_of_ GUARDED_BY(mutex_);  // by owner
  std::map<Place, Wish> waiting_ GUARDED_BY(mutex_);
};

}  // namespace lamina
