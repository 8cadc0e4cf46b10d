#pragma once

// Mutex, MutexLock and CondVar: the standard ones with clang's thread-safety annotations. A lock in
// lamina is a leaf: never two at once, never held across I/O or a FUSE reply.

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/clock.h"

#if defined(__clang__)
#define LAMINA_ATTRIBUTE(x) __attribute__((x))
#else
#define LAMINA_ATTRIBUTE(x)
#endif
#define GUARDED_BY(x) LAMINA_ATTRIBUTE(guarded_by(x))
#define REQUIRES(...) LAMINA_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) LAMINA_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace lamina {

class LAMINA_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void Lock() LAMINA_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void Unlock() LAMINA_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  // For code that is called back under the lock, which the compiler cannot see.
  void AssertHeld() const LAMINA_ATTRIBUTE(assert_capability()) {}

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class LAMINA_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) LAMINA_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() LAMINA_ATTRIBUTE(release_capability()) { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits are bounded: there is no Wait without a deadline. Callers loop on their condition.
class CondVar {
 public:
  // False when the deadline passed. May wake early without cause.
  bool WaitUntil(Mutex& mutex, const Deadline& deadline) REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool woken = condition_.wait_until(lock, deadline.at()) == std::cv_status::no_timeout;
    lock.release();
    return woken;
  }
  void NotifyOne() { condition_.notify_one(); }
  void NotifyAll() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace lamina
