#include "index/gzip_decoder.h"

#include <fmt/format.h>

#include <algorithm>

#include "index/decoder_position.h"
#include "index/gzip_state.h"
#include "index/gzip_window.h"

namespace lamina {
namespace {

// ISA-L counts the input and the output of one call in 32 bits.
constexpr size_t kCallLimit = size_t{1} << 30;

constexpr uint64_t kTrailer = 8;  // CRC-32 and length at the end of a member

// The window from which a decoder started, before anything was fed to it.
class WindowSnapshot : public DecoderSnapshot {
 public:
  WindowSnapshot(uint64_t raw_offset, uint64_t blob_offset, std::vector<uint8_t> state)
      : checkpoint_{raw_offset, blob_offset, std::move(state)} {}
  Checkpoint Encode() const override { return checkpoint_; }

 private:
  Checkpoint checkpoint_;
};

class GzipSnapshot : public DecoderSnapshot {
 public:
  GzipSnapshot(uint64_t raw_offset, uint64_t blob_offset, const inflate_state& state)
      : raw_offset_(raw_offset),
        blob_offset_(blob_offset),
        state_(std::make_unique<inflate_state>(state)) {}
  Checkpoint Encode() const override {
    return {raw_offset_, blob_offset_, EncodeGzipState(*state_)};
  }

