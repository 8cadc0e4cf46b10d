#include "index/flat_layout.h"

#include <algorithm>

#include "base/text.h"

namespace lamina {
namespace {

uint64_t PayloadOf(const TarEntry& entry) {
  if (!entry.sparse) return entry.size;
  uint64_t sum = 0;
  for (const SparseRegion& region : entry.regions) sum += region.length;
  return sum;
}

}  // namespace

Result<FilePlace> FlatLayout::BeginFile(const TarEntry& entry) {
  extents_.clear();
  extent_ = 0;
  FilePlace place;
  place.flat_offset = end_;
  if (entry.sparse) {
    ASSIGN_OR_RETURN(place, PlaceSparse(entry));
  } else {
    extents_.push_back({0, end_, entry.size});
    RETURN_IF_ERROR(TakeAddresses(AlignUp(entry.size, kFlatAlign)));
  }
  RETURN_IF_ERROR(chunker_.BeginFile(PayloadOf(entry), entry.header_offset));
  return place;
}

Result<FilePlace> FlatLayout::PlaceSparse(const TarEntry& entry) {
  const uint64_t granule = SparseGranule(entry.size);
  FilePlace place;
  for (const SparseRegion& region : entry.regions) {
    const uint64_t begin = AlignDown(region.offset, granule);
    const uint64_t end = AlignUp(region.offset + region.length, granule);
    FileExtent* last = extents_.empty() ? nullptr : &extents_.back();
    if (last != nullptr && begin <= last->file_offset + last->length) {
      const uint64_t more = end - std::min(end, last->file_offset + last->length);
      RETURN_IF_ERROR(TakeAddresses(more));
      last->length += more;
      continue;
    }
    extents_.push_back({begin, end_, end - begin});
    RETURN_IF_ERROR(TakeAddresses(end - begin));
  }
  for (const FileExtent& extent : extents_) {
    FileExtent clipped = extent;
    clipped.length = std::min(extent.length, entry.size - extent.file_offset);
    ASSIGN_OR_RETURN(const uint32_t number, writer_.AddExtent(clipped));
    if (place.extent_count++ == 0) place.extent_first = number;
  }
  return place;
}

Status FlatLayout::TakeAddresses(uint64_t length) {
  if (length > kMaxFlat - end_)
    return Error{Code::kLimit,
                 "the files of the layer need more than the limit of " + HumanSize(kMaxFlat)};
  end_ += length;
  return {};
}

uint64_t FlatLayout::FlatOffsetOf(uint64_t file_offset) {
  while (file_offset - extents_[extent_].file_offset >= extents_[extent_].length) ++extent_;
  return extents_[extent_].flat_offset + (file_offset - extents_[extent_].file_offset);
}

Status FlatLayout::AddData(ByteSpan bytes, uint64_t file_offset, uint64_t raw_offset) {
  const uint64_t flat = FlatOffsetOf(file_offset);
  RETURN_IF_ERROR(AddSegment({flat, raw_offset, bytes.size()}));
  RETURN_IF_ERROR(chunker_.AddZeros(flat - chunker_.position()));
  return chunker_.AddPayload(bytes, raw_offset);
}

Status FlatLayout::AddSegment(const Segment& next) {
  if (segment_.length > 0 && segment_.flat_offset + segment_.length == next.flat_offset &&
      segment_.raw_offset + segment_.length == next.raw_offset) {
    segment_.length += next.length;
    return {};
  }
  if (segment_.length > 0) RETURN_IF_ERROR(writer_.AddSegment(segment_));
  segment_ = next;
  return {};
}

Status FlatLayout::EndFile() { return chunker_.AddZeros(end_ - chunker_.position()); }

Status FlatLayout::Finish() {
  RETURN_IF_ERROR(EndFile());
  if (segment_.length > 0) RETURN_IF_ERROR(writer_.AddSegment(segment_));
  segment_ = Segment();
  return chunker_.Finish();
}

}  // namespace lamina
