#pragma once

// ProgressWatch: tells of work that goes on in another thread, a few times a second, for as long as
// it lives. Without a thread for it nothing is told, and the work goes on. One thread makes and
// destroys it.

#include <atomic>
#include <functional>
#include <thread>

namespace lamina {

class ProgressWatch {
 public:
  // `tell` is called on a thread of the watch; false ends the telling.
  explicit ProgressWatch(std::function<bool()> tell);
  ~ProgressWatch();
  ProgressWatch(const ProgressWatch&) = delete;
  ProgressWatch& operator=(const ProgressWatch&) = delete;

 private:
  void Run();

  const std::function<bool()> tell_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

}  // namespace lamina
