#include "base/quota.h"

#include <algorithm>
#include <chrono>

namespace lamina {

bool Quota::May(uint64_t amount, const Place& place) const {
  const uint64_t limit = LimitOf(place.first);
  const bool first = waiting_.empty() || place <= *waiting_.begin();
  return first && used_ <= limit && amount <= limit - used_;
}

Quota::Share Quota::Give(uint64_t amount) {
  used_ += amount;
  most_used_ = std::max(most_used_, used_);
  return {*this, amount};
}

std::optional<Quota::Share> Quota::Take(uint64_t amount, Urgency urgency,
                                        const Deadline& deadline) {
  amount = std::min(amount, LimitOf(urgency));
  MutexLock lock(mutex_);
  const Place place{urgency, next_++};
  if (May(amount, place)) return Give(amount);
  waiting_.insert(place);
  while (!May(amount, place) && !deadline.passed()) {
    // The condition's clock knows no end of time.
    const auto at = std::min(deadline.at(), Deadline::After(std::chrono::minutes(1)).at());
    changed_.WaitUntil(mutex_, Deadline(at));
  }
  const bool may = May(amount, place);
  waiting_.erase(place);
  changed_.NotifyAll();  // the next one may be waiting for this one's place alone
  if (!may) return std::nullopt;
  return Give(amount);
}

std::optional<Quota::Share> Quota::TryTake(uint64_t amount, Urgency urgency) {
  amount = std::min(amount, LimitOf(urgency));
  MutexLock lock(mutex_);
  if (!May(amount, {urgency, next_})) return std::nullopt;
  return Give(amount);
}

void Quota::GiveBack(uint64_t amount) {
  MutexLock lock(mutex_);
  used_ -= amount;
  changed_.NotifyAll();
}

uint64_t Quota::used() const {
  MutexLock lock(mutex_);
  return used_;
}

size_t Quota::waiting() const {
  MutexLock lock(mutex_);
  return waiting_.size();
}

uint64_t Quota::most_used() const {
  MutexLock lock(mutex_);
  return most_used_;
}

}  // namespace lamina
