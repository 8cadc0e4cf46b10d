#include "index/memory_budget.h"

#include "base/text.h"

namespace lamina {

bool MemoryBudget::Take(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

Status MemoryShare::Take(uint64_t bytes) {
  if (bytes > limit_ || used_ > limit_ - bytes)
    return Error{Code::kLimit, "the names of the layer need " + HumanSize(used_ + bytes) +
                                   " of memory, more than the limit of " + HumanSize(limit_) +
                                   " for a layer"};
  if (shared_ != nullptr && !shared_->Take(bytes))
    return Error{Code::kLimit, "the names of the layer need " + HumanSize(used_ + bytes) +
                                   " of memory, and all layers that are being indexed more than "
                                   "their limit of " +
                                   HumanSize(shared_->limit())};
  used_ += bytes;
  return {};
}

void MemoryShare::Give(uint64_t bytes) {
  used_ -= bytes;
  if (shared_ != nullptr) shared_->Give(bytes);
}

}  // namespace lamina
