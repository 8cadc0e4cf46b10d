#pragma once

// Requests of the kernel that wait for something. Each is answered exactly once: by the job that
// has the result, by an interrupt (EINTR at once, so that a killed process goes), or by the end of
// the session. Who wins Claim() answers. Any thread.

#include <atomic>
#include <memory>
#include <thread>
#include <unordered_map>

#include "base/mutex.h"

struct fuse_req;

namespace lamina {

class PendingSet;

class PendingRequest {
 public:
  PendingRequest(fuse_req* request, PendingSet& set) : request_(request), set_(set) {}

  // True for one caller only, who then replies to request() and calls Answered().
  bool Claim();
  void Answered();
  // By a job that found it claimed by another.
  void Forget();
  bool claimed() const { return claimed_.load(std::memory_order_acquire); }
  // libfuse's; to be used by who has claimed.
  fuse_req* request() const { return request_; }

 private:
  friend class PendingSet;
  static void OnInterrupt(fuse_req* request, void* data);

  fuse_req* const request_;
  PendingSet& set_;
  std::atomic<bool> claimed_{false};
  // While libfuse takes the callback it may call it in the same thread, where a reply would free
  // what it uses.
  std::atomic<std::thread::id> registering_{};
  std::atomic<bool> interrupted_{false};
};

// All that wait. Outlives them.
class PendingSet {
 public:
  // Null where the request has been answered already: interrupted, or the session ends.
  std::shared_ptr<PendingRequest> Park(fuse_req* request);
  // Answers all with EINTR, and all that come later; waits for replies that are being written.
  void Stop();

 private:
  friend class PendingRequest;
  void BeginReply();
  void EndReply();
  void Remove(const PendingRequest* request);

  Mutex mutex_;  // leaf
  CondVar changed_;
  size_t replying_ GUARDED_BY(mutex_) = 0;  // claims being made, and replies being written
  std::unordered_map<const PendingRequest*, std::shared_ptr<PendingRequest>> waiting_
      GUARDED_BY(mutex_);
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace lamina