 private:
  uint64_t raw_offset_;
  uint64_t blob_offset_;
  std::unique_ptr<const inflate_state> state_;
};

const char* InflateFault(int code) {
  switch (code) {
    case ISAL_INVALID_BLOCK:
      return "an invalid block";
    case ISAL_INVALID_SYMBOL:
      return "an invalid code";
    case ISAL_INVALID_LOOKBACK:
      return "a reference to bytes before the start";
    case ISAL_INCORRECT_CHECKSUM:
      return "a wrong checksum or length at the end of a member";
    default:
      return "an unknown fault";
  }
}

Error Truncated(uint64_t blob_offset) {
  return Error{Code::kCorrupt,
               fmt::format("the gzip stream is truncated after {} bytes", blob_offset)};
}

}  // namespace

GzipDecoder::GzipDecoder(uint64_t raw_offset, uint64_t blob_offset) : member_offset_(blob_offset) {
  raw_offset_ = raw_offset;
  blob_offset_ = blob_offset;
}

Result<std::unique_ptr<StreamDecoder>> GzipDecoder::Resume(uint64_t raw_offset,
                                                           uint64_t blob_offset, ByteSpan state) {
  auto decoder = std::make_unique<GzipDecoder>(raw_offset, blob_offset);
  if (IsGzipWindow(state)) {
    RETURN_IF_ERROR(decoder->StartFromWindow(state));
  } else if (!state.empty()) {
    ASSIGN_OR_RETURN(decoder->state_, DecodeGzipState(state));
    decoder->phase_ = Phase::kBody;
  }
  return std::unique_ptr<StreamDecoder>(std::move(decoder));
}

Status GzipDecoder::StartFromWindow(ByteSpan state) {
  ASSIGN_OR_RETURN(GzipWindow window, DecodeGzipWindow(state));
  state_ = std::make_unique<inflate_state>();
  isal_inflate_init(state_.get());
  state_->crc_flag = ISAL_DEFLATE;
  const auto size = static_cast<uint32_t>(window.history.size());
  if (size > 0 &&
      isal_inflate_set_dict(state_.get(), window.history.data(), size) != ISAL_DECOMP_OK)
    return Error{Code::kInternal, "ISA-L does not take the window of a gzip checkpoint"};
  skipped_bits_ = window.skipped_bits;
  first_state_.assign(state.begin(), state.end());
  phase_ = Phase::kBody;
  return {};
}

// The first byte after a window: its low bits may belong to what lies before.
void GzipDecoder::TakeFirstBits(ByteSpan* input) {
  if (first_state_.empty() || input->empty()) return;
  if (skipped_bits_ > 0) {
    state_->read_in = input->front() >> skipped_bits_;
    state_->read_in_length = static_cast<int32_t>(8 - skipped_bits_);
    *input = input->subspan(1);
  }
  first_state_ = {};
}

Result<size_t> GzipDecoder::Decode(ByteSpan* input, MutableByteSpan out) {
  size_t written = 0;
  while (!failure_ && written < out.size()) {
    // Without input only the body may still have bytes to give, those that ISA-L decoded ahead.
    if (input->empty() && phase_ != Phase::kBody) return written;
    const size_t before = input->size();
    Result<size_t> step = size_t{0};
    if (phase_ == Phase::kBody) {
      TakeFirstBits(input);
      step = Inflate(input, out.subspan(written));
    } else if (phase_ == Phase::kTrailer) {
      SkipTrailer(input);
    } else if (Status status = ReadHeader(input); !status) {
      step = std::move(status).error();
    }
    blob_offset_ += before - input->size();
    if (!step) {
      failure_ = std::move(step).error();
      break;
    }
    written += *step;
    if (phase_ == Phase::kTrailer) member_offset_ = blob_offset_ + trailer_left_;
    if (phase_ == Phase::kHeader && header_.consumed() == 0) member_offset_ = blob_offset_;
    if (input->empty() && written < out.size()) return written;
  }
  if (failure_ && written == 0) return *failure_;
  return written;
}

Status GzipDecoder::ReadHeader(ByteSpan* input) {
  if (phase_ == Phase::kGarbage) {
    *input = input->subspan(input->size());
    return {};
  }
  ASSIGN_OR_RETURN(const GzipHeaderParser::Outcome outcome, header_.Feed(input));
  if (outcome == GzipHeaderParser::Outcome::kDone) StartMember();
  if (outcome == GzipHeaderParser::Outcome::kNotGzip) {
    if (member_offset_ == 0)
      return Error{Code::kCorrupt, "the blob does not start with a gzip header"};
    trailing_garbage_ = true;
    phase_ = Phase::kGarbage;
    *input = input->subspan(input->size());
  }
  return {};
}

void GzipDecoder::StartMember() {
  if (!state_) {
    state_ = std::make_unique<inflate_state>();
    isal_inflate_init(state_.get());
  } else {
    isal_inflate_reset(state_.get());
  }
  state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
  header_ = {};
  phase_ = Phase::kBody;
}

// Without a checksum to check ISA-L stops behind the last block, with the bytes that it read ahead
// in its bit buffer; they are the first of the trailer, which is no shorter than that buffer.
void GzipDecoder::EndMember() {
  phase_ = Phase::kHeader;
  if (state_->crc_flag != ISAL_DEFLATE) return;
  const auto ahead = static_cast<uint64_t>(state_->read_in_length / 8);
  trailer_left_ = kTrailer - std::min(ahead, kTrailer);
  if (trailer_left_ > 0) phase_ = Phase::kTrailer;
}

void GzipDecoder::SkipTrailer(ByteSpan* input) {
  const uint64_t count = std::min<uint64_t>(trailer_left_, input->size());
  *input = input->subspan(count);
  trailer_left_ -= count;
  if (trailer_left_ == 0) phase_ = Phase::kHeader;
}

// One call of ISA-L. total_out is 32 bits wide and wraps as the length in the trailer does, so
// members above 4 GiB are checked as well.
Result<size_t> GzipDecoder::Inflate(ByteSpan* input, MutableByteSpan out) {
  static constexpr uint8_t kNothing = 0;  // ISA-L wants a pointer even to no bytes
  const uint8_t* from = input->empty() ? &kNothing : input->data();
  state_->next_in = const_cast<uint8_t*>(from);
  state_->avail_in = static_cast<uint32_t>(std::min(input->size(), kCallLimit));
  state_->next_out = out.data();
  state_->avail_out = static_cast<uint32_t>(std::min(out.size(), kCallLimit));
  const int code = isal_inflate(state_.get());
  *input = input->subspan(static_cast<size_t>(state_->next_in - from));
  const size_t written = static_cast<size_t>(state_->next_out - out.data());
  raw_offset_ += written;
  if (code < 0) {
    failure_ =
        Error{Code::kCorrupt, fmt::format("the gzip stream has {} (at byte {} of the output)",
                                          InflateFault(code), raw_offset_)};
  } else if (state_->block_state == ISAL_BLOCK_FINISH) {
    EndMember();
  } else if (written == 0 && state_->next_in == from && !input->empty()) {
    failure_ =
        Error{Code::kCorrupt, "the gzip stream does not advance"};  // a forged state; never a loop
  }
  return written;
}

// The end of the last member may be in ISA-L's bit buffer still, when its output ended with the
// caller's buffer.
Status GzipDecoder::Finish() {
  if (phase_ == Phase::kBody && !failure_) {
    ByteSpan nothing;
    uint8_t surplus = 0;
    if (Result<size_t> more = Decode(&nothing, {&surplus, 1}); more && *more > 0)
      return Error{Code::kInternal, "a gzip stream was ended before all of its output was taken"};
  }
  if (failure_) return *failure_;
  if (phase_ == Phase::kGarbage) return {};
  if (phase_ == Phase::kBody || phase_ == Phase::kTrailer || member_offset_ == 0 ||
      header_.recognised())
    return Truncated(blob_offset_);
  if (header_.consumed() > 0) trailing_garbage_ = true;  // "1f" or "1f 8b" alone is no member
  return {};
}

// Headers, trailers that are skipped and garbage give no output, so the start of the first and of
// the last and the end of the second are as good a place as any inside them.
std::unique_ptr<DecoderSnapshot> GzipDecoder::Snapshot() const {
  if (!first_state_.empty())
    return std::make_unique<WindowSnapshot>(raw_offset_, blob_offset_, first_state_);
  if (phase_ == Phase::kBody)
    return std::make_unique<GzipSnapshot>(raw_offset_, blob_offset_, *state_);
  return std::make_unique<PositionSnapshot>(raw_offset_, member_offset_);
}

}  // namespace lamina
