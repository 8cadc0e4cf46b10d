#include "base/clock.h"

namespace lamina {
namespace {

class SystemWallClock : public WallClock {
 public:
  int64_t NowNs() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

}  // namespace

const WallClock& WallClock::System() {
  static const SystemWallClock clock;
  return clock;
}

}  // namespace lamina
