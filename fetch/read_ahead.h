#pragma once

// ReadAhead: recognises who reads a layer one chunk after another, a large file or files in tar
// order, among whoever else reads it, and says what to fetch before it is asked for. A FUSE mount
// has no open files to tell readers apart by, so the places where some have read last are
// remembered. From the third chunk in order on, the stretch that is fetched ahead doubles. Any
// thread; never blocks.

#include <array>
#include <cstdint>
#include <optional>

#include "base/mutex.h"

namespace lamina {

class ReadAhead {
 public:
  // Of a layer of so many chunks. A stretch has `most` flat bytes at most; 0: nothing is read
  // ahead.
  ReadAhead(uint64_t chunk_count, uint64_t most) : chunk_count_(chunk_count), most_(most) {}

  struct Stretch {
    uint64_t first = 0;  // chunk
    uint64_t bytes = 0;  // flat
  };
  // Somebody reads a chunk that was not local, or the first time one that was fetched ahead. What
  // is to be fetched now, if anything: then SetEnd() follows.
  std::optional<Stretch> Note(uint64_t chunk) EXCLUDES(mutex_);
  // The stretch that begins with this chunk ends before the chunk `end`.
  void SetEnd(uint64_t first, uint64_t end) EXCLUDES(mutex_);

 private:
  static constexpr size_t kHeads = 8;
  // Chunks in order before anything is fetched ahead: two may belong to one small read.
  static constexpr uint64_t kStreak = 3;
  // Readers beside each other (the kernel's own read-ahead) come out of order by so much.
  static constexpr uint64_t kSlack = 2;
  static constexpr uint64_t kFirstStretch = 2u << 20;  // flat bytes

  struct Head {
    uint64_t last = 0;        // chunk
    uint64_t streak = 0;      // chunks read in order; 0: unused
    uint64_t window = 0;      // flat bytes of the last stretch
    uint64_t stretch = 0;     // where it begins: whoever comes there has the next one fetched
    uint64_t ahead = 0;       // the first chunk behind it
    bool has_no_end = false;  // SetEnd() is still to come
    uint64_t used = 0;        // when, in calls of Note()
  };
  Head& HeadOf(uint64_t chunk) REQUIRES(mutex_);

  const uint64_t chunk_count_;
  const uint64_t most_;
  Mutex mutex_;  // leaf
  std::array<Head, kHeads> heads_ GUARDED_BY(mutex_);
  uint64_t now_ GUARDED_BY(mutex_) = 0;
};

}  // namespace lamina
