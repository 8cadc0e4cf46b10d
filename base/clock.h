#pragma once

// Time. Deadline is a point on the steady clock that bounds a wait; every wait in lamina takes one.
// Clock is the seam that tests replace where a time to live is judged. Values; any thread.

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace lamina {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Deadline(Clock::time_point at) : at_(at) {}
  static Deadline After(std::chrono::milliseconds wait) { return Deadline(Clock::now() + wait); }

  Clock::time_point at() const { return at_; }
  bool passed() const { return Clock::now() >= at_; }
  // Never negative.
  std::chrono::milliseconds remaining() const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(at_ - Clock::now());
    return left.count() > 0 ? left : std::chrono::milliseconds(0);
  }
  // For the next of so many (1 and up) that have the time that is left one after the other, so that
  // a silent one leaves the others some.
  Deadline Share(size_t of) const { return After(remaining() / static_cast<int64_t>(of)); }

 private:
  Clock::time_point at_;
};

// Wall-clock time in nanoseconds since 1970, UTC.
class WallClock {
 public:
  virtual ~WallClock() = default;
  virtual int64_t NowNs() const = 0;
  static const WallClock& System();
};

}  // namespace lamina
