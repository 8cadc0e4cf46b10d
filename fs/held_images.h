#pragma once

// HeldImages: the images whose folders the kernel has looked up and not forgotten. Whoever uses
// something in an image (an open file, a current folder, a bind mount) makes the kernel hold the
// image's folder, so that this tells which images somebody may still be in. Any thread; never
// waits.

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "fs/node_id.h"

namespace lamina {

class HeldImages {
 public:
  // Nodes that are no folder of an image do not count.
  void Add(NodeId node, int64_t times);
  // Rows of kImage.
  std::vector<uint32_t> Rows() const;
  // Grows with every image that is held anew.
  uint64_t changes() const;

 private:
  mutable Mutex mutex_;  // leaf
  std::unordered_map<uint32_t, int64_t> times_ GUARDED_BY(mutex_);
  uint64_t changes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace lamina
