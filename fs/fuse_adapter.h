#pragma once

// FuseAdapter: translates libfuse's low-level calls to the Namespace: decode, call, reply. What
// would wait is parked and answered from the pool, so that a FUSE thread never waits; requests that
// wait for the same thing share one job. Nothing throws out of it, and each request gets one reply.
//
// Any thread. Jobs in the pool keep it alive; the namespace has to outlive the pool's jobs.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/keyed_pool.h"
#include "base/mutex.h"
#include "fs/fuse_pending.h"
#include "fs/fuse_waits.h"
#include "fs/fuse_wire.h"
#include "fs/namespace.h"

struct fuse_lowlevel_ops;

namespace lamina {

class FuseCall;

// A call that waits, with its request.
struct ParkedCall {
  std::shared_ptr<PendingRequest> pending;
  std::unique_ptr<FuseCall> call;
  uint32_t user = 0;  // who asks
  int rounds = 0;     // how often it has waited
  const Deadline::Clock::time_point asked = Deadline::Clock::now();
  // Also read by the thread that keeps the bounds; max: for as long as it takes.
  std::atomic<Deadline::Clock::time_point> until{Deadline::Clock::time_point::max()};

  Deadline deadline() const { return Deadline(until); }
};

class FuseAdapter : public std::enable_shared_from_this<FuseAdapter> {
 public:
  FuseAdapter(Namespace& tree, KeyedPool& pool) : tree_(tree), pool_(pool) {}

  // For fuse_session_new, with the adapter as userdata.
  static const fuse_lowlevel_ops& Operations();
  FuseWire& wire() { return wire_; }
  // What waits is answered EINTR, now and from now on. Returns when no reply is being written by a
  // job.
  void StopWaiting();
  // Answers what has waited for too long, until StopWaiting(). For a thread of its own.
  void KeepBounds();

  // Answers the request, at once or from the pool. `Op` is one of fuse_calls.h.
  template <typename Op>
  void Serve(fuse_req* request, Op op) noexcept;
  Namespace& tree() { return tree_; }
  // Is this thread answering a request? Then it must not wait for the kernel, which may wait for
  // the request.
  static bool IsServing();

 private:
  using ParkedPtr = std::shared_ptr<ParkedCall>;

  void Park(fuse_req* request, std::unique_ptr<FuseCall> call);
  void Wait(const ParkedPtr& parked);
  void Post(const NodeWait& wait, const ParkedCall& parked, std::function<void()> job);
  void JoinGate(const NodeWait& wait, NodeId node, const ParkedPtr& parked);
  void PassGate(NodeId gate, NodeId node);
  void Resume(const ParkedPtr& parked);
  void RunBlocking(const ParkedPtr& parked);
  void BoundWait(const ParkedPtr& parked, bool bounded);
  void Expire(const ParkedPtr& parked);
  void Remember(const ParkedCall& parked, const Error& error);
  bool AllAnswered(NodeId gate);
  void Reply(const ParkedPtr& parked);
  void Fail(const ParkedPtr& parked, const Error& error);

  Namespace& tree_;
  KeyedPool& pool_;
  FuseWire wire_;
  PendingSet pending_;
  WaitBounds bounds_;
  RecentFailures recent_;
  Mutex gates_mutex_;  // leaf
  std::unordered_map<NodeId, std::vector<ParkedPtr>> gates_ GUARDED_BY(gates_mutex_);
};

}  // namespace lamina
