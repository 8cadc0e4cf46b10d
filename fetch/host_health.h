#pragma once

// HostHealth: whether a host is known to be away, so that what it is asked for fails at once
// instead of after a timeout each. A host is away when nothing has been heard of it for a while
// although it was asked. Where that shows at once (connection refused, no route) it is still asked,
// once each. Where it takes long, one asks first and the others wait a moment for it, since a
// single request that stalls is not yet a host that is away; when that one has heard nothing
// either, the others are refused while one a second asks again. Any thread; blocks for two seconds
// at most.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

class HostHealth {
 public:
  using Clock = Deadline::Clock;
  using Now = std::function<Clock::time_point()>;

  explicit HostHealth(Now now = &Clock::now) : now_(std::move(now)) {}

  // Leave to ask, until it is destroyed. The health outlives it.
  class Leave {
   public:
    Leave(Leave&& other) noexcept
        : health_(std::exchange(other.health_, nullptr)),
          probe_(other.probe_),
          once_(other.once_) {}
    Leave& operator=(Leave&&) = delete;
    ~Leave();
    // The host is certainly away: one attempt will do.
    bool once() const { return once_; }

   private:
    friend class HostHealth;
    Leave(HostHealth* probing, uint64_t probe, bool once)
        : health_(probing), probe_(probe), once_(once) {}
    HostHealth* health_;  // of the one that probes a slow host; null of others
    uint64_t probe_;
    bool once_;
  };

  // The error with which the host was last seen away, where asking again would only wait.
  Result<Leave> Ask(const Deadline& deadline);

  // An answer has come, or a part of one; an error is one too. Cheap: called for every part.
  void Heard();
  // Nothing was heard from `began` until now. A kTimeout is the asker's own bound.
  void Failed(Clock::time_point began, const Error& error);

 private:
  bool IsAway() const REQUIRES(mutex_);

  const Now now_;
  Mutex mutex_;  // leaf
  CondVar changed_;
  Clock::time_point last_heard_ GUARDED_BY(mutex_);
  std::optional<Clock::time_point> silent_since_ GUARDED_BY(mutex_);
  Clock::time_point last_failure_ GUARDED_BY(mutex_);
  bool slow_ GUARDED_BY(mutex_) = false;     // the last failure took long
  uint64_t probe_ GUARDED_BY(mutex_) = 0;    // the number of the last one
  bool probing_ GUARDED_BY(mutex_) = false;  // that one is asking a slow host, since:
  Clock::time_point probe_began_ GUARDED_BY(mutex_);
  bool confirmed_ GUARDED_BY(mutex_) = false;  // whoever probed has heard nothing either
  Error error_ GUARDED_BY(mutex_);
};

}  // namespace lamina
