#pragma once

// KeyedPool: threads for work that may block. Every job names a key (a registry host, "local"), and
// at most `per_key` jobs of one key run at a time, so that a dead registry holds up only its own
// jobs. Jobs that wait for others' machines never take all threads: some are left to local jobs,
// and of the rest half to keys that have few jobs running. Threads are made on demand, up to
// `max_threads`, and end after a while without work. Post() is safe from any thread and does not
// block, save where the system gives the pool no thread at all (a limit of processes): it then runs
// what waits, or drops it where the pool is told to. A job that throws is logged and ends.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace lamina {

// Whom a job may have to wait for.
enum class PoolShare : uint8_t {
  kLocal,     // this machine
  kRegistry,  // a registry that has something that is known here
  kStranger,  // one of which nothing is known: anybody may name any number of them
};

class KeyedPool {
 public:
  struct Options {
    size_t max_threads = 384;
    size_t per_key = 16;
    size_t for_local = 96;      // of max_threads, for nothing but local jobs
    size_t for_strangers = 64;  // at most
    // What may be lost is refused where so many jobs of its key wait, and after Stop(), and dropped
    // where there is no thread: then Post() runs nothing.
    std::optional<size_t> drops_above = {};
    // Starts a thread that runs `body`, or throws; tests give another.
    std::function<std::thread(std::function<void()> body)> start_thread = [](auto body) {
      return std::thread(std::move(body));
    };
  };

  explicit KeyedPool(Options options);
  // Waits for running jobs; jobs not begun are dropped, so owners of replies must outlive the
  // pool's refusal: Stop() first where every job has to be answered.
  ~KeyedPool();
  KeyedPool(const KeyedPool&) = delete;
  KeyedPool& operator=(const KeyedPool&) = delete;

  // Jobs of one key have one share. False where the job was dropped.
  bool Post(const std::string& key, std::function<void()> job, PoolShare share = PoolShare::kLocal);

  // Runs what is queued to its end, then takes no more (later posts run in the caller's thread, or
  // are refused).
  void Stop();

 private:
  struct Lane {
    std::deque<std::function<void()>> waiting;
    size_t running = 0;
    PoolShare share = PoolShare::kLocal;
  };
  enum class Queued { kTaken, kNeedsThread, kRefused };
  // Takes the job out of `job` unless it is refused.
  Queued Queue(const std::string& key, std::function<void()>& job, PoolShare share);
  static constexpr size_t kFew = 4;
  bool MayStart(const Lane& lane) const;
  // Where in ready_ the first job stands that may start now; its size where there is none.
  size_t NextReady() const;
  bool HasReady() const { return NextReady() < ready_.size(); }
  using Threads = std::list<std::thread>;
  bool StartThread();
  void DropWaiting(std::unique_lock<std::mutex>& lock);
  // What the thread at `self` does.
  void Work(Threads::iterator self);
  // Takes jobs until there are none; `waits`: for a while longer. Then there is a thread less.
  void RunJobs(std::unique_lock<std::mutex>& lock, bool waits);
  // Waits for threads that have no more to do but end.
  void JoinEnded();
  bool WaitForReady(std::unique_lock<std::mutex>& lock);
  // The next one, which there is.
  void TakeJob(std::string* key, std::function<void()>* job);

  const Options options_;
  std::mutex mutex_;  // leaf; guards all below
  std::condition_variable changed_;
  std::map<std::string, Lane> lanes_;
  // A key stands here once for each of its jobs that fits beside those of the key that run.
  std::deque<std::string> ready_;
  size_t running_remote_ = 0;  // for registries, strangers included
  size_t running_strangers_ = 0;
  size_t idle_ = 0;
  size_t threads_ = 0;  // with those being started, and callers of Post() that run jobs
  Threads working_;
  Threads ended_;  // joined by whoever starts the next one, or stops the pool
  bool stopping_ = false;
};

}  // namespace lamina
