#include "index/blob_hash.h"

#include <algorithm>

namespace lamina {

BlobHash::BlobHash(Digest::Algorithm algorithm) : hasher_(algorithm) {
  restart_.state = hasher_.state();
}

// Marks come in the order of their places, so that the states are met on the way.
void BlobHash::Advance(ByteSpan bytes, size_t consumed, uint64_t restart) {
  window_begin_ = position_;
  window_ = bytes;
  if (restart != restart_place_) {
    restart_place_ = restart;
    restart_ = MarkAt(restart);
  }
  Take(position_, bytes.first(consumed));
  position_ += consumed;
}

void BlobHash::Take(uint64_t offset, ByteSpan bytes) {
  const uint64_t end = offset + bytes.size();
  // A gap would be a fault of the caller: no digest is right then.
  if (end <= hashed_ || offset > hashed_) return;
  hasher_.Update(bytes.subspan(hashed_ - offset));
  hashed_ = end;
}

HashMark BlobHash::Here() { return MarkAt(position_); }

HashMark BlobHash::MarkAt(uint64_t place) {
  HashMark mark;
  mark.offset = AlignUp(place, kHashAlign);
  const uint64_t window_end = window_begin_ + window_.size();
  const ByteSpan from = place < window_end ? window_.subspan(place - window_begin_) : ByteSpan();
  const ByteSpan lead = from.first(std::min<size_t>(from.size(), mark.offset - place));
  mark.lead.assign(lead.begin(), lead.end());
  mark.known = place + lead.size() == mark.offset;
  if (!mark.known) return mark;
  // What lies between the last state and this place was given with this window, too.
  if (hashed_ < mark.offset) Take(window_begin_, window_.first(mark.offset - window_begin_));
  mark.state = hasher_.state();
  return mark;
}

}  // namespace lamina
