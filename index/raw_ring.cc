#include "index/raw_ring.h"

#include <algorithm>
#include <chrono>

namespace lamina {
namespace {

// A reader is faster than the decoder: to wake it for each buffer would cost more than it does.
constexpr uint64_t kWakeEvery = 4;

}  // namespace

RawRing::RawRing(size_t buffers, size_t buffer_bytes, size_t readers)
    : buffers_(buffers), read_(readers, 0) {
  for (RawBuffer& buffer : buffers_) buffer.storage.resize(buffer_bytes);
}

RawBuffer& RawRing::BeginWrite() {
  MutexLock lock(mutex_);
  while (written_ - SlowestReader() >= buffers_.size()) Wait(emptied_);
  RawBuffer& buffer = buffers_[written_ % buffers_.size()];
  buffer.size = 0;
  return buffer;
}

void RawRing::EndWrite() {
  MutexLock lock(mutex_);
  // A full ring wakes them, too: the writer waits for them next.
  if (++written_ % kWakeEvery == 0 || written_ - SlowestReader() >= buffers_.size())
    filled_.NotifyAll();
}

void RawRing::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  filled_.NotifyAll();
}

RawBuffer* RawRing::BeginRead(size_t reader) {
  MutexLock lock(mutex_);
  while (read_[reader] == written_ && !closed_) Wait(filled_);
  if (read_[reader] == written_) return nullptr;
  return &buffers_[read_[reader] % buffers_.size()];
}

void RawRing::EndRead(size_t reader) {
  MutexLock lock(mutex_);
  ++read_[reader];
  emptied_.NotifyAll();
}

uint64_t RawRing::SlowestReader() const { return *std::min_element(read_.begin(), read_.end()); }

// The bound is only there because CondVar wants one; callers loop.
void RawRing::Wait(CondVar& changed) {
  changed.WaitUntil(mutex_, Deadline::After(std::chrono::seconds(10)));
}

}  // namespace lamina
