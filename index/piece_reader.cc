#include "index/piece_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "index/compression.h"
#include "index/verified_range.h"

namespace lamina {
namespace {

// Pieces with less than this between them are fetched together.
constexpr uint64_t kMostBetween = 64u << 10;
constexpr size_t kScratchBytes = 128u << 10;
// What a codec may add to bytes that it cannot pack, and a header or two.
constexpr uint64_t kMostAdded = 256u << 10;

// What of the blob can be needed for a piece: its TOC may claim any range.
uint64_t NeededEnd(const FlatPiece& piece) {
  const uint64_t decoded = piece.inner_offset + piece.length;
  return std::min(piece.blob_end, piece.blob_offset + decoded + decoded / 256 + kMostAdded);
}

// One chunk on its way from the blob, a run of neighbouring pieces after another.
class PieceWork {
 public:
  PieceWork(const LayerIndex& index, const ChunkRecord& chunk, BlobSource& blob,
            MutableByteSpan out, const Deadline& deadline, WindowBudget* windows)
      : index_(index),
        chunk_(chunk),
        blob_(blob),
        out_(out),
        deadline_(std::make_shared<Deadline>(deadline)),
        windows_(windows),
        scratch_(kScratchBytes) {}

  Status Run(const std::function<Status(uint64_t)>& reached) {
    std::fill(out_.begin(), out_.end(), uint8_t{0});
    uint64_t number = index_.FirstPieceAfter(chunk_.flat_offset);
    while (IsWanted(number)) {
      ASSIGN_OR_RETURN(const uint64_t end, FetchRun(number));
      for (; number < end; ++number) {
        RETURN_IF_ERROR(Decode(number));
        if (reached) RETURN_IF_ERROR(reached(DoneBefore(number + 1)));
      }
    }
    return {};
  }

 private:
  bool IsWanted(uint64_t number) const {
    const auto piece = index_.PieceAt(number);
    return piece && piece->flat_offset < chunk_.flat_offset + chunk_.flat_length;
  }
  // Once all pieces before this one are decoded: the end of what is there without a gap.
  uint64_t DoneBefore(uint64_t number) const {
    const uint64_t end = chunk_.flat_offset + chunk_.flat_length;
    const auto piece = index_.PieceAt(number);
    return piece ? std::min(piece->flat_offset, end) : end;
  }
  Result<uint64_t> FetchRun(uint64_t first);
  Status Decode(uint64_t number);
  Status Open(const FlatPiece& piece);
  Status Skip(uint64_t count);
  Status Take(const FlatPiece& piece);
  Result<size_t> Fill(MutableByteSpan to);
  void Place(uint64_t flat_offset, ByteSpan bytes);

  const LayerIndex& index_;
  const ChunkRecord& chunk_;
  BlobSource& blob_;
  const MutableByteSpan out_;
  const std::shared_ptr<Deadline> deadline_;
  WindowBudget* const windows_;

