#pragma once

// RawRing: a few recycled buffers that carry the raw stream from the thread that decodes to those
// that hash and parse. Every reader sees every buffer, in order. The writer waits for the slowest
// reader. Waits are woken by the other side; nobody waits for anything else.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/mutex.h"
#include "index/chunker.h"

namespace lamina {

struct RawBuffer {
  std::vector<uint8_t> storage;
  size_t size = 0;                   // bytes of the stream in it
  uint64_t raw_offset = 0;           // of the first
  std::shared_ptr<BufferMark> mark;  // for the parser alone

  ByteSpan bytes() const { return ByteSpan(storage).first(size); }
  MutableByteSpan space() { return MutableByteSpan(storage).subspan(size); }
};

class RawRing {
 public:
  RawRing(size_t buffers, size_t buffer_bytes, size_t readers);

  // The writer: takes an empty buffer, hands it on; Close() after the last one.
  RawBuffer& BeginWrite() EXCLUDES(mutex_);
  void EndWrite() EXCLUDES(mutex_);
  void Close() EXCLUDES(mutex_);

  // Reader `reader`: the next buffer, or nullptr after the last one; each is given back before the
  // next.
  RawBuffer* BeginRead(size_t reader) EXCLUDES(mutex_);
  void EndRead(size_t reader) EXCLUDES(mutex_);

 private:
  uint64_t SlowestReader() const REQUIRES(mutex_);
  void Wait(CondVar& changed) REQUIRES(mutex_);

  std::vector<RawBuffer>
      buffers_;  // between the begin and the end of a use they belong to that thread
  Mutex mutex_;
  CondVar filled_;   // of the readers, who are woken for several buffers at once, and by Close()
  CondVar emptied_;  // of the writer
  uint64_t written_ GUARDED_BY(mutex_) = 0;        // buffers handed on so far
  std::vector<uint64_t> read_ GUARDED_BY(mutex_);  // buffers given back, by reader
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace lamina
