#pragma once

// Backoff: how long to wait before a request is tried again, and whether at all. One thread.

#include <chrono>
#include <functional>
#include <optional>
#include <random>

#include "base/clock.h"

namespace lamina {

class Backoff {
 public:
  // `attempts` counts the first one too.
  Backoff(int attempts, const Deadline& deadline) : left_(attempts - 1), deadline_(deadline) {}

  // Sleeps before the next attempt: longer each time, by chance between half and one and a half of
  // it, and at least as long as the server `asked` for. False, without sleeping, when no attempt is
  // left or the deadline would pass, and once `stopped` (may be absent), which is asked twice a
  // second, says so.
  bool WaitForNext(std::optional<std::chrono::milliseconds> asked,
                   const std::function<bool()>& stopped = {});

  const Deadline& deadline() const { return deadline_; }
  void set_deadline(const Deadline& deadline) { deadline_ = deadline; }

 private:
  int left_;
  Deadline deadline_;
  std::chrono::milliseconds base_{100};
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace lamina
