#pragma once

// PausedReaders: the decoders of reads that ended within a zstd frame. It cannot be entered in the
// middle, so without them a chunk that lies further in its frame than one deadline reaches could
// never be read: the next read goes on where the last one gave up. Where the last one got what it
// wanted, the next saves decoding what lies before. A few at most are held, those that gave up
// before others and then the newest, and none for long once others are asked for. Any thread; never
// blocks.

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "index/raw_reader.h"

namespace lamina {

class PausedReaders {
 public:
  // One that was decoding from this checkpoint and has not passed `raw_offset`. The caller resumes
  // it.
  std::optional<RawReader> Take(const Digest& layer, uint32_t checkpoint, uint64_t raw_offset)
      EXCLUDES(mutex_);
  // `gave_up`: its deadline passed before it got what it wanted.
  void Put(const Digest& layer, uint32_t checkpoint, bool gave_up, RawReader reader)
      EXCLUDES(mutex_);

 private:
  struct Paused {
    Digest layer;
    uint32_t checkpoint;
    bool gave_up;
    Deadline end;
    RawReader reader;
  };
  // Takes out what is too old or too much; the caller lets it go without the lock.
  std::vector<Paused> Surplus() REQUIRES(mutex_);

  Mutex mutex_;                                    // leaf
  std::vector<Paused> paused_ GUARDED_BY(mutex_);  // oldest first
};

}  // namespace lamina
