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

Result<RawReader> RawReader::Open(Compression compression, const CheckpointView& checkpoint,
                                  uint64_t blob_end, uint64_t raw_end, BlobSource& blob,
                                  const Deadline& deadline, WindowBudget* windows) {
  if (checkpoint.blob_offset > blob_end || blob_end > blob.size() ||
      checkpoint.raw_offset > raw_end) {
    return Error{Code::kCorrupt, fmt::format("the index names bytes {} to {} of a blob of {}",
                                             checkpoint.blob_offset, blob_end, blob.size())};
  }
  RawReader reader(blob, deadline);
  WindowAccount account{
      .budget = windows, .owner = OwnerOf(blob.origin()), .deadline = reader.deadline_};
  ASSIGN_OR_RETURN(auto decoder,
                   StreamDecoder::Resume(compression, checkpoint.raw_offset, checkpoint.blob_offset,
                                         checkpoint.state, std::move(account)));
  reader.decoder_ = std::move(decoder);
  reader.fetched_ = checkpoint.blob_offset;
  reader.blob_end_ = blob_end;
  reader.raw_end_ = raw_end;
  reader.may_pad_ = compression == Compression::kGzip;
  return reader;
}

void RawReader::Resume(uint64_t blob_end, uint64_t raw_end, BlobSource& blob,
                       const Deadline& deadline) {
  blob_end_ = std::max(blob_end, fetched_);
  raw_end_ = raw_end;
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
// raw_end_, and the chunk's digest is checked.
Status RawReader::Fetch() {
  if (fetched_ == blob_end_) {
    if (!may_pad_) {
      return Error{Code::kCorrupt,
                   fmt::format("the blob's bytes up to {} give {} bytes of the raw stream, not {}",
                               blob_end_, decoder_->raw_offset(), raw_end_)};
    }
    may_pad_ = false;
    input_ = kPadding;
    return {};
  }
  const uint64_t left = blob_end_ - fetched_;
  input_storage_.resize(left <= kOneFetch && input_storage_.empty() ? left
                                                                    : std::min(left, kFetchStep));
  RETURN_IF_ERROR(blob_->ReadAt(fetched_, input_storage_, *deadline_));
  fetched_ += input_storage_.size();
  input_ = input_storage_;
  return {};
}

}  // namespace lamina
