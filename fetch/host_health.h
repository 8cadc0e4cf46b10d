#pragma once

// HostHealth: whether a host is known to be away, so that what it is asked for fails at once
// instead of after a timeout each. A host is away when nothing has been heard of it for a while
// although it was asked. Where that shows at once (connection refused, no route) it is still asked,
// once each. Where it takes long, one asks for all: until that has failed once more the others wait
// for it, since a single request that stalls is not yet a host that is away; then they are refused.
// Any thread; blocks for two seconds at most.

#include <chrono>
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
    Leave(Leave&& other) noexcept : health_(other.health_), once_(other.once_) {
      other.health_ = nullptr;
    }
    Leave& operator=(Leave&&) = delete;
    ~Leave();
    // The host is away: one attempt will do.
    bool once() const { return once_; }

   private:
    friend class HostHealth;
    Leave(HostHealth* probing, bool once) : health_(probing), once_(once) {}
    HostHealth* health_;  // of the one that probes a slow host; null of others
    bool once_;
  };

  // The error with which the host was last seen away, where asking again would only wait.
  Result<Leave> Ask(const Deadline& deadline);

  // An answer has come, or a part of one; an error is one too.
  void Heard();
  // Nothing was heard from `began` until now.
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
  bool probing_ GUARDED_BY(mutex_) = false;  // somebody is asking a slow one, since:
  Clock::time_point probe_began_ GUARDED_BY(mutex_);
  bool confirmed_ GUARDED_BY(mutex_) = false;  // whoever probed has heard nothing either
  Error error_ GUARDED_BY(mutex_);
};

}  // namespace lamina
