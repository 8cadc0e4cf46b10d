#include "fetch/host_health.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

namespace lamina {
namespace {

// A break shorter than this is a matter of the requests that it meets, which try again themselves.
constexpr std::chrono::seconds kSilence{2};
// What was seen longer ago says nothing of now, unless it was confirmed.
constexpr std::chrono::seconds kForgotten{60};
constexpr std::chrono::milliseconds kSlow{500};
// Between two probes: twice as long each time.
constexpr std::chrono::seconds kShortestRest{1};
constexpr std::chrono::seconds kLongestRest{30};
// A host that is back answers a probe in this time, mostly.
constexpr std::chrono::seconds kGlance{1};
constexpr std::chrono::minutes kLongestPause{5};

}  // namespace

HostHealth::~HostHealth() {
  stopping_ = true;
  std::thread prober;
  {
    MutexLock lock(mutex_);
    prober = std::move(prober_);
  }
  if (prober.joinable()) prober.join();
}

HostHealth::Leave::~Leave() {
  if (health_ == nullptr) return;
  MutexLock lock(health_->mutex_);
  health_->asking_first_ = false;
  health_->changed_.NotifyAll();
}

// Between two failures nothing was heard although somebody asked; of the time after the last one
// nobody knows.
bool HostHealth::IsAway() const {
  return silent_since_ && last_failure_ - *silent_since_ >= kSilence &&
         (confirmed_ || now_() - last_failure_ < kForgotten);
}

Result<HostHealth::Leave> HostHealth::Ask(const Deadline& deadline) {
  const Deadline patience(std::min(deadline.at(), Deadline::After(kSilence).at()));
  MutexLock lock(mutex_);
  while (true) {
    const bool away = IsAway();
    if (!away || !slow_) return Leave(nullptr, away);
    if (confirmed_) {
      if (!AwaitProbe(deadline)) return error_;
      continue;
    }
    if (!asking_first_) break;
    // It takes long and may be well all the same.
    if (!changed_.WaitUntil(mutex_, patience) && patience.passed()) return Leave(nullptr, false);
  }
  asking_first_ = true;
  return Leave(this, false);
}

bool HostHealth::AwaitProbe(const Deadline& deadline) {
  if (!probing_ && now_() >= next_probe_) StartProbe();
  const Deadline until(std::min(deadline.at(), glance_.at()));
  if (!probing_ || until.passed()) return false;
  changed_.WaitUntil(mutex_, until);
  return true;
}

// The thread before this one has ended but for its return.
void HostHealth::StartProbe() {
  if (prober_.joinable()) prober_.join();
  try {
    prober_ = std::thread([this] { RunProbe(); });
  } catch (const std::exception&) {  // there is no thread to be had: whoever comes next tries
    return;
  }
  probing_ = true;
  glance_ = Deadline::After(kGlance);
}

void HostHealth::RunProbe() noexcept {
  try {
    probe_(*this, stopping_);
  } catch (const std::exception&) {  // memory: it has heard nothing
  }
  MutexLock lock(mutex_);
  probing_ = false;
  next_probe_ = now_() + rest_;
  rest_ = std::min<Clock::duration>(rest_ * 2, kLongestRest);
  changed_.NotifyAll();
}

void HostHealth::Heard() {
  MutexLock lock(mutex_);
  last_heard_ = now_();
  if (!silent_since_) return;
  silent_since_.reset();
  confirmed_ = asking_first_ = false;
  changed_.NotifyAll();
}

void HostHealth::Failed(Clock::time_point began, const Error& error) {
  const auto now = now_();
  if (error.code == Code::kTimeout && now - began < kSilence) return;
  MutexLock lock(mutex_);
  if (began < last_heard_) return;
  slow_ = now - began >= kSlow;
  if (!silent_since_ || (!confirmed_ && now - last_failure_ >= kForgotten)) {
    // A failure of long ago begins no silence that reaches to now.
    silent_since_ = began;
    first_failure_ = now;
  } else if (slow_ && !confirmed_ && began >= first_failure_ && now - *silent_since_ >= kSilence) {
    confirmed_ = true;
    next_probe_ = now;
    rest_ = kShortestRest;
  }
  last_failure_ = now;
  error_ = error;
}

Error HostHealth::Pause::Refusal(const std::string& whom) const {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(left);
  return {Code::kUnavailable,
          fmt::format("{}: not asked for {} s more: {}", whom, seconds.count(), reason)};
}

void HostHealth::LeaveAlone(std::chrono::milliseconds wait, std::string reason) {
  MutexLock lock(mutex_);
  const auto until = now_() + std::min<std::chrono::milliseconds>(wait, kLongestPause);
  if (until <= paused_until_) return;
  paused_until_ = until;
  pause_reason_ = std::move(reason);
}

std::optional<HostHealth::Pause> HostHealth::Paused() const {
  MutexLock lock(mutex_);
  const auto now = now_();
  if (now >= paused_until_) return std::nullopt;
  return Pause{std::chrono::ceil<std::chrono::milliseconds>(paused_until_ - now), pause_reason_};
}

}  // namespace lamina
