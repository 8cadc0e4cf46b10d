#include "index/gzip_header.h"

#include <fmt/format.h>
#include <isa-l/crc.h>

#include <algorithm>

namespace lamina {
namespace {

constexpr uint8_t kMagic[] = {0x1f, 0x8b, 8};  // 8: deflate, the only method there is
constexpr uint8_t kHasChecksum = 0x02;
constexpr uint8_t kHasExtra = 0x04;
constexpr uint8_t kHasName = 0x08;
constexpr uint8_t kHasComment = 0x10;
constexpr uint8_t kReserved = 0xe0;

}  // namespace

Result<GzipHeaderParser::Outcome> GzipHeaderParser::Feed(ByteSpan* input) {
  while (field_ != Field::kDone) {
    if (field_ == Field::kName || field_ == Field::kComment) {
      TakeText(input);
    } else {
      Take(input, std::min<size_t>(wanted_, input->size()));
    }
    if (field_ == Field::kFixed && !std::equal(hold_, hold_ + std::min(held_, 3u), kMagic))
      return Outcome::kNotGzip;
    if (wanted_ > 0) return Outcome::kMore;
    RETURN_IF_ERROR(CompleteField());
  }
  return Outcome::kDone;
}

// Only the first bytes of a field are kept: no field that is longer has a meaning for decoding.
void GzipHeaderParser::Take(ByteSpan* input, size_t count) {
  const ByteSpan bytes = input->first(count);
  if (field_ != Field::kChecksum) crc_ = crc32_gzip_refl(crc_, bytes.data(), bytes.size());
  const size_t kept = std::min(count, sizeof hold_ - held_);
  std::copy_n(bytes.begin(), kept, hold_ + held_);
  held_ += static_cast<uint32_t>(kept);
  wanted_ -= std::min<uint32_t>(wanted_, static_cast<uint32_t>(count));
  consumed_ += count;
  *input = input->subspan(count);
}

// A text ends with a NUL and may have any length; wanted_ stays 1 until it has been seen.
void GzipHeaderParser::TakeText(ByteSpan* input) {
  const auto nul = std::find(input->begin(), input->end(), uint8_t{0});
  const bool ended = nul != input->end();
  const size_t count = static_cast<size_t>(nul - input->begin()) + (ended ? 1 : 0);
  wanted_ = 0;
  Take(input, count);
  wanted_ = ended ? 0 : 1;
}

void GzipHeaderParser::Enter(Field field, uint32_t bytes) {
  field_ = field;
  wanted_ = bytes;
  held_ = 0;
}

// The optional fields come in the order of the enumeration.
void GzipHeaderParser::NextField() {
  if (field_ < Field::kExtraLength && (flags_ & kHasExtra)) return Enter(Field::kExtraLength, 2);
  if (field_ < Field::kName && (flags_ & kHasName)) return Enter(Field::kName, 1);
  if (field_ < Field::kComment && (flags_ & kHasComment)) return Enter(Field::kComment, 1);
  if (field_ < Field::kChecksum && (flags_ & kHasChecksum)) return Enter(Field::kChecksum, 2);
  Enter(Field::kDone, 0);
}

Status GzipHeaderParser::CompleteField() {
  if (field_ == Field::kExtraLength) {
    Enter(Field::kExtra, LoadLe<uint16_t>(hold_));
    return {};
  }
  if (field_ == Field::kFixed) RETURN_IF_ERROR(CompleteFixed());
  if (field_ == Field::kChecksum && LoadLe<uint16_t>(hold_) != (crc_ & 0xffff))
    return Error{Code::kCorrupt, "the checksum of a gzip header does not fit"};
  NextField();
  return {};
}

Status GzipHeaderParser::CompleteFixed() {
  flags_ = hold_[3];
  if (flags_ & kReserved)
    return Error{Code::kCorrupt,
                 fmt::format("a gzip header has reserved flags set (0x{:02x})", flags_)};
  return {};
}

}  // namespace lamina
