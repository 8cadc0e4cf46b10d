#include "index/foreign_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "index/flat_layout.h"
#include "index/layer_builder.h"
#include "index/piece_reader.h"

namespace lamina {
namespace {

Status WithinEntry(const TarEntry& entry, Status status) {
  if (status.has_value()) return status;
  return status.error().Within("entry " + Quote(entry.path));
}

}  // namespace

ForeignBuilder::ForeignBuilder(const IndexRequest& request)
    : writer_(request.output_path),
      tree_(writer_, TreeLimitsOf(request), [this](std::string text) { Warn(std::move(text)); }),
      chunks_(writer_, [this](ChunkRecord* chunk) { return CompleteChunk(chunk); }) {}

void ForeignBuilder::Warn(std::string text) {
  if (warnings_.size() < kMaxWarnings) warnings_.push_back(std::move(text));
}

// The flat offset of a file with data that stays in the tree.
Result<std::optional<uint64_t>> ForeignBuilder::Place(const TarEntry& entry) {
  ASSIGN_OR_RETURN(const bool stays, tree_.Add(entry));
  if (!stays || entry.size == 0) return std::optional<uint64_t>();
  if (entry.size > kMaxFlat - flat_end_)
    return Error{Code::kLimit,
                 "the files of the layer need more than the limit of " + HumanSize(kMaxFlat)};
  const uint64_t flat_offset = flat_end_;
  flat_end_ = AlignUp(flat_end_ + entry.size, kFlatAlign);
  tree_.SetFlatOffset(flat_offset);
  RETURN_IF_ERROR(chunks_.BeginFile(flat_offset, entry.size));
  return std::optional<uint64_t>(flat_offset);
}

Status ForeignBuilder::AddPieces(const TarEntry& entry, std::span<const TocPiece> pieces) {
  const auto place = Place(entry);
  if (!place.has_value()) return WithinEntry(entry, place.error());
  return *place ? WithinEntry(entry, PlacePieces(**place, pieces)) : Status();
}

Status ForeignBuilder::PlacePieces(uint64_t flat_offset, std::span<const TocPiece> pieces) {
  for (const TocPiece& piece : pieces) {
    const uint64_t begin = flat_offset + piece.file_offset;
    if (piece.zero) {
      RETURN_IF_ERROR(chunks_.Zeros(begin, piece.length));
      continue;
    }
    if (piece.length > kMaxPieceBytes || piece.inner_offset > 4 * kMaxPieceBytes)
      return Error{Code::kUnsupported,
                   fmt::format("the table cuts it into pieces of {}, more than {} is not lazy",
                               HumanSize(piece.length), HumanSize(kMaxPieceBytes))};
    RETURN_IF_ERROR(writer_.AddPiece({begin, piece.length, piece.blob_offset, piece.blob_end,
                                      piece.inner_offset, piece.sha256}));
    RETURN_IF_ERROR(chunks_.Data(begin, piece.length, 0));
  }
  return {};
}

Status ForeignBuilder::AddSpans(const Ztoc& ztoc) {
  spans_ = ztoc.spans();
  for (size_t number = 0; number < spans_.size(); ++number) {
    const ZtocSpan& span = spans_[number];
    RETURN_IF_ERROR(writer_.AddSpan({span.blob_offset, span.blob_end, span.sha256}));
    const Checkpoint checkpoint{span.raw_offset, span.blob_offset, ztoc.CheckpointState(number)};
    if (const auto added = writer_.AddCheckpoint(checkpoint); !added) return added.error();
  }
  return {};
}

Status ForeignBuilder::AddAt(const TarEntry& entry, uint64_t payload_offset) {
  const auto place = Place(entry);
  if (!place.has_value()) return WithinEntry(entry, place.error());
  if (!*place) return {};
  return WithinEntry(entry, PlaceSegment({**place, payload_offset, entry.size}));
}

// Its chunks end where the open one is full.
Status ForeignBuilder::PlaceSegment(const Segment& segment) {
  RETURN_IF_ERROR(writer_.AddSegment(segment));
  for (uint64_t done = 0; done < segment.length;) {
    const uint64_t flat = segment.flat_offset + done;
    const uint64_t take = std::min(segment.length - done, chunks_.Room(flat));
    RETURN_IF_ERROR(chunks_.Data(flat, take, segment.raw_offset + done));
    done += take;
  }
  return {};
}

Status ForeignBuilder::CompleteChunk(ChunkRecord* chunk) const {
  if (spans_.empty()) {  // pieces tell it
    chunk->raw_begin = chunk->raw_end = 0;
    return {};
  }
  const auto by_raw = [](uint64_t raw, const ZtocSpan& span) { return raw < span.raw_offset; };
  const auto first = std::upper_bound(spans_.begin(), spans_.end(), chunk->raw_begin, by_raw);
  const auto last = std::upper_bound(spans_.begin(), spans_.end(), chunk->raw_end - 1, by_raw);
  if (first == spans_.begin())
    return Error{Code::kInvalid, "the zTOC's first span begins behind data of the tar"};
  chunk->checkpoint = static_cast<uint32_t>(first - spans_.begin() - 1);
  chunk->blob_end = std::prev(last)->blob_end;
  return {};
}

Result<AtomicFile> ForeignBuilder::Write(LayerFacts facts, const std::string& origin) {
  RETURN_IF_ERROR(chunks_.Finish(flat_end_));
  RETURN_IF_ERROR(tree_.Emit());
  facts.flat_size = flat_end_;
  return writer_.Write(facts, origin, warnings_);
}

}  // namespace lamina
