#include "index/zstd_decoder.h"

// ZSTD_createDCtx_advanced() alone: the memory of a decoder is accounted for by its allocator.
#define ZSTD_STATIC_LINKING_ONLY
#include <fmt/format.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "base/text.h"
#include "index/decoder_position.h"

namespace lamina {
namespace {

constexpr int kWindowLogMax = 27;  // 128 MiB
constexpr size_t kMagicSize = 4;

// What a window of 8 MiB takes with libzstd's margin, and less, is not on any account.
constexpr size_t kFreeOfAccount = 9u << 20;
// In front of what is allocated stands its size.
constexpr size_t kSizeBytes = alignof(std::max_align_t);

bool IsFrameMagic(uint32_t magic) {
  return magic == ZSTD_MAGICNUMBER ||
         (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

// RFC 8878, 3.1.1.1: what a frame asks of its decoder, which is its content size where it is a
// single segment.
uint64_t WindowSize(ByteSpan head) {
  if (head.size() < 6) return 0;
  const uint8_t descriptor = head[4];
  if (!(descriptor & 0x20)) {
    const uint64_t base = uint64_t{1} << (10 + (head[5] >> 3));
    return base + base / 8 * (head[5] & 7);
  }
  constexpr size_t kDictionaryIdSize[] = {0, 1, 2, 4};
  const size_t at = 5 + kDictionaryIdSize[descriptor & 3];
  const size_t size = size_t{1} << (descriptor >> 6);
  if (at + size > head.size()) return 0;
  uint64_t value = 0;
  std::copy_n(head.begin() + static_cast<ptrdiff_t>(at), size, reinterpret_cast<uint8_t*>(&value));
  return value;
}

}  // namespace

void ZstdDecoder::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

ZstdDecoder::ZstdDecoder(uint64_t raw_offset, uint64_t blob_offset, WindowAccount account)
    : account_(std::move(account)),
      context_(ZSTD_createDCtx_advanced({Allocate, Release, this})),
      frame_raw_(raw_offset),
      frame_blob_(blob_offset) {
  raw_offset_ = raw_offset;
  blob_offset_ = blob_offset;
  if (!context_ ||
      ZSTD_isError(ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kWindowLogMax)))
    failure_ = Error{Code::kInternal, "no zstd decoder could be made"};
}

ZstdDecoder::~ZstdDecoder() = default;

// libzstd frees a window before it asks for a larger one, so nobody waits while holding one.
void* ZstdDecoder::Allocate(void* self, size_t size) {
  auto& decoder = *static_cast<ZstdDecoder*>(self);
  const WindowAccount& account = decoder.account_;
  const bool accounted = account.budget != nullptr && size > kFreeOfAccount;
  if (accounted &&
      !account.budget->Acquire(account.owner, size, account.deadline.get(), account.cancel)) {
    decoder.refused_ = true;
    return nullptr;
  }
  auto* block = static_cast<uint8_t*>(std::malloc(kSizeBytes + size));
  if (block == nullptr) {
    if (accounted) account.budget->Release(account.owner, size);
    return nullptr;
  }
  StoreLe<uint64_t>(block, size);
  return block + kSizeBytes;
}

void ZstdDecoder::Release(void* self, void* address) {
  if (address == nullptr) return;
  const WindowAccount& account = static_cast<ZstdDecoder*>(self)->account_;
  uint8_t* block = static_cast<uint8_t*>(address) - kSizeBytes;
  const auto size = LoadLe<uint64_t>(block);
  std::free(block);
  if (account.budget != nullptr && size > kFreeOfAccount)
    account.budget->Release(account.owner, size);
}

Result<size_t> ZstdDecoder::Decode(ByteSpan* input, MutableByteSpan out) {
  const size_t wanted = out.size();
  while (!failure_ && !out.empty() && (!input->empty() || output_waits_)) {
    if (Status status = Step(input, &out); !status) failure_ = std::move(status).error();
  }
  if (failure_ && out.size() == wanted) return *failure_;
  return wanted - out.size();
}

// The magic number is looked at before libzstd, which would read formats of before 2016 as well.
Status ZstdDecoder::Step(ByteSpan* input, MutableByteSpan* out) {
  if (head_size_ >= kMagicSize) return Run(input, out);
  RETURN_IF_ERROR(TakeHead(input));
  if (head_size_ < kMagicSize) return {};
  ByteSpan magic(head_.data(), kMagicSize);
  blob_offset_ -= kMagicSize;
  RETURN_IF_ERROR(Run(&magic, out));
  if (!magic.empty()) return Error{Code::kInternal, "libzstd did not take a magic number"};
  return {};
}

Status ZstdDecoder::TakeHead(ByteSpan* input) {
  const size_t count = std::min(kMagicSize - head_size_, input->size());
  std::copy_n(input->begin(), count, head_.begin() + static_cast<ptrdiff_t>(head_size_));
  head_size_ += count;
  blob_offset_ += count;
  *input = input->subspan(count);
  if (head_size_ == kMagicSize && !IsFrameMagic(LoadLe<uint32_t>(head_.data()))) {
    return Error{Code::kCorrupt,
                 fmt::format("the zstd stream has no frame at byte {}", blob_offset_ - kMagicSize)};
  }
  return {};
}

// One call of libzstd, which stops at the end of a frame.
Status ZstdDecoder::Run(ByteSpan* input, MutableByteSpan* out) {
  if (blob_offset_ != frame_blob_) {  // for messages
    const size_t count = std::min(head_.size() - head_size_, input->size());
    std::copy_n(input->begin(), count, head_.begin() + static_cast<ptrdiff_t>(head_size_));
  }
  ZSTD_inBuffer from{input->data(), input->size(), 0};
  ZSTD_outBuffer to{out->data(), out->size(), 0};
  const size_t code = ZSTD_decompressStream(context_.get(), &to, &from);
  if (blob_offset_ != frame_blob_) head_size_ = std::min(head_.size(), head_size_ + from.pos);
  blob_offset_ += from.pos;
  raw_offset_ += to.pos;
  const bool stuck = from.pos == 0 && to.pos == 0 && !input->empty();
  *input = input->subspan(from.pos);
  *out = out->subspan(to.pos);
  output_waits_ = out->empty();
  if (ZSTD_isError(code)) return Fault(code);
  if (code == 0) {
    head_size_ = 0;
    output_waits_ = false;
    frame_raw_ = raw_offset_;
    frame_blob_ = blob_offset_;
  } else if (stuck) {
    return Error{Code::kCorrupt, "the zstd stream does not advance"};
  }
  return {};
}

Error ZstdDecoder::Fault(size_t code) const {
  switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_frameParameter_windowTooLarge:
      return Error{Code::kLimit,
                   fmt::format("the zstd frame at byte {} needs a window of {}, the limit is {}",
                               frame_blob_, HumanSize(WindowSize(head_)),
                               HumanSize(uint64_t{1} << kWindowLogMax))};
    case ZSTD_error_dictionary_wrong:
      return Error{Code::kUnsupported,
                   fmt::format("the zstd frame at byte {} needs a dictionary", frame_blob_)};
    case ZSTD_error_memory_allocation:
      if (refused_)
        return Error{Code::kTimeout,
                     fmt::format("the zstd frame at byte {} needs a window of {}, and others hold "
                                 "the memory for large windows",
                                 frame_blob_, HumanSize(WindowSize(head_)))};
      return Error{Code::kInternal, "there is no memory for a zstd window"};
    default:
      return Error{Code::kCorrupt, fmt::format("the zstd frame at byte {} is damaged: {}",
                                               frame_blob_, ZSTD_getErrorName(code))};
  }
}

Status ZstdDecoder::Finish() {
  if (output_waits_ && !failure_) {
    ByteSpan nothing;
    uint8_t surplus = 0;
    if (Result<size_t> more = Decode(&nothing, {&surplus, 1}); more && *more > 0)
      return Error{Code::kInternal, "a zstd stream was ended before all of its output was taken"};
  }
  if (failure_) return *failure_;
  if (head_size_ != 0 || blob_offset_ == 0)
    return Error{Code::kCorrupt,
                 fmt::format("the zstd stream is truncated after {} bytes", blob_offset_)};
  return {};
}

std::unique_ptr<DecoderSnapshot> ZstdDecoder::Snapshot() const {
  return std::make_unique<PositionSnapshot>(frame_raw_, frame_blob_);
}

}  // namespace lamina
