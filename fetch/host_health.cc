#include "fetch/host_health.h"

#include <algorithm>

namespace lamina {
namespace {

// A break shorter than this is a matter of the requests that it meets, which try again themselves.
constexpr std::chrono::seconds kSilence{2};
// What was seen longer ago says nothing of now.
constexpr std::chrono::seconds kForgotten{60};
// After a failure that took long, the host is left alone for so long.
constexpr std::chrono::seconds kRest{1};
constexpr std::chrono::milliseconds kSlow{500};

}  // namespace

HostHealth::Leave::~Leave() {
  if (health_ == nullptr) return;
  MutexLock lock(health_->mutex_);
  if (health_->probe_ == probe_) health_->probing_ = false;
  health_->changed_.NotifyAll();
}

// Between two failures nothing was heard although somebody asked; of the time after the last one
// nobody knows.
bool HostHealth::IsAway() const {
  return silent_since_ && last_failure_ - *silent_since_ >= kSilence &&
         now_() - last_failure_ < kForgotten;
}

Result<HostHealth::Leave> HostHealth::Ask(const Deadline& deadline) {
  const Deadline patience(std::min(deadline.at(), Deadline::After(kSilence).at()));
  MutexLock lock(mutex_);
  while (true) {
    const bool away = IsAway();
    if (!away || !slow_) return Leave(nullptr, 0, away);
    if (confirmed_ && (probing_ || now_() - last_failure_ < kRest)) return error_;
    if (!probing_) break;
    // It takes long and may be well all the same.
    if (!changed_.WaitUntil(mutex_, patience) && patience.passed()) return Leave(nullptr, 0, false);
  }
  probing_ = true;
  probe_began_ = now_();
  return Leave(this, ++probe_, confirmed_);
}

void HostHealth::Heard() {
  MutexLock lock(mutex_);
  last_heard_ = now_();
  if (!silent_since_) return;
  silent_since_.reset();
  confirmed_ = probing_ = false;
  changed_.NotifyAll();
}

void HostHealth::Failed(Clock::time_point began, const Error& error) {
  const auto now = now_();
  const bool own_bound = error.code == Code::kTimeout;
  if (own_bound && now - began < kSilence) return;
  MutexLock lock(mutex_);
  if (began < last_heard_) return;
  // A failure of long ago begins no silence that reaches to now.
  if (!silent_since_ || now - last_failure_ >= kForgotten) {
    silent_since_ = began;
    confirmed_ = false;
  }
  slow_ = now - began >= kSlow;
  if (slow_ && !own_bound && probing_ && began >= probe_began_) confirmed_ = true;
  last_failure_ = now;
  error_ = error;
}

}  // namespace lamina
