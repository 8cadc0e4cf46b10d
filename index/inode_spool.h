#pragma once

// InodeSpool: the inodes of a layer's tree while the layer is indexed, on disk but for the last
// one, which may still change. One thread.

#include <cstdint>
#include <functional>
#include <utility>

#include "base/result.h"
#include "index/layer_index_format.h"
#include "index/spool.h"

namespace lamina {

class InodeSpool {
 public:
  // `spool` is empty.
  explicit InodeSpool(Spool spool) : spool_(std::move(spool)) {}

  uint32_t size() const { return size_; }
  // The number of the inode.
  Result<uint32_t> Add(const index_format::InodeRecord& inode);
  // The one that was added last; there is one.
  index_format::InodeRecord& last() { return last_; }
  Result<index_format::InodeRecord> Read(uint32_t number) const;
  // Hands all inodes over in the order of their numbers.
  Status ForEach(
      const std::function<Status(uint32_t, const index_format::InodeRecord&)>& take) const;

 private:
  Spool spool_;
  index_format::InodeRecord last_;  // not in spool_ yet
  uint32_t size_ = 0;
};

}  // namespace lamina
