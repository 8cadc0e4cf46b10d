#pragma once

// What bounds the waiting of requests. WaitBounds has those answered whose bound has passed, in
// whatever queue they stand. RecentFailures remembers, for a moment, failures that were long waited
// for: for one reader the kernel asks twice (its read-ahead fails, then it asks for the page; a
// name that it held, then the name again), and readers of one page, or of one name, one after
// another. Each of them would wait for the whole bound again. Any thread.

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fs/node_id.h"

namespace lamina {

struct ParkedCall;

class WaitBounds {
 public:
  using Expire = std::function<void(const std::shared_ptr<ParkedCall>&)>;

  // Deadlines come in about the order in which they pass.
  void Watch(const Deadline& deadline, const std::shared_ptr<ParkedCall>& call);
  // Calls `expire` for what still exists when its deadline passes, until Stop(). One thread.
  void Run(const Expire& expire);
  void Stop();

 private:
  struct Watched {
    Deadline deadline;
    std::weak_ptr<ParkedCall> call;
  };
  Mutex mutex_;  // leaf
  CondVar changed_;
  std::deque<Watched> watched_ GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
};

// What a request asked for: a name in a node, or a range of its bytes.
struct Question {
  NodeId node = 0;
  std::string name;
  uint64_t begin = 0, end = 0;  // of a read; bytes

  bool Covers(const Question& other) const {
    if (node != other.node || name != other.name) return false;
    return !name.empty() || (begin < other.end && other.begin < end);
  }
};

class RecentFailures {
 public:
  explicit RecentFailures(std::chrono::milliseconds kept = std::chrono::seconds(2)) : kept_(kept) {}
  void Put(Question question, Error error);
  std::optional<Error> Find(const Question& question);

 private:
  static constexpr size_t kMost = 1024;
  struct Failure {
    Deadline until;
    Question question;
    Error error;
  };
  void DropOld() REQUIRES(mutex_);

  const std::chrono::milliseconds kept_;
  Mutex mutex_;                                      // leaf
  std::deque<Failure> failures_ GUARDED_BY(mutex_);  // oldest first
};

}  // namespace lamina
