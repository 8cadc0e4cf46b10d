#include "fs/held_images.h"

namespace lamina {

void HeldImages::Add(NodeId node, int64_t times) {
  const auto parts = SplitNode(node);
  if (!parts || parts->kind != NodeClass::kImage || parts->part() != ImagePart::kFolder) return;
  MutexLock lock(mutex_);
  const auto [at, added] = times_.try_emplace(parts->row, 0);
  if (added) ++changes_;
  at->second += times;
  if (at->second <= 0) times_.erase(at);
}

std::vector<uint32_t> HeldImages::Rows() const {
  std::vector<uint32_t> rows;
  MutexLock lock(mutex_);
  for (const auto& [row, times] : times_) rows.push_back(row);
  return rows;
}

uint64_t HeldImages::changes() const {
  MutexLock lock(mutex_);
  return changes_;
}

}  // namespace lamina
