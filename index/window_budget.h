#pragma once

// WindowBudget: bounds the memory of all zstd windows of the process together. Windows as every
// usual encoder makes them (8 MiB) are free of it; larger ones, up to 128 MiB each, wait for each
// other. No owner (registry, layout) gets more than half, so that one that is slow or hostile holds
// up its own images only. A decoder never waits while it holds a window. Any thread; Acquire()
// blocks.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"

namespace lamina {

class WindowBudget {
 public:
  explicit WindowBudget(uint64_t bytes = uint64_t{1} << 30) : bytes_(bytes) {}

  // False when the deadline (absent: none) passed, or `cancel` (may be null) was set, before there
  // was room. Whoever holds nothing gets what it asks for, however large, once all is free.
  bool Acquire(const std::string& owner, uint64_t bytes, const Deadline* deadline,
               const std::atomic<bool>* cancel) EXCLUDES(mutex_);
  void Release(const std::string& owner, uint64_t bytes) EXCLUDES(mutex_);
  uint64_t held() const EXCLUDES(mutex_);

 private:
  bool Fits(const std::string& owner, uint64_t bytes) const REQUIRES(mutex_);

  const uint64_t bytes_;
  mutable Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t held_ GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> by_owner_ GUARDED_BY(mutex_);
};

// Whose a blob of this origin is: the server of a URL, or the origin itself.
std::string OwnerOf(const std::string& origin);

// On whose account a decoder's window goes, and how long the decoder may wait for it. A value; what
// it points to outlives the decoder.
struct WindowAccount {
  WindowBudget* budget = nullptr;                 // null: unbounded
  std::string owner = {};                         // see OwnerOf()
  std::shared_ptr<const Deadline> deadline = {};  // null: none; its owner may move it
  const std::atomic<bool>* cancel = nullptr;      // may be null
};

}  // namespace lamina
