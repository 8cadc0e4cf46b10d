#pragma once

// TransferThreads: the threads that fetch what nobody waits for yet: a few for each host, so that a
// slow one holds up only what is fetched ahead of its own layers. Any thread; never blocks.

#include <atomic>
#include <functional>
#include <string>

#include "base/keyed_pool.h"

namespace lamina {

class TransferThreads {
 public:
  // Of one host at a time.
  static constexpr size_t kPerHost = 4;
  // Jobs of one host that wait.
  static constexpr size_t kMostWaiting = 64;

  TransferThreads()
      : pool_({.max_threads = 24,
               .per_key = kPerHost,
               .for_local = kPerHost,
               .drops_above = kMostWaiting}) {}

  // False, and nothing is done, where too much waits already, the system gives no thread, or
  // Cancel() was called. Never runs the job itself: whoever posts may be a FUSE thread.
  bool Post(const std::string& pool_key, std::function<void()> job) {
    if (cancelled_) return false;
    const PoolShare share = pool_key == "local" ? PoolShare::kLocal : PoolShare::kRegistry;
    return pool_.Post(
        pool_key,
        [this, job = std::move(job)] {
          if (!cancelled_) job();
        },
        share);
  }
  // What has not begun is dropped.
  void Cancel() { cancelled_ = true; }
  // Waits for what has.
  void Stop() {
    Cancel();
    pool_.Stop();
  }

 private:
  std::atomic<bool> cancelled_{false};
  KeyedPool pool_;
};

}  // namespace lamina
