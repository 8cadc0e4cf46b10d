#pragma once

// SingleFlight: one call at a time for each key; whoever asks for the same key meanwhile waits and
// gets the same answer. Nothing is remembered once the call has ended. Do() blocks, for pool
// threads; the call itself has to be bounded, which bounds the waiters. Any thread.

#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "base/mutex.h"
#include "base/result.h"

namespace lamina {

template <typename Key, typename T>
class SingleFlight {
 public:
  Result<T> Do(const Key& key, const std::function<Result<T>()>& call) {
    bool leads = false;
    const std::shared_ptr<Flight> flight = Join(key, &leads);
    if (!leads) return Wait(*flight);
    Result<T> answer = Error{Code::kInternal, "the call ended without an answer"};
    try {
      answer = call();
    } catch (const std::exception& failure) {
      answer = Error{Code::kInternal, failure.what()};
    }
    {
      MutexLock lock(mutex_);
      flights_.erase(key);
    }
    MutexLock lock(flight->mutex);
    flight->answer = answer;
    flight->done.NotifyAll();
    return answer;
  }

 private:
  struct Flight {
    Mutex mutex;
    CondVar done;
    std::optional<Result<T>> answer GUARDED_BY(mutex);
  };

  std::shared_ptr<Flight> Join(const Key& key, bool* leads) {
    auto flight = std::make_shared<Flight>();
    MutexLock lock(mutex_);
    const auto [at, inserted] = flights_.try_emplace(key, std::move(flight));
    *leads = inserted;
    return at->second;
  }

  static Result<T> Wait(Flight& flight) {
    MutexLock lock(flight.mutex);
    while (!flight.answer.has_value())
      flight.done.WaitUntil(flight.mutex, Deadline::After(std::chrono::seconds(1)));
    return *flight.answer;
  }

  Mutex mutex_;  // leaf
  std::map<Key, std::shared_ptr<Flight>> flights_ GUARDED_BY(mutex_);
};

}  // namespace lamina
