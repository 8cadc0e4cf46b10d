#pragma once

// KeyedPool: threads for work that may block. Every job names a key (a registry host, "local"), and
// at most `per_key` jobs of one key run at a time, so that a dead registry holds up only its own
// jobs. Threads are made on demand, up to `max_threads`, and end after a while without work. Post()
// is safe from any thread and does not block, save where the system gives the pool no thread at all
// (a limit of processes): it then runs what waits. A job that throws is logged and ends.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace lamina {

class KeyedPool {
 public:
  struct Options {
    size_t max_threads = 256;
    size_t per_key = 16;
    // Starts a thread that runs `body`, or throws; for tests. Absent: a std::thread.
    std::function<void(std::function<void()> body)> start_thread = {};
  };

  explicit KeyedPool(Options options);
  // Waits for running jobs; jobs not begun are dropped, so owners of replies must outlive the
  // pool's refusal: Stop() first where every job has to be answered.
  ~KeyedPool();
  KeyedPool(const KeyedPool&) = delete;
  KeyedPool& operator=(const KeyedPool&) = delete;

  void Post(const std::string& key, std::function<void()> job);

  // Runs what is queued to its end, then takes no more (later posts run in the caller's thread).
  void Stop();

 private:
  struct Lane {
    std::deque<std::function<void()>> waiting;
    size_t running = 0;
  };
  void StartThread();
  // Takes jobs until there are none; `waits`: for a while longer.
  void RunJobs(bool waits);
  bool WaitForReady(std::unique_lock<std::mutex>& lock);
  void TakeJob(std::string* key, std::function<void()>* job);

  const Options options_;
  std::mutex mutex_;  // leaf; guards all below
  std::condition_variable changed_;
  std::map<std::string, Lane> lanes_;
  std::deque<std::string> ready_;  // a key stands here once for each job that may start now
  size_t idle_ = 0;
  size_t threads_ = 0;  // with those being started, and callers of Post() that run jobs
  bool stopping_ = false;
};

}  // namespace lamina
