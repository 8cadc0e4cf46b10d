#include "index/toc_offsets.h"

namespace lamina {

void TocOffsets::Add(uint64_t offset) {
  if (offset <= last_) return;
  uint64_t delta = offset - last_;
  last_ = offset;
  for (; delta >= 0x80; delta >>= 7) deltas_.push_back(static_cast<uint8_t>(delta | 0x80));
  deltas_.push_back(static_cast<uint8_t>(delta));
}

uint64_t TocOffsets::After(uint64_t offset, uint64_t end) {
  while (current_ <= offset && cursor_ < deltas_.size()) Advance();
  return current_ > offset ? current_ : end;
}

void TocOffsets::Advance() {
  uint64_t delta = 0;
  for (unsigned shift = 0;; shift += 7) {
    const uint8_t byte = deltas_[cursor_++];
    delta |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) break;
  }
  current_ += delta;
}

}  // namespace lamina
