#include "index/paused_readers.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace lamina {
namespace {

// Each holds a window of up to 128 MiB.
constexpr size_t kMostPaused = 2;
constexpr std::chrono::minutes kKept(5);

}  // namespace

std::vector<PausedReaders::Paused> PausedReaders::Surplus() {
  std::vector<Paused> surplus;
  while (!paused_.empty() && (paused_.size() > kMostPaused || paused_.front().end.passed())) {
    auto at = paused_.begin();
    if (!at->end.passed()) at = std::ranges::find(paused_, false, &Paused::gave_up);
    if (at == paused_.end()) at = paused_.begin();
    surplus.push_back(std::move(*at));
    paused_.erase(at);
  }
  return surplus;
}

std::optional<RawReader> PausedReaders::Take(const Digest& layer, uint32_t checkpoint,
                                             uint64_t raw_offset) {
  std::vector<Paused> surplus;
  std::optional<RawReader> found;
  MutexLock lock(mutex_);
  surplus = Surplus();
  const auto at = std::find_if(paused_.rbegin(), paused_.rend(), [&](const Paused& paused) {
    return paused.layer == layer && paused.checkpoint == checkpoint &&
           paused.reader.raw_position() <= raw_offset;
  });
  if (at == paused_.rend()) return found;
  found.emplace(std::move(at->reader));
  paused_.erase(std::next(at).base());
  return found;
}

void PausedReaders::Put(const Digest& layer, uint32_t checkpoint, bool gave_up, RawReader reader) {
  std::vector<Paused> surplus;  // let go after the lock
  MutexLock lock(mutex_);
  paused_.push_back({layer, checkpoint, gave_up, Deadline::After(kKept), std::move(reader)});
  surplus = Surplus();
}

}  // namespace lamina
