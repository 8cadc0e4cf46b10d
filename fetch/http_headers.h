#pragma once

// The header lines of an HTTP answer, and the few header values that lamina reads (RFC 9110, RFC
// 8288). Values; any thread.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace lamina {

class HttpHeaders {
 public:
  // A line as received, with or without its end. What has no ':' or no name is ignored.
  void AddLine(std::string_view line);
  void Clear() { lines_.clear(); }

  // `name` in lower case. The first value, or all of them in order.
  std::optional<std::string_view> Find(std::string_view name) const;
  std::vector<std::string_view> FindAll(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> lines_;  // names in lower case
};

// Content-Range "bytes 0-99/200". [begin, end) of `total`; nullopt for anything else, "*" included.
struct ContentRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t total = 0;
  friend bool operator==(const ContentRange&, const ContentRange&) = default;
};
std::optional<ContentRange> ParseContentRange(std::string_view value);

std::optional<uint64_t> ParseContentLength(std::string_view value);

// Retry-After: seconds or a date; never negative, at most a day.
std::optional<std::chrono::milliseconds> ParseRetryAfter(std::string_view value,
                                                         const WallClock& clock);

// The target of the first link with rel="next" in a Link header.
std::optional<std::string> ParseNextLink(std::string_view value);

// The boundary of a Content-Type "multipart/byteranges; boundary=…"; nullopt for every other type.
// Characters that ought to be quoted are taken unquoted too: CloudFront sends ':' so.
std::optional<std::string> ParseByteRangesBoundary(std::string_view value);

std::string_view TrimBlanks(std::string_view text);
bool EqualsIgnoringCase(std::string_view a, std::string_view b);

}  // namespace lamina
