#include "base/keyed_pool.h"

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

void KeyedPool::Post(const std::string& key, std::function<void()> job) {
  bool spawn = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!stopping_) {
      Lane& lane = lanes_[key];
      lane.waiting.push_back(std::move(job));
      if (lane.running + lane.waiting.size() <= options_.per_key) ready_.push_back(key);
      spawn = !ready_.empty() && idle_ < ready_.size() && threads_ < options_.max_threads;
      if (spawn) ++threads_;
      job = nullptr;
    }
  }
  if (job) return RunGuarded(job);
  if (spawn) {
    StartThread();
  } else {
    changed_.notify_one();
  }
}

void KeyedPool::StartThread() {
  const auto body = [this] { RunJobs(/*waits=*/true); };
  try {
    if (options_.start_thread)
      options_.start_thread(body);
    else
      std::thread(body).detach();
    return;
  } catch (const std::exception& failure) {
    LogWarning(std::string("cannot start a thread: ") + failure.what());
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (threads_ > 1) {  // one of them takes the job, or this one's turn comes when it fails too
      --threads_;
      changed_.notify_all();
      return;
    }
  }
  RunJobs(/*waits=*/false);
}

bool KeyedPool::WaitForReady(std::unique_lock<std::mutex>& lock) {
  const auto until = std::chrono::steady_clock::now() + kIdleLife;
  ++idle_;
  while (ready_.empty()) {
    if (stopping_ || changed_.wait_until(lock, until) == std::cv_status::timeout) {
      if (!ready_.empty()) break;
      --idle_;
      return false;
    }
  }
  --idle_;
  return true;
}

void KeyedPool::TakeJob(std::string* key, std::function<void()>* job) {
  *key = std::move(ready_.front());
  ready_.pop_front();
  Lane& lane = lanes_[*key];
  *job = std::move(lane.waiting.front());
  lane.waiting.pop_front();
  ++lane.running;
}

void KeyedPool::RunJobs(bool waits) {
  std::unique_lock<std::mutex> lock(mutex_);
  std::string key;
  std::function<void()> job;
  while (waits ? WaitForReady(lock) : !ready_.empty()) {
    TakeJob(&key, &job);
    lock.unlock();
    RunGuarded(job);
    job = nullptr;  // its captures go outside the lock
    lock.lock();
    Lane& lane = lanes_[key];
    --lane.running;
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
  std::unique_lock<std::mutex> lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  while (threads_ > 0) changed_.wait(lock);
}

}  // namespace lamina
