#include "fs/fuse_pending.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

namespace lamina {

bool PendingRequest::Claim() {
  // Counted before the claim, so that Stop() cannot miss a reply that is about to be written.
  set_.BeginReply();
  if (claimed_.exchange(true, std::memory_order_acq_rel)) {
    set_.EndReply();
    return false;
  }
  // Waits for a callback that is running: it has lost the claim and ends without touching the
  // request.
  fuse_req_interrupt_func(request_, nullptr, nullptr);
  return true;
}

void PendingRequest::Answered() {
  set_.EndReply();
  set_.Remove(this);
}

void PendingRequest::Forget() { set_.Remove(this); }

void PendingRequest::OnInterrupt(fuse_req* request, void* data) {
  auto* pending = static_cast<PendingRequest*>(data);
  if (pending->registering_.load() == std::this_thread::get_id()) {
    pending->interrupted_ = true;
    return;
  }
  if (pending->claimed_.exchange(true, std::memory_order_acq_rel)) return;
  // From here on `pending` may be gone; the request is ours until the reply.
  fuse_reply_err(request, EINTR);
}

std::shared_ptr<PendingRequest> PendingSet::Park(fuse_req* request) {
  auto pending = std::make_shared<PendingRequest>(request, *this);
  pending->registering_ = std::this_thread::get_id();
  fuse_req_interrupt_func(request, &PendingRequest::OnInterrupt, pending.get());
  pending->registering_ = std::thread::id();
  bool refused = pending->interrupted_;
  {
    MutexLock lock(mutex_);
    refused = refused || stopped_;
    if (!refused) waiting_.emplace(pending.get(), pending);
  }
  if (!refused) return pending;
  if (pending->Claim()) {
    fuse_reply_err(request, EINTR);
    pending->Answered();
  }
  return nullptr;
}

void PendingSet::BeginReply() {
  MutexLock lock(mutex_);
  ++replying_;
}

void PendingSet::EndReply() {
  MutexLock lock(mutex_);
  --replying_;
  changed_.NotifyAll();
}

void PendingSet::Remove(const PendingRequest* request) {
  std::shared_ptr<PendingRequest> last;  // destroyed after the lock
  MutexLock lock(mutex_);
  const auto at = waiting_.find(request);
  if (at == waiting_.end()) return;
  last = std::move(at->second);
  waiting_.erase(at);
}

void PendingSet::Stop() {
  std::vector<std::shared_ptr<PendingRequest>> waiting;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    for (const auto& [key, pending] : waiting_) waiting.push_back(pending);
  }
  for (const auto& pending : waiting) {
    if (pending->Claim()) {
      fuse_reply_err(pending->request(), EINTR);
      pending->Answered();
    }
  }
  // Jobs that claimed before are writing their replies; that is one system call.
  MutexLock lock(mutex_);
  while (replying_ > 0) changed_.WaitUntil(mutex_, Deadline::After(std::chrono::seconds(1)));
}

}  // namespace lamina
