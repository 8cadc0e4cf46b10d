#include "fetch/retry.h"

#include <algorithm>
#include <thread>

namespace lamina {
namespace {

constexpr std::chrono::milliseconds kLongestBase{5000};
constexpr std::chrono::milliseconds kStep{500};

}  // namespace

bool Backoff::WaitForNext(std::optional<std::chrono::milliseconds> asked,
                          const std::function<bool()>& stopped) {
  if (left_ <= 0) return false;
  --left_;
  std::uniform_int_distribution<int64_t> jitter(base_.count() / 2, base_.count() * 3 / 2);
  std::chrono::milliseconds wait(jitter(random_));
  if (asked) wait = std::max(wait, *asked);
  base_ = std::min(base_ * 2, kLongestBase);
  if (wait >= deadline_.remaining()) return false;
  while (stopped && wait > kStep) {
    std::this_thread::sleep_for(kStep);
    if (stopped()) return false;
    wait -= kStep;
  }
  std::this_thread::sleep_for(wait);
  return true;
}

}  // namespace lamina
