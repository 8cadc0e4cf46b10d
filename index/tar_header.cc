#include "index/tar_header.h"

#include <algorithm>
#include <limits>

#include "base/text.h"

namespace lamina {
namespace {

struct Field {
  size_t offset;
  size_t length;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12},
    kMtime{136, 12}, kChecksum{148, 8}, kType{156, 1}, kLinkName{157, 100}, kMagic{257, 6},
    kVersion{263, 2}, kDeviceMajor{329, 8}, kDeviceMinor{337, 8}, kUstarPrefix{345, 155},
    kStarPrefix{345, 131}, kStarTrailer{508, 4}, kGnuAtime{345, 12}, kGnuCtime{357, 12};

ByteSpan Get(ByteSpan block, Field field) { return block.subspan(field.offset, field.length); }

bool IsPadding(uint8_t c) { return c == ' ' || c == 0; }

TarNumber ParseBase256(ByteSpan field) {
  const bool negative = (field[0] & 0x40) != 0;
  const uint8_t invert = negative ? 0xFF : 0;
  uint64_t magnitude = 0;
  bool overflow = false;
  for (size_t i = 0; i < field.size(); ++i) {
    uint8_t c = field[i] ^ invert;
    if (i == 0) c &= 0x7F;
    if (magnitude >> 56 != 0) overflow = true;
    magnitude = magnitude << 8 | c;
  }
  if (overflow || magnitude >> 63 != 0)
    return {true, true,
            negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max()};
  const auto value = static_cast<int64_t>(magnitude);
  return {true, false, negative ? ~value : value};
}

TarNumber ParseOctal(ByteSpan field) {
  while (!field.empty() && IsPadding(field.front())) field = field.subspan(1);
  while (!field.empty() && IsPadding(field.back())) field = field.first(field.size() - 1);
  uint64_t value = 0;
  for (const char c : TarString(field)) {
    if (c < '0' || c > '7' || value >> 60 != 0) return {};
    value = value << 3 | static_cast<uint64_t>(c - '0');
  }
  return {true, false, static_cast<int64_t>(value)};
}

// Old tars summed signed characters.
bool ChecksumFits(ByteSpan block) {
  int64_t plain = 0;
  int64_t as_signed = 0;
  for (size_t i = 0; i < kTarBlock; ++i) {
    const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.length;
    const uint8_t c = own ? uint8_t{' '} : block[i];
    plain += c;
    as_signed += static_cast<int8_t>(c);
  }
  const TarNumber stored = ParseOctal(Get(block, kChecksum));
  return stored.valid && (stored.value == plain || stored.value == as_signed);
}

TarFormat FormatOf(ByteSpan block) {
  using std::string_view_literals::operator""sv;
  const std::string_view magic = AsText(Get(block, kMagic));
  if (magic == "ustar\0"sv)
    return AsText(Get(block, kStarTrailer)) == "tar\0"sv ? TarFormat::kStar : TarFormat::kUstar;
  if (magic == "ustar "sv && AsText(Get(block, kVersion)) == " \0"sv) return TarFormat::kGnu;
  return TarFormat::kV7;
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// GNU headers have no prefix, but Go before 1.8 wrote one over the times: where those are no
// numbers and the field reads as text, it is one.
std::string_view GnuPrefix(ByteSpan block) {
  for (const Field field : {kGnuAtime, kGnuCtime}) {
    const ByteSpan time = Get(block, field);
    const TarNumber number = ParseTarNumber(time);
    if (time[0] == 0 || (number.valid && !number.overflow)) continue;
    const std::string_view prefix = TarString(Get(block, kUstarPrefix));
    return IsAscii(prefix) ? prefix : std::string_view();
  }
  return {};
}

std::string_view Prefix(TarFormat format, ByteSpan block) {
  switch (format) {
    case TarFormat::kUstar:
      return TarString(Get(block, kUstarPrefix));
    case TarFormat::kStar:
      return TarString(Get(block, kStarPrefix));
    case TarFormat::kGnu:
      return GnuPrefix(block);
    case TarFormat::kV7:
      return {};
  }
  return {};
}

struct NumericField {
  const char* name;
  Field field;
  int64_t TarHeader::*member;
  bool clamped;  // beyond 64 bits is clamped, not an error
};
constexpr NumericField kNumericFields[] = {
    {"size", kSize, &TarHeader::size, false},   {"mode", kMode, &TarHeader::mode, false},
    {"uid", kUid, &TarHeader::uid, true},       {"gid", kGid, &TarHeader::gid, true},
    {"mtime", kMtime, &TarHeader::mtime, true},
};
constexpr NumericField kDeviceFields[] = {
    {"device major", kDeviceMajor, &TarHeader::device_major, false},
    {"device minor", kDeviceMinor, &TarHeader::device_minor, false},
};

Status ParseFields(ByteSpan block, std::span<const NumericField> fields, TarHeader* header) {
  for (const NumericField& field : fields) {
    const TarNumber number = ParseTarNumber(Get(block, field.field));
    if (!number.valid || (number.overflow && !field.clamped))
      return Error{Code::kInvalid, std::string("its ") + field.name + " field " +
                                       Quote(AsText(Get(block, field.field))) + " is no number"};
    header->*field.member = number.value;
  }
  return {};
}

}  // namespace

std::string_view TarString(ByteSpan field) {
  const std::string_view text = AsText(field);
  return text.substr(0, text.find('\0'));
}

TarNumber ParseTarNumber(ByteSpan field) {
  return !field.empty() && (field[0] & 0x80) != 0 ? ParseBase256(field) : ParseOctal(field);
}

TarNumber ParseDecimal(std::string_view text) {
  const bool negative = !text.empty() && text[0] == '-';
  if (negative || (!text.empty() && text[0] == '+')) text.remove_prefix(1);
  if (text.empty()) return {};
  TarNumber number{true, false, 0};
  for (const char c : text) {
    if (c < '0' || c > '9') return {};
    const int64_t digit = negative ? '0' - c : c - '0';
    if (number.overflow || __builtin_mul_overflow(number.value, int64_t{10}, &number.value) ||
        __builtin_add_overflow(number.value, digit, &number.value))
      number.overflow = true;
  }
  if (number.overflow)
    number.value =
        negative ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
  return number;
}

Result<TarHeader> ParseTarHeader(ByteSpan block) {
  if (!ChecksumFits(block)) return Error{Code::kInvalid, "its checksum is wrong"};
  TarHeader header;
  header.format = FormatOf(block);
  header.type = static_cast<char>(block[kType.offset]);
  header.name = TarString(Get(block, kName));
  header.link_name = TarString(Get(block, kLinkName));
  RETURN_IF_ERROR(ParseFields(block, kNumericFields, &header));
  if (header.format != TarFormat::kV7) RETURN_IF_ERROR(ParseFields(block, kDeviceFields, &header));
  const std::string_view prefix = Prefix(header.format, block);
  if (!prefix.empty()) header.name = std::string(prefix) + "/" + header.name;
  return header;
}

}  // namespace lamina
