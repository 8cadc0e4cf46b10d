#pragma once

// Watchdog: ends the program where something hangs, so that a test that waits for ever fails and
// says so. One thread.

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace lamina::testing {

class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds bound)
      : thread_([this, bound] {
          std::unique_lock lock(mutex_);
          if (ended_.wait_for(lock, bound, [this] { return end_; })) return;
          std::fprintf(stderr, "hung: not done after %lld s\n",
                       static_cast<long long>(bound.count()));
          std::abort();
        }) {}
  ~Watchdog() {
    {
      std::lock_guard lock(mutex_);
      end_ = true;
    }
    ended_.notify_all();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  bool end_ = false;
  std::thread thread_;  // started last
};

}  // namespace lamina::testing
