#include "base/text.h"

#include <ctime>

#include <array>
#include <charconv>
#include <cstdio>

namespace lamina {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

void AppendEscaped(std::string& out, unsigned char c) {
  std::array<char, 5> hex{};
  std::snprintf(hex.data(), hex.size(), "\\x%02x", c);
  out += hex.data();
}

// The length of the valid UTF-8 sequence of a printable character at `at`, or 0.
size_t Utf8Length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const unsigned char lead = byte(0);
  size_t length = 0;
  if (lead >= 0xC2 && lead < 0xE0) length = 2;
  if (lead >= 0xE0 && lead < 0xF0) length = 3;
  if (lead >= 0xF0 && lead < 0xF5) length = 4;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  // C1 control characters act on terminals too.
  if (lead == 0xC2 && byte(1) < 0xA0) return 0;
  return length;
}

}  // namespace

std::string EscapeControl(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x7F) {
      out += text[i++];
    } else if (const size_t length = c < 0x80 ? 0 : Utf8Length(text, i); length > 0) {
      out += text.substr(i, length);
      i += length;
    } else {
      AppendEscaped(out, c);
      ++i;
    }
  }
  return out;
}

std::string ToHex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    out += kHexDigits[static_cast<unsigned char>(c) >> 4];
    out += kHexDigits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

Result<std::string> FromHex(std::string_view text) {
  const Error wrong{Code::kInvalid, Quote(text) + " is no text in hexadecimal digits"};
  if (text.size() % 2 != 0) return wrong;
  std::string out;
  for (size_t i = 0; i < text.size(); i += 2) {
    const size_t high = kHexDigits.find(text[i]);
    const size_t low = kHexDigits.find(text[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) return wrong;
    out += static_cast<char>(high * 16 + low);
  }
  return out;
}

std::string Quote(std::string_view text, size_t limit) {
  const bool cut = text.size() > limit;
  return "'" + EscapeControl(text.substr(0, limit)) + (cut ? "…'" : "'");
}

std::string HumanSize(uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t start = 0;;) {
    const size_t end = text.find(separator, start);
    parts.push_back(text.substr(start, end - start));
    if (end == std::string_view::npos) return parts;
    start = end + 1;
  }
}

std::string Rfc3339(int64_t ns) {
  int64_t seconds = ns / 1'000'000'000;
  if (ns % 1'000'000'000 < 0) --seconds;
  const std::time_t time = seconds;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

bool ParseRfc3339(std::string_view text, int64_t* seconds, uint32_t* nanoseconds) {
  const std::string copy(text);
  std::tm parts{};
  const char* rest = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr) rest = ::strptime(copy.c_str(), "%Y-%m-%dt%H:%M:%S", &parts);
  if (rest == nullptr) return false;
  uint32_t fraction = 0;
  if (*rest == '.') {
    uint32_t unit = 100'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10)
      fraction += static_cast<uint32_t>(*rest - '0') * unit;
  }
  int64_t offset = 0;
  if (*rest == '+' || *rest == '-') {
    int hours = 0;
    int minutes = 0;
    if (std::sscanf(rest + 1, "%2d:%2d", &hours, &minutes) != 2) return false;
    offset = (hours * 3600 + minutes * 60) * (*rest == '-' ? -1 : 1);
  } else if (*rest != 'Z' && *rest != 'z') {
    return false;
  }
  *seconds = ::timegm(&parts) - offset;
  *nanoseconds = fraction;
  return true;
}

bool ParseRfc3339(std::string_view text, int64_t* ns) {
  int64_t seconds = 0;
  uint32_t fraction = 0;
  if (!ParseRfc3339(text, &seconds, &fraction)) return false;
  int64_t total = 0;
  if (__builtin_mul_overflow(seconds, int64_t{1'000'000'000}, &total)) return false;
  return !__builtin_add_overflow(total, fraction, ns);
}

std::string FoldJsonKey(std::string_view key) {
  std::string out;
  out.reserve(key.size());
  for (size_t i = 0; i < key.size(); ++i) {
    if (key.substr(i, 2) == "\xC5\xBF") {
      out += 's';
      i += 1;
    } else if (key.substr(i, 3) == "\xE2\x84\xAA") {
      out += 'k';
      i += 2;
    } else {
      out += key[i] >= 'A' && key[i] <= 'Z' ? static_cast<char>(key[i] - 'A' + 'a') : key[i];
    }
  }
  return out;
}

}  // namespace lamina
