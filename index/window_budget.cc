#include "index/window_budget.h"

#include <algorithm>

namespace lamina {
namespace {

// `cancel` wakes nobody.
constexpr std::chrono::milliseconds kLookEvery(200);

bool Earlier(const Deadline& a, const Deadline& b) { return a.at() < b.at(); }

}  // namespace

std::string OwnerOf(const std::string& origin) {
  const size_t host = origin.find("://");
  return host == std::string::npos ? origin : origin.substr(0, origin.find('/', host + 3));
}

bool WindowBudget::Fits(const std::string& owner, uint64_t bytes) const {
  const auto at = by_owner_.find(owner);
  const uint64_t own = at == by_owner_.end() ? 0 : at->second;
  return (held_ == 0 || held_ + bytes <= bytes_) && (own == 0 || own + bytes <= bytes_ / 2);
}

bool WindowBudget::Acquire(const std::string& owner, uint64_t bytes, const Deadline* deadline,
                           const std::atomic<bool>* cancel) {
  MutexLock lock(mutex_);
  while (!Fits(owner, bytes)) {
    if (deadline != nullptr && deadline->passed()) return false;
    if (cancel != nullptr && cancel->load()) return false;
    const Deadline look = Deadline::After(kLookEvery);
    changed_.WaitUntil(mutex_, deadline == nullptr ? look : std::min(look, *deadline, Earlier));
  }
  held_ += bytes;
  by_owner_[owner] += bytes;
  return true;
}

void WindowBudget::Release(const std::string& owner, uint64_t bytes) {
  MutexLock lock(mutex_);
  held_ -= bytes;
  const auto at = by_owner_.find(owner);
  at->second -= bytes;
  if (at->second == 0) by_owner_.erase(at);
  changed_.NotifyAll();
}

uint64_t WindowBudget::held() const {
  MutexLock lock(mutex_);
  return held_;
}

}  // namespace lamina
