#include "index/inode_spool.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace lamina {

Result<uint32_t> InodeSpool::Add(const index_format::InodeRecord& inode) {
  if (size_ == std::numeric_limits<uint32_t>::max())
    return Error{Code::kLimit, "the layer has more than 4294967295 inodes"};
  if (size_ > 0) RETURN_IF_ERROR(spool_.AppendRecord(last_));
  last_ = inode;
  return size_++;
}

Result<index_format::InodeRecord> InodeSpool::Read(uint32_t number) const {
  if (number + uint64_t{1} == size_) return last_;
  index_format::InodeRecord inode;
  RETURN_IF_ERROR(spool_.Read(number * uint64_t{sizeof inode},
                              {reinterpret_cast<uint8_t*>(&inode), sizeof inode}));
  return inode;
}

Status InodeSpool::ForEach(
    const std::function<Status(uint32_t, const index_format::InodeRecord&)>& take) const {
  constexpr uint32_t kBatch = 1024;
  std::vector<index_format::InodeRecord> batch;
  for (uint32_t first = 0; first + uint64_t{1} < size_; first += kBatch) {
    batch.resize(std::min(kBatch, size_ - 1 - first));
    RETURN_IF_ERROR(
        spool_.Read(first * uint64_t{sizeof batch[0]},
                    {reinterpret_cast<uint8_t*>(batch.data()), batch.size() * sizeof batch[0]}));
    for (uint32_t i = 0; i < batch.size(); ++i) RETURN_IF_ERROR(take(first + i, batch[i]));
  }
  return size_ == 0 ? Status() : take(size_ - 1, last_);
}

}  // namespace lamina
