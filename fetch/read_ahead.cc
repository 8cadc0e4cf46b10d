#include "fetch/read_ahead.h"

#include <algorithm>

namespace lamina {

// The one that comes by this chunk, or the one used longest ago, made anew.
ReadAhead::Head& ReadAhead::HeadOf(uint64_t chunk) {
  for (Head& head : heads_) {
    const uint64_t end = std::max(head.last + kSlack, head.ahead);
    if (head.streak > 0 && chunk + kSlack >= head.last && chunk <= end) return head;
  }
  Head& oldest = *std::ranges::min_element(heads_, {}, &Head::used);
  oldest = Head{.last = chunk};
  return oldest;
}

std::optional<ReadAhead::Stretch> ReadAhead::Note(uint64_t chunk) {
  if (most_ == 0) return std::nullopt;
  MutexLock lock(mutex_);
  Head& head = HeadOf(chunk);
  head.used = ++now_;
  if (head.streak > 0 && chunk <= head.last) return std::nullopt;
  head.last = chunk;
  ++head.streak;
  if (head.streak < kStreak || chunk < head.stretch || head.has_no_end) return std::nullopt;
  const uint64_t first = std::max(head.ahead, chunk + 1);
  if (first >= chunk_count_) return std::nullopt;
  head.window = std::min(most_, std::max(kFirstStretch, 2 * head.window));
  head.stretch = first;
  head.ahead = first;
  head.has_no_end = true;
  return Stretch{first, head.window};
}

void ReadAhead::SetEnd(uint64_t first, uint64_t end) {
  MutexLock lock(mutex_);
  for (Head& head : heads_) {
    if (head.streak == 0 || head.stretch != first || !head.has_no_end) continue;
    head.ahead = std::max(first, end);
    head.has_no_end = false;
  }
}

}  // namespace lamina
