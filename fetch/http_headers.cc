#include "fetch/http_headers.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>

#include "base/text.h"

namespace lamina {
namespace {

constexpr std::chrono::seconds kLongestRetryAfter = std::chrono::hours(24);

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, failure] = std::from_chars(text.data(), end, value);
  if (text.empty() || failure != std::errc() || stopped != end) return std::nullopt;
  return value;
}

// The position of `wanted` outside double quotes, or the size.
size_t FindUnquoted(std::string_view text, char wanted) {
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && quoted)
      ++i;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (text[i] == wanted && !quoted)
      return i;
  }
  return text.size();
}

std::string_view Unquoted(std::string_view text) {
  text = TrimBlanks(text);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"')
    return text.substr(1, text.size() - 2);
  return text;
}

// The value of `name` among "; name=value; …".
std::optional<std::string_view> FindParameter(std::string_view parameters, std::string_view name) {
  while (!parameters.empty()) {
    const size_t end = FindUnquoted(parameters, ';');
    const std::string_view one = parameters.substr(0, end);
    const size_t equals = one.find('=');
    if (equals != std::string_view::npos &&
        EqualsIgnoringCase(TrimBlanks(one.substr(0, equals)), name))
      return Unquoted(one.substr(equals + 1));
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
  }
  return std::nullopt;
}

bool HasRelation(std::string_view relations, std::string_view wanted) {
  for (const std::string_view one : Split(relations, ' '))
    if (EqualsIgnoringCase(one, wanted)) return true;
  return false;
}

}  // namespace

std::string_view TrimBlanks(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

void HttpHeaders::AddLine(std::string_view line) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0 || line[0] == ' ' || line[0] == '\t') return;
  std::string name(TrimBlanks(line.substr(0, colon)));
  std::transform(name.begin(), name.end(), name.begin(), Lower);
  lines_.emplace_back(std::move(name), TrimBlanks(line.substr(colon + 1)));
}

std::optional<std::string_view> HttpHeaders::Find(std::string_view name) const {
  for (const auto& [key, value] : lines_)
    if (key == name) return value;
  return std::nullopt;
}

std::vector<std::string_view> HttpHeaders::FindAll(std::string_view name) const {
  std::vector<std::string_view> out;
  for (const auto& [key, value] : lines_)
    if (key == name) out.push_back(value);
  return out;
}

std::optional<ContentRange> ParseContentRange(std::string_view value) {
  static constexpr std::string_view kUnit = "bytes ";
  value = TrimBlanks(value);
  if (!EqualsIgnoringCase(value.substr(0, kUnit.size()), kUnit)) return std::nullopt;
  value = TrimBlanks(value.substr(kUnit.size()));
  const size_t dash = value.find('-');
  const size_t slash = value.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash)
    return std::nullopt;
  const auto first = ParseNumber(value.substr(0, dash));
  const auto last = ParseNumber(value.substr(dash + 1, slash - dash - 1));
  const auto total = ParseNumber(value.substr(slash + 1));
  if (!first || !last || !total || *first > *last || *last >= *total) return std::nullopt;
  return ContentRange{*first, *last + 1, *total};
}

std::optional<uint64_t> ParseContentLength(std::string_view value) {
  return ParseNumber(TrimBlanks(value));
}

std::optional<std::chrono::milliseconds> ParseRetryAfter(std::string_view value,
                                                         const WallClock& clock) {
  value = TrimBlanks(value);
  if (const auto seconds = ParseNumber(value)) {
    const auto longest = static_cast<uint64_t>(kLongestRetryAfter.count());
    return std::chrono::seconds(std::min(*seconds, longest));
  }
  const time_t date = curl_getdate(std::string(value).c_str(), nullptr);
  if (date == -1) return std::nullopt;
  const int64_t left = int64_t{date} - clock.NowNs() / 1'000'000'000;
  return std::chrono::seconds(std::clamp<int64_t>(left, 0, kLongestRetryAfter.count()));
}

std::optional<std::string> ParseNextLink(std::string_view value) {
  while (true) {
    const size_t open = value.find('<');
    const size_t close = value.find('>', open == std::string_view::npos ? 0 : open);
    if (open == std::string_view::npos || close == std::string_view::npos) return std::nullopt;
    const std::string_view target = value.substr(open + 1, close - open - 1);
    value.remove_prefix(close + 1);
    const size_t end = FindUnquoted(value, ',');
    const auto relations = FindParameter(value.substr(0, end), "rel");
    if (relations && HasRelation(*relations, "next")) return std::string(TrimBlanks(target));
    value.remove_prefix(end);
  }
}

std::optional<std::string> ParseByteRangesBoundary(std::string_view value) {
  const size_t end = std::min(value.find(';'), value.size());
  if (!EqualsIgnoringCase(TrimBlanks(value.substr(0, end)), "multipart/byteranges"))
    return std::nullopt;
  return std::string(FindParameter(value.substr(end), "boundary").value_or(""));
}

}  // namespace lamina
