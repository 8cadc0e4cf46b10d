#include "index/raw_reader.h"

#include <fmt/format.h>

#include <algorithm>

namespace lamina {
namespace {

// Output is decoded in pieces, since a call of the decoder for every small file of a chunk would
// cost more than the copy out of the piece.
constexpr size_t kPieceBytes = 256u << 10;

// ISA-L looks ahead by less than this.
constexpr uint8_t kPadding[16] = {};

}  // namespace

Result<RawReader> RawReader::Open(const LayerIndex& index, const ChunkRecord& last,
                                  BlobSource& blob, const Deadline& deadline,
                                  WindowBudget* windows) {
  ASSIGN_OR_RETURN(const CheckpointView checkpoint, index.CheckpointAt(last.checkpoint));
  if (checkpoint.blob_offset > last.blob_end || last.blob_end > blob.size() ||
      checkpoint.raw_offset > last.raw_end) {
    return Error{Code::kCorrupt, fmt::format("the index names bytes {} to {} of a blob of {}",
                                             checkpoint.blob_offset, last.blob_end, blob.size())};
  }
  const uint64_t begin = checkpoint.blob_offset + checkpoint.lead.size();
  ASSIGN_OR_RETURN(VerifiedRange range, VerifiedRange::Open(index, begin, last.blob_end));
  RawReader reader(std::move(range), blob, deadline);
  WindowAccount account{
      .budget = windows, .owner = OwnerOf(blob.origin()), .deadline = reader.deadline_};
  const Compression compression = index.facts().compression;
  ASSIGN_OR_RETURN(auto decoder,
                   StreamDecoder::Resume(compression, checkpoint.raw_offset, checkpoint.blob_offset,
                                         checkpoint.state, std::move(account)));
  RETURN_IF_ERROR(index.Intact());
  reader.decoder_ = std::move(decoder);
  reader.lead_.assign(checkpoint.lead.begin(), checkpoint.lead.end());
  reader.input_ = reader.lead_;
  reader.raw_end_ = last.raw_end;
  reader.may_pad_ = compression == Compression::kGzip;
  return reader;
}

void RawReader::Resume(const LayerIndex& index, const ChunkRecord& last, BlobSource& blob,
                       const Deadline& deadline) {
  range_.Continue(index, last.blob_end);
  raw_end_ = last.raw_end;
  blob_ = &blob;
  *deadline_ = deadline;
}

Status RawReader::CheckDeadline() const {
  if (!deadline_->passed()) return {};
  return Error{Code::kTimeout, fmt::format("decoding came to byte {} of the raw stream in time",
                                           decoder_->raw_offset())};
}

Status RawReader::Read(uint64_t raw_offset, MutableByteSpan out) {
  if (raw_offset < raw_position())
    return Error{Code::kCorrupt,
                 fmt::format("the index goes back to byte {} of the raw stream", raw_offset)};
  while (!out.empty()) {
    if (piece_.empty()) RETURN_IF_ERROR(FillPiece());
    const uint64_t ahead = raw_offset - raw_position();
    if (ahead >= piece_.size()) {
      piece_ = {};
      RETURN_IF_ERROR(CheckDeadline());
      continue;
    }
    const ByteSpan rest = piece_.subspan(ahead);
    const size_t count = std::min(rest.size(), out.size());
    std::copy_n(rest.begin(), count, out.begin());
    piece_ = rest.subspan(count);
    out = out.subspan(count);
    raw_offset += count;
  }
  return {};
}

// Never decodes past raw_end_, so a layer's index decides how much work a chunk can be.
Status RawReader::FillPiece() {
  piece_storage_.resize(kPieceBytes);
  const uint64_t left = raw_end_ - std::min(raw_end_, decoder_->raw_offset());
  const MutableByteSpan target =
      MutableByteSpan(piece_storage_).first(std::min<uint64_t>(left, kPieceBytes));
  if (target.empty())
    return Error{Code::kCorrupt,
                 fmt::format("the index wants bytes beyond {} of the raw stream", raw_end_)};
  for (int fetches = 0;; ++fetches) {
    const Result<size_t> count = decoder_->Decode(&input_, target);
    usable_ = count.has_value();
    if (!count) return count.error();
    piece_ = target.first(*count);
    if (*count > 0) return {};
    // Input that decodes to nothing may be as long as the blob.
    if (fetches > 0) RETURN_IF_ERROR(CheckDeadline());
    RETURN_IF_ERROR(Fetch());
  }
}

// Called when the decoder has used up its input. ISA-L may take two or three literals by one
// look-up, and a different grouping of the same bits than in the indexing pass can make it wait for
// bits of a symbol that is not wanted. So zeros follow the range, once: what they become lies past
// raw_end_.
Status RawReader::Fetch() {
  ASSIGN_OR_RETURN(input_, range_.Next(*blob_, *deadline_));
  if (!input_.empty()) return {};
  if (!may_pad_)
    return Error{Code::kCorrupt,
                 fmt::format("the range of the blob gives {} bytes of the raw stream, not {}",
                             decoder_->raw_offset(), raw_end_)};
  may_pad_ = false;
  input_ = kPadding;
  return {};
}

}  // namespace lamina
