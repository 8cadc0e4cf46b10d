#include "base/keyed_pool.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "base/log.h"

namespace lamina {
namespace {

constexpr std::chrono::seconds kIdleLife{10};

void RunGuarded(const std::function<void()>& job) {
  try {
    job();
  } catch (const std::exception& failure) {
    LogError(std::string("a job in the pool threw: ") + failure.what());
  } catch (...) {
    LogError("a job in the pool threw");
  }
}

}  // namespace

KeyedPool::KeyedPool(Options options) : options_(std::move(options)) {}

KeyedPool::~KeyedPool() { Stop(); }

bool KeyedPool::MayStart(const Lane& lane) const {
  if (lane.share == PoolShare::kLocal) return true;
  const size_t for_remote =
      options_.max_threads > options_.for_local ? options_.max_threads - options_.for_local : 1;
  if (running_remote_ >= for_remote) return false;
  const bool stranger = lane.share == PoolShare::kStranger;
  const size_t limit = stranger ? std::min(options_.for_strangers, for_remote) : for_remote;
  const size_t running = stranger ? running_strangers_ : running_remote_;
  return running < limit && (lane.running < kFew || 2 * running < limit);
}

size_t KeyedPool::NextReady() const {
  size_t at = 0;
  while (at < ready_.size() && !MayStart(lanes_.at(ready_[at]))) ++at;
  return at;
}

KeyedPool::Queued KeyedPool::Queue(const std::string& key, std::function<void()>& job,
                                   PoolShare share) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return Queued::kRefused;
  Lane& lane = lanes_[key];
  if (options_.drops_above && lane.waiting.size() >= *options_.drops_above) return Queued::kRefused;
  lane.share = share;
  lane.waiting.push_back(std::move(job));
  if (lane.running + lane.waiting.size() <= options_.per_key) ready_.push_back(key);
  if (!HasReady() || idle_ >= ready_.size() || threads_ >= options_.max_threads)
    return Queued::kTaken;
  ++threads_;
  return Queued::kNeedsThread;
}

bool KeyedPool::Post(const std::string& key, std::function<void()> job, PoolShare share) {
  switch (Queue(key, job, share)) {
    case Queued::kNeedsThread:
      return StartThread();
    case Queued::kTaken:
      changed_.notify_one();
      return true;
    case Queued::kRefused:
      break;
  }
  if (options_.drops_above) return false;
  RunGuarded(job);
  return true;
}

bool KeyedPool::StartThread() {
  JoinEnded();
  std::unique_lock<std::mutex> lock(mutex_);
  const Threads::iterator self = working_.emplace(working_.end());
  try {
    *self = options_.start_thread([this, self] { Work(self); });
    return true;
  } catch (const std::exception& failure) {
    LogWarning(std::string("cannot start a thread: ") + failure.what());
  }
  working_.erase(self);
  if (threads_ > 1) {  // one of them takes the job, or this one's turn comes when it fails too
    --threads_;
    changed_.notify_all();
    return true;
  }
  if (options_.drops_above) {
    DropWaiting(lock);
    return false;
  }
  RunJobs(lock, /*waits=*/false);
  return true;
}

// There is no thread, so that nothing runs.
void KeyedPool::DropWaiting(std::unique_lock<std::mutex>& lock) {
  std::map<std::string, Lane> dropped;
  dropped.swap(lanes_);
  ready_.clear();
  --threads_;
  changed_.notify_all();
  lock.unlock();  // the captures of the jobs go outside of it
}

void KeyedPool::Work(Threads::iterator self) {
  std::unique_lock<std::mutex> lock(mutex_);
  RunJobs(lock, /*waits=*/true);
  ended_.splice(ended_.end(), working_, self);
}

void KeyedPool::JoinEnded() {
  Threads ended;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ended.swap(ended_);
  }
  // What libraries keep for a thread goes when it ends, which is before they themselves go.
  for (std::thread& thread : ended) thread.join();
}

bool KeyedPool::WaitForReady(std::unique_lock<std::mutex>& lock) {
  const auto until = std::chrono::steady_clock::now() + kIdleLife;
  ++idle_;
  while (!HasReady()) {
    if (stopping_ || changed_.wait_until(lock, until) == std::cv_status::timeout) {
      if (HasReady()) break;
      --idle_;
      return false;
    }
  }
  --idle_;
  return true;
}

void KeyedPool::TakeJob(std::string* key, std::function<void()>* job) {
  const size_t next = NextReady();
  *key = std::move(ready_[next]);
  ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(next));
  Lane& lane = lanes_[*key];
  *job = std::move(lane.waiting.front());
  lane.waiting.pop_front();
  ++lane.running;
  if (lane.share != PoolShare::kLocal) ++running_remote_;
  if (lane.share == PoolShare::kStranger) ++running_strangers_;
}

void KeyedPool::RunJobs(std::unique_lock<std::mutex>& lock, bool waits) {
  std::string key;
  std::function<void()> job;
  while (waits ? WaitForReady(lock) : HasReady()) {
    TakeJob(&key, &job);
    lock.unlock();
    RunGuarded(job);
    job = nullptr;  // its captures go outside the lock
    lock.lock();
    Lane& lane = lanes_[key];
    --lane.running;
    if (lane.share != PoolShare::kLocal) --running_remote_;
    if (lane.share == PoolShare::kStranger) --running_strangers_;
    // `ready_` holds the key once for each waiting job that fits beside the running ones.
    if (lane.waiting.size() + lane.running >= options_.per_key && !lane.waiting.empty()) {
      ready_.push_back(key);
    } else if (lane.waiting.empty() && lane.running == 0) {
      lanes_.erase(key);
    }
  }
  --threads_;
  changed_.notify_all();
}

void KeyedPool::Stop() {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
    while (threads_ > 0) changed_.wait(lock);
  }
  JoinEnded();
}

}  // namespace lamina
