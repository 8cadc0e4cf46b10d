#pragma once

// BuildWork: what the making of one tree may cost and whether it is still wanted. Work that grows
// with the entries of the layers asks only whether to go on; work that a few entries can multiply
// (looking names up in many layers) spends steps. One thread.

#include <atomic>
#include <bit>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace lamina {

class BuildWork {
 public:
  // `cancel` may be absent.
  BuildWork(uint64_t step_limit, const std::atomic<bool>* cancel)
      : step_limit_(step_limit), cancel_(cancel) {}

  // kCancelled once it is not wanted any more.
  Status GoOn() const {
    if (cancel_ == nullptr || !cancel_->load(std::memory_order_relaxed)) return {};
    return Error{Code::kCancelled, "merging the layers was cancelled"};
  }
  // For a binary search among `count` names.
  Status SpendSearch(uint64_t count) {
    steps_ += 1 + static_cast<uint64_t>(std::bit_width(count));
    if (steps_ > step_limit_)
      return Error{Code::kLimit, "merging the layers takes more steps than the limit of " +
                                     std::to_string(step_limit_) + " for an image"};
    return GoOn();
  }
  uint64_t steps() const { return steps_; }

 private:
  const uint64_t step_limit_;
  const std::atomic<bool>* const cancel_;
  uint64_t steps_ = 0;
};

}  // namespace lamina
