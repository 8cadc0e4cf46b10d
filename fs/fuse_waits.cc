#include "fs/fuse_waits.h"

namespace lamina {

// --- WaitBounds

void WaitBounds::Watch(const Deadline& deadline, const std::shared_ptr<ParkedCall>& call) {
  MutexLock lock(mutex_);
  // What has been answered meanwhile.
  while (!watched_.empty() && watched_.front().call.expired()) watched_.pop_front();
  watched_.push_back({deadline, call});
  if (watched_.size() == 1) changed_.NotifyAll();
}

void WaitBounds::Run(const Expire& expire) {
  for (;;) {
    std::shared_ptr<ParkedCall> passed;
    {
      MutexLock lock(mutex_);
      if (stopped_) return;
      if (watched_.empty()) {
        changed_.WaitUntil(mutex_, Deadline::After(std::chrono::hours(1)));
        continue;
      }
      if (!watched_.front().deadline.passed()) {
        const Deadline next = watched_.front().deadline;
        changed_.WaitUntil(mutex_, next);
        continue;
      }
      passed = watched_.front().call.lock();
      watched_.pop_front();
    }
    if (passed != nullptr) expire(passed);
  }
}

void WaitBounds::Stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

// --- RecentFailures

void RecentFailures::DropOld() {
  while (!failures_.empty() && (failures_.front().until.passed() || failures_.size() > kMost))
    failures_.pop_front();
}

void RecentFailures::Put(Question question, Error error) {
  MutexLock lock(mutex_);
  failures_.push_back({Deadline::After(kept_), std::move(question), std::move(error)});
  DropOld();
}

std::optional<Error> RecentFailures::Find(const Question& question) {
  MutexLock lock(mutex_);
  DropOld();
  for (const Failure& failure : failures_)
    if (failure.question.Covers(question)) return failure.error;
  return std::nullopt;
}

}  // namespace lamina
