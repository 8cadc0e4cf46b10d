#pragma once

// GarbageKeeper: a thread that collects garbage now and then while a daemon runs: some time after
// the start, when whoever was there before has found his images again, and then every few hours.

#include <chrono>
#include <thread>

#include "base/mutex.h"
#include "fs/garbage.h"

namespace lamina {

class GarbageKeeper {
 public:
  struct Times {
    std::chrono::seconds after{std::chrono::hours(7 * 24)};  // see GarbageCollector::Options
    std::chrono::milliseconds first{std::chrono::minutes(10)};
    std::chrono::milliseconds every{std::chrono::hours(6)};
  };
  // `collector` outlives it.
  GarbageKeeper(GarbageCollector& collector, Times times);
  ~GarbageKeeper();  // waits for a run that has begun, which ends with the layer store

 private:
  void Keep();
  // False once it is to end.
  bool Wait(std::chrono::milliseconds wait) EXCLUDES(mutex_);

  GarbageCollector& collector_;
  const Times times_;
  Mutex mutex_;  // leaf
  CondVar ended_;
  bool ending_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// "collected 3 layers, 2 trees, 4 documents, 0 databases that were set aside: 1.2 GiB"
std::string TextOf(const GarbageCollector::Collected& collected);

}  // namespace lamina
