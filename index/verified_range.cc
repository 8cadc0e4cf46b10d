#include "index/verified_range.h"

#include <fmt/format.h>

#include <algorithm>

namespace lamina {
namespace {

Error NotVouchedFor(const LayerIndex& index, uint64_t begin, uint64_t end) {
  return Error{Code::kCorrupt, fmt::format("bytes {} to {} of the blob are not those of the index "
                                           "({})",
                                           begin, end, IndexKindName(index.facts().kind))};
}

// Bytes are hostile until they are verified, so one step must not take all memory.
constexpr uint64_t kMostAtOnce = 64u << 20;

}  // namespace

Result<VerifiedRange> VerifiedRange::Open(const LayerIndex& index, uint64_t begin, uint64_t end) {
  VerifiedRange range(index, begin, end);
  if (index.facts().kind != IndexKind::kOwn || begin >= end) return range;
  ASSIGN_OR_RETURN(const BlobMark mark, index.MarkAt(index.FirstMarkFrom(begin)));
  if (mark.blob_offset != begin)
    return Error{Code::kCorrupt, fmt::format("the index has no mark at byte {}", begin)};
  range.hasher_ = Hasher(index.facts().blob_digest.algorithm(), mark.state, begin);
  return range;
}

void VerifiedRange::Continue(const LayerIndex& index, uint64_t end) {
  index_ = &index;
  end_ = end;
}

Result<ByteSpan> VerifiedRange::Next(BlobSource& blob, const Deadline& deadline) {
  if (next_ >= end_) return ByteSpan();
  const bool marks = index_->facts().kind == IndexKind::kOwn;
  ASSIGN_OR_RETURN(const Step step, marks ? PlanMarks() : PlanSpans());
  if (step.end <= next_ || step.end > blob.size() || step.fetch_begin > next_)
    return Error{Code::kCorrupt, fmt::format("the index names bytes {} to {} of a blob of {}",
                                             step.fetch_begin, step.end, blob.size())};
  if (step.end - step.fetch_begin > kMostAtOnce)
    return Error{
        Code::kLimit,
        fmt::format("bytes {} to {} of the blob can only be verified at once, the limit is "
                    "{}",
                    step.fetch_begin, step.end, kMostAtOnce)};
  storage_.resize(step.end - step.fetch_begin);
  RETURN_IF_ERROR(blob.ReadAt(step.fetch_begin, storage_, deadline));
  RETURN_IF_ERROR(marks ? CheckMark(step) : CheckSpans(step));
  const ByteSpan bytes = ByteSpan(storage_).subspan(next_ - step.fetch_begin);
  next_ = step.end;
  first_ = false;
  return bytes;
}

// Up to the first mark behind the end where that is near, else up to the last one within a step.
Result<VerifiedRange::Step> VerifiedRange::PlanMarks() const {
  const uint64_t last = index_->FirstMarkFrom(end_);
  ASSIGN_OR_RETURN(const BlobMark behind, index_->MarkAt(last));
  if (behind.blob_offset - next_ <= (first_ ? kOneFetch : kFetchStep))
    return Step{next_, behind.blob_offset, last};
  const uint64_t least = index_->FirstMarkFrom(next_ + 1);
  const uint64_t beyond = index_->FirstMarkFrom(next_ + kFetchStep);
  const uint64_t number = beyond > least ? beyond - 1 : least;
  ASSIGN_OR_RETURN(const BlobMark mark, index_->MarkAt(number));
  return Step{next_, mark.blob_offset, number};
}

Status VerifiedRange::CheckMark(const Step& step) {
  ASSIGN_OR_RETURN(const BlobMark mark, index_->MarkAt(step.number));
  hasher_.Update(storage_);
  HashState state{};
  if (step.end == index_->facts().blob_size)
    std::ranges::copy(hasher_.Finish().bytes(), state.begin());
  else
    state = hasher_.state();
  return state == mark.state ? Status() : NotVouchedFor(*index_, step.fetch_begin, step.end);
}

Result<VerifiedRange::Step> VerifiedRange::PlanSpans() const {
  const uint64_t first = index_->FirstSpanAfter(next_);
  ASSIGN_OR_RETURN(BlobSpan span, index_->SpanAt(first));
  Step step{span.blob_begin, span.blob_end, first};
  const uint64_t most = first_ ? kOneFetch : kFetchStep;
  for (uint64_t number = first + 1; step.end < end_ && number < index_->span_count(); ++number) {
    ASSIGN_OR_RETURN(span, index_->SpanAt(number));
    if (span.blob_end - step.fetch_begin > most) break;
    step.end = span.blob_end;
  }
  return step;
}

Status VerifiedRange::CheckSpans(const Step& step) const {
  uint64_t checked = step.fetch_begin;
  for (uint64_t number = step.number; checked < step.end; ++number) {
    ASSIGN_OR_RETURN(const BlobSpan span, index_->SpanAt(number));
    if (span.blob_begin < step.fetch_begin || span.blob_begin > checked ||
        span.blob_end > step.end || span.blob_end <= checked)
      return Error{Code::kCorrupt, fmt::format("span {} of the index is out of order", number)};
    const ByteSpan bytes = ByteSpan(storage_).subspan(span.blob_begin - step.fetch_begin,
                                                      span.blob_end - span.blob_begin);
    if (!std::ranges::equal(Digest::Sha256(bytes).bytes(), span.sha256))
      return NotVouchedFor(*index_, span.blob_begin, span.blob_end);
    checked = span.blob_end;
  }
  return {};
}

}  // namespace lamina
