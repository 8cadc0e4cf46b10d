#pragma once

// HostHealth: whether a host is known to be away, so that what it is asked for fails at once
// instead of after a timeout each, or wants to be left alone. A host is away when nothing has been
// heard of it for a while although it was asked. Where that shows at once (connection refused, no
// route) it is still asked, once each. Where it takes long, one asks first and the others wait a
// moment for it, since a single request that stalls is not yet a host that is away. It is, when a
// second try after the first heard nothing either: from then on everybody is refused, while a
// thread asks something small, when somebody comes and at growing intervals; who comes then waits a
// moment for its answer. Any thread; blocks for two seconds at most, and in the destructor until
// that thread has seen that it is to end.

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

class HostHealth {
 public:
  using Clock = Deadline::Clock;
  using Now = std::function<Clock::time_point()>;
  // Asks the host something small and tells the health what came of it. Blocks, on a thread of the
  // health's; returns soon once `stopping` is set.
  using Probe = std::function<void(HostHealth& health, const std::atomic<bool>& stopping)>;

  explicit HostHealth(Probe probe, Now now = &Clock::now)
      : probe_(std::move(probe)), now_(std::move(now)) {}
  ~HostHealth();
  HostHealth(const HostHealth&) = delete;
  HostHealth& operator=(const HostHealth&) = delete;

  // Leave to ask, until it is destroyed. The health outlives it.
  class Leave {
   public:
    Leave(Leave&& other) noexcept
        : health_(std::exchange(other.health_, nullptr)), once_(other.once_) {}
    Leave& operator=(Leave&&) = delete;
    ~Leave();
    // The host is certainly away: one attempt will do.
    bool once() const { return once_; }

   private:
    friend class HostHealth;
    Leave(HostHealth* asking_first, bool once) : health_(asking_first), once_(once) {}
    HostHealth* health_;  // of the one that asks a slow host first; null of others
    bool once_;
  };

  // The error with which the host was last seen away, where asking again would only wait.
  Result<Leave> Ask(const Deadline& deadline);

  // An answer has come, or a part of one; an error is one too. Cheap: called for every part.
  void Heard();
  // Nothing was heard from `began` until now. A kTimeout is the asker's own bound.
  void Failed(Clock::time_point began, const Error& error);

  // The host has said, for this reason, how long it is to be left alone; of more than five minutes
  // five are believed.
  void LeaveAlone(std::chrono::milliseconds wait, std::string reason);
  struct Pause {
    std::chrono::milliseconds left;
    std::string reason;
    // For who is not let ask `whom`.
    Error Refusal(const std::string& whom) const;
  };
  // Where it is to be left alone now.
  std::optional<Pause> Paused() const;

 private:
  bool IsAway() const REQUIRES(mutex_);
  // Is it worth waiting for the probe? Starts one where it is time.
  bool AwaitProbe(const Deadline& deadline) REQUIRES(mutex_);
  void StartProbe() REQUIRES(mutex_);
  void RunProbe() noexcept;

  const Probe probe_;
  const Now now_;
  std::atomic<bool> stopping_{false};
  mutable Mutex mutex_;  // leaf
  CondVar changed_;
  Clock::time_point last_heard_ GUARDED_BY(mutex_);
  std::optional<Clock::time_point> silent_since_ GUARDED_BY(mutex_);
  Clock::time_point first_failure_ GUARDED_BY(mutex_);  // of this silence
  Clock::time_point last_failure_ GUARDED_BY(mutex_);
  bool slow_ GUARDED_BY(mutex_) = false;  // the last failure took long
  Error error_ GUARDED_BY(mutex_);

  bool asking_first_ GUARDED_BY(mutex_) = false;  // somebody is, and the others wait a moment
  bool confirmed_ GUARDED_BY(mutex_) = false;     // a second try has heard nothing either

  // Of a host that is confirmed to be away.
  std::thread prober_ GUARDED_BY(mutex_);
  bool probing_ GUARDED_BY(mutex_) = false;
  Deadline glance_ GUARDED_BY(mutex_){Clock::time_point()};  // askers wait for the probe until then
  Clock::time_point next_probe_ GUARDED_BY(mutex_);
  Clock::duration rest_ GUARDED_BY(mutex_){0};  // after the next probe

  Clock::time_point paused_until_ GUARDED_BY(mutex_);
  std::string pause_reason_ GUARDED_BY(mutex_);
};

}  // namespace lamina