  uint64_t run_begin_ = 0;  // in the blob
  std::vector<uint8_t> run_;
  std::unique_ptr<StreamDecoder> decoder_;  // of the last piece
  uint64_t decoder_begin_ = 0;              // the blob offset that it started at
  uint64_t decoded_ = 0;                    // bytes that it has given
  ByteSpan input_;
  std::vector<uint8_t> scratch_;
};

// The number behind the last piece whose range has come.
Result<uint64_t> PieceWork::FetchRun(uint64_t first) {
  ASSIGN_OR_RETURN(FlatPiece piece, index_.PieceAt(first));
  run_begin_ = piece.blob_offset;
  uint64_t end = NeededEnd(piece);
  uint64_t number = first + 1;
  for (; IsWanted(number); ++number) {
    ASSIGN_OR_RETURN(piece, index_.PieceAt(number));
    if (piece.blob_offset < run_begin_ || piece.blob_offset > end + kMostBetween) break;
    if (NeededEnd(piece) - run_begin_ > kOneFetch) break;
    end = std::max(end, NeededEnd(piece));
  }
  if (end > blob_.size() || end <= run_begin_)
    return Error{Code::kCorrupt, fmt::format("the index names bytes {} to {} of a blob of {}",
                                             run_begin_, end, blob_.size())};
  run_.resize(end - run_begin_);
  decoder_.reset();
  RETURN_IF_ERROR(blob_.ReadAt(run_begin_, run_, *deadline_));
  return number;
}

Status PieceWork::Decode(uint64_t number) {
  ASSIGN_OR_RETURN(const FlatPiece piece, index_.PieceAt(number));
  Status done = Open(piece);
  if (done) done = Skip(piece.inner_offset - decoded_);
  if (done) done = Take(piece);
  if (done) return done;
  return done.error().Within(fmt::format("the piece at byte {} of the blob", piece.blob_offset));
}

// Several small files may share a gzip member.
Status PieceWork::Open(const FlatPiece& piece) {
  if (decoder_ != nullptr && decoder_begin_ == piece.blob_offset && decoded_ <= piece.inner_offset)
    return {};
  WindowAccount account{
      .budget = windows_, .owner = OwnerOf(blob_.origin()), .deadline = deadline_};
  ASSIGN_OR_RETURN(decoder_, StreamDecoder::Resume(index_.facts().compression, 0, piece.blob_offset,
                                                   {}, std::move(account)));
  decoder_begin_ = piece.blob_offset;
  decoded_ = 0;
  input_ = ByteSpan(run_).subspan(piece.blob_offset - run_begin_);
  return {};
}

Status PieceWork::Skip(uint64_t count) {
  while (count > 0) {
    const MutableByteSpan to =
        MutableByteSpan(scratch_).first(std::min<uint64_t>(count, kScratchBytes));
    ASSIGN_OR_RETURN(const size_t got, Fill(to));
    count -= got;
  }
  return {};
}

Status PieceWork::Take(const FlatPiece& piece) {
  Hasher hasher;
  for (uint64_t done = 0; done < piece.length;) {
    const uint64_t left = piece.length - done;
    const MutableByteSpan to =
        MutableByteSpan(scratch_).first(std::min<uint64_t>(left, kScratchBytes));
    ASSIGN_OR_RETURN(const size_t got, Fill(to));
    hasher.Update(to.first(got));
    Place(piece.flat_offset + done, to.first(got));
    done += got;
  }
  if (std::ranges::equal(hasher.Finish().bytes(), piece.sha256)) return {};
  return Error{Code::kCorrupt, "it does not have the digest that the TOC gives it"};
}

Result<size_t> PieceWork::Fill(MutableByteSpan to) {
  if (deadline_->passed())
    return Error{Code::kTimeout, fmt::format("{} bytes of it were decoded in time", decoded_)};
  ASSIGN_OR_RETURN(const size_t got, decoder_->Decode(&input_, to));
  if (got == 0)
    return Error{Code::kCorrupt, fmt::format("it ends after {} decoded bytes", decoded_)};
  decoded_ += got;
  return got;
}

// What of it lies in the chunk.
void PieceWork::Place(uint64_t flat_offset, ByteSpan bytes) {
  const uint64_t begin = std::max(flat_offset, chunk_.flat_offset);
  const uint64_t end =
      std::min(flat_offset + bytes.size(), chunk_.flat_offset + chunk_.flat_length);
  if (begin >= end) return;
  std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(begin - flat_offset), end - begin,
              out_.begin() + static_cast<ptrdiff_t>(begin - chunk_.flat_offset));
}

}  // namespace

Status DecodePieces(const LayerIndex& index, const ChunkRecord& chunk, BlobSource& blob,
                    MutableByteSpan out, const Deadline& deadline, WindowBudget* windows,
                    const std::function<Status(uint64_t)>& reached) {
  return PieceWork(index, chunk, blob, out, deadline, windows).Run(reached);
}

}  // namespace lamina
