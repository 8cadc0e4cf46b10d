#include "index/tar_pax.h"

#include <limits>

#include "base/text.h"
#include "index/tar_header.h"

namespace lamina {
namespace {

bool HasNul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

bool IsText(std::string_view key) {
  return key == "path" || key == "linkpath" || key == "uname" || key == "gname";
}

Error Malformed(const std::string& what) { return Error{Code::kInvalid, "its PAX header " + what}; }

struct Record {
  std::string_view key;
  std::string_view value;
};

// Takes "LENGTH KEY=VALUE\n" off the front of `*text`.
Result<Record> TakeRecord(std::string_view* text) {
  const size_t space = text->find(' ');
  if (space == std::string_view::npos) return Malformed("has a record without a length");
  const TarNumber length = ParseDecimal(text->substr(0, space));
  if (!length.valid || length.overflow || length.value < 5 ||
      static_cast<uint64_t>(length.value) > text->size() ||
      static_cast<uint64_t>(length.value) <= space + 1)
    return Malformed("has a record with the wrong length " + Quote(text->substr(0, space), 40));
  const std::string_view body =
      text->substr(space + 1, static_cast<size_t>(length.value) - space - 1);
  text->remove_prefix(static_cast<size_t>(length.value));
  if (body.back() != '\n') return Malformed("has a record that does not end where its length says");
  const size_t equals = body.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return Malformed("has a record without a key");
  const Record record{body.substr(0, equals), body.substr(equals + 1, body.size() - equals - 2)};
  if (HasNul(IsText(record.key) ? record.value : record.key))
    return Malformed("has a NUL byte in " + Quote(record.key, 40));
  return record;
}

Status AddSparsePair(const Record& record, PaxHeader* header) {
  const bool offset = record.key == "GNU.sparse.offset";
  if (offset != (header->sparse_pairs.size() % 2 == 0) ||
      record.value.find(',') != std::string_view::npos)
    return Malformed("has GNU.sparse.offset and GNU.sparse.numbytes out of turn");
  header->sparse_pairs.emplace_back(record.value);
  return {};
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

int Base64Digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

// Nine digits of a fraction; nullopt where there is something else in it.
std::optional<uint32_t> ParseFraction(std::string_view digits) {
  uint32_t nanoseconds = 0;
  uint32_t unit = 100'000'000;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    nanoseconds += static_cast<uint32_t>(c - '0') * unit;
    unit /= 10;  // 0 from the tenth digit on: the rest is cut off
  }
  return nanoseconds;
}

}  // namespace

const std::string* PaxHeader::Find(std::string_view key) const {
  const auto found = records.find(key);
  return found == records.end() || found->second.empty() ? nullptr : &found->second;
}

Result<PaxHeader> ParsePax(std::string_view text) {
  PaxHeader header;
  while (!text.empty()) {
    ASSIGN_OR_RETURN(const Record record, TakeRecord(&text));
    if (record.key == "GNU.sparse.offset" || record.key == "GNU.sparse.numbytes")
      RETURN_IF_ERROR(AddSparsePair(record, &header));
    else
      header.records[std::string(record.key)] = record.value;
  }
  return header;
}

std::optional<PaxTime> ParsePaxTime(std::string_view text) {
  const size_t point = text.find('.');
  const TarNumber seconds = ParseDecimal(text.substr(0, point));
  if (!seconds.valid) return std::nullopt;
  if (point == std::string_view::npos) return PaxTime{seconds.value, 0};
  const std::optional<uint32_t> fraction = ParseFraction(text.substr(point + 1));
  if (!fraction.has_value()) return std::nullopt;
  if (seconds.overflow) return PaxTime{seconds.value, 0};
  if (text[0] != '-' || *fraction == 0) return PaxTime{seconds.value, *fraction};
  if (seconds.value == std::numeric_limits<int64_t>::min()) return PaxTime{seconds.value, 0};
  return PaxTime{seconds.value - 1, 1'000'000'000 - *fraction};
}

std::optional<std::string> PercentDecode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = HexDigit(text[i + 1]);
    const int low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::optional<std::string> Base64Decode(std::string_view text) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const int digit = Base64Digit(c);
    if (digit < 0) return std::nullopt;
    bits = (bits << 6 | static_cast<uint32_t>(digit)) & 0xFFFFFF;
    held += 6;
    if (held < 8) continue;
    held -= 8;
    out += static_cast<char>(bits >> held & 0xFF);
  }
  return out;
}

}  // namespace lamina
