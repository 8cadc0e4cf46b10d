#include "base/quota.h"

#include <algorithm>
#include <chrono>

namespace lamina {

uint64_t Quota::LimitOf(const Wish& wish) const {
  const uint64_t limit = wish.urgency == Urgency::kReader ? limit_ : limit_ - for_readers_;
  return wish.owner.empty() ? limit : limit - limit / 2;
}

Quota::Wish Quota::WishFor(uint64_t amount, Urgency urgency, const std::string& owner) const {
  Wish wish{amount, urgency, owner};
  wish.amount = std::min(amount, LimitOf(wish));
  return wish;
}

bool Quota::OwnerMay(const Wish& wish) const {
  if (wish.owner.empty()) return true;
  const auto has = used_of_.find(wish.owner);
  const uint64_t used = has == used_of_.end() ? 0 : has->second;
  const uint64_t limit = LimitOf(wish);
  return used <= limit && wish.amount <= limit - used;
}

// Those before who are at their owner's bound hold up nobody but their owner.
bool Quota::May(const Wish& wish, const Place& place) const {
  if (!OwnerMay(wish)) return false;
  for (const auto& [at, other] : waiting_) {
    if (at >= place) break;
    if (other.owner == wish.owner || OwnerMay(other)) return false;
  }
  const uint64_t limit = LimitOf({wish.amount, wish.urgency, {}});
  return used_ <= limit && wish.amount <= limit - used_;
}

Quota::Share Quota::Give(const Wish& wish) {
  Share share(wish.amount, wish.owner);
  if (!wish.owner.empty()) used_of_[wish.owner] += wish.amount;
  used_ += wish.amount;
  most_used_ = std::max(most_used_, used_);
  share.quota_ = this;
  return share;
}

Quota::Waiting::Waiting(Quota& quota, uint64_t amount, Urgency urgency, const std::string& owner)
    : quota_(quota) {
  Wish wish = quota.WishFor(amount, urgency, owner);
  MutexLock lock(quota.mutex_);
  place_ = Place{urgency, quota.next_++};
  quota.waiting_.emplace(place_, std::move(wish));
}

Quota::Waiting::~Waiting() {
  MutexLock lock(quota_.mutex_);
  // The next one may be waiting for this one's place alone.
  if (quota_.waiting_.erase(place_) > 0) quota_.changed_.NotifyAll();
}

std::optional<Quota::Share> Quota::Waiting::Until(const Deadline& deadline) {
  MutexLock lock(quota_.mutex_);
  const auto self = quota_.waiting_.find(place_);
  if (self == quota_.waiting_.end()) return std::nullopt;  // has been served
  while (!quota_.May(self->second, place_)) {
    if (deadline.passed()) return std::nullopt;
    // The condition's clock knows no end of time.
    const auto at = std::min(deadline.at(), Deadline::After(std::chrono::minutes(1)).at());
    quota_.changed_.WaitUntil(quota_.mutex_, Deadline(at));
  }
  Share share = quota_.Give(self->second);
  quota_.waiting_.erase(self);
  quota_.changed_.NotifyAll();
  return share;
}

std::optional<Quota::Share> Quota::Take(uint64_t amount, Urgency urgency, const Deadline& deadline,
                                        const std::string& owner) {
  return Waiting(*this, amount, urgency, owner).Until(deadline);
}

std::optional<Quota::Share> Quota::TryTake(uint64_t amount, Urgency urgency,
                                           const std::string& owner) {
  const Wish wish = WishFor(amount, urgency, owner);
  MutexLock lock(mutex_);
  if (!May(wish, {urgency, next_})) return std::nullopt;
  return Give(wish);
}

void Quota::GiveBack(uint64_t amount, const std::string& owner) {
  MutexLock lock(mutex_);
  used_ -= amount;
  if (const auto has = used_of_.find(owner); has != used_of_.end() && (has->second -= amount) == 0)
    used_of_.erase(has);
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
