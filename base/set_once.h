#pragma once

// SetOnce<T>: a shared pointer that goes from null to a value once and never changes again. Reading
// takes no lock and costs one acquire load. Any thread.

#include <atomic>
#include <memory>

#include "base/mutex.h"

namespace lamina {

template <typename T>
class SetOnce {
 public:
  // Null until Set() has been called.
  T* get() const { return pointer_.load(std::memory_order_acquire); }
  T* operator->() const { return get(); }  // once it is set
  std::shared_ptr<T> shared() const { return get() != nullptr ? owner_ : nullptr; }

  // The first value stays; later ones are dropped. Returns the one that stays.
  std::shared_ptr<T> Set(std::shared_ptr<T> value) {
    MutexLock lock(mutex_);
    if (pointer_.load(std::memory_order_relaxed) == nullptr) {
      owner_ = std::move(value);
      pointer_.store(owner_.get(), std::memory_order_release);
    }
    return owner_;
  }

 private:
  Mutex mutex_;               // leaf; taken by writers only
  std::shared_ptr<T> owner_;  // written once, before pointer_
  std::atomic<T*> pointer_{nullptr};
};

}  // namespace lamina
