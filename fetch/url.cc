#include "fetch/url.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include "base/text.h"

namespace lamina {
namespace {

struct CurlFree {
  void operator()(char* text) const { curl_free(text); }
};

std::string LowerCase(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// Quotes at most what stands before the query.
std::string Shown(std::string_view text) { return Quote(text.substr(0, text.find('?'))); }

bool InRange4(uint32_t address, uint32_t network, int bits) {
  return (address ^ network) >> (32 - bits) == 0;
}

bool IsLoopback4(uint32_t a) { return InRange4(a, 0x7F000000, 8); }

bool IsInternal4(uint32_t a) {
  return IsLoopback4(a) || InRange4(a, 0x00000000, 8) || InRange4(a, 0x0A000000, 8) ||
         InRange4(a, 0x64400000, 10) || InRange4(a, 0xA9FE0000, 16) ||
         InRange4(a, 0xAC100000, 12) || InRange4(a, 0xC0A80000, 16) || a >= 0xE0000000;
}

uint32_t BigEndian32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | uint32_t{at[3]};
}

using Address6 = std::array<uint8_t, 16>;

// ::ffff:a.b.c.d, ::a.b.c.d and 64:ff9b::a.b.c.d carry an IPv4 address in the last four bytes.
std::optional<uint32_t> Embedded4(const Address6& a) {
  const bool zeros = std::all_of(a.begin(), a.begin() + 10, [](uint8_t b) { return b == 0; });
  static constexpr std::array<uint8_t, 12> kNat64 = {0, 0x64, 0xFF, 0x9B};
  const bool mapped = zeros && ((a[10] == 0xFF && a[11] == 0xFF) || (a[10] == 0 && a[11] == 0));
  if (mapped || std::equal(kNat64.begin(), kNat64.end(), a.begin()))
    return BigEndian32(a.data() + 12);
  return std::nullopt;
}

bool IsLoopback6(const Address6& a) {
  const Address6 one = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  if (a == one) return true;
  const std::optional<uint32_t> embedded = Embedded4(a);
  return embedded && IsLoopback4(*embedded);
}

bool IsInternal6(const Address6& a) {
  if (IsLoopback6(a) || a[0] == 0xFF || (a[0] & 0xFE) == 0xFC) return true;
  if (a[0] == 0xFE && (a[1] & 0x80) == 0x80) return true;  // link-local and the old site-local
  const std::optional<uint32_t> embedded = Embedded4(a);
  return embedded && IsInternal4(*embedded);
}

bool IsLocalhostName(std::string_view host) {
  static constexpr std::string_view kName = "localhost";
  if (!host.ends_with(kName)) return false;
  return host.size() == kName.size() || host[host.size() - kName.size() - 1] == '.';
}

template <typename Judge4, typename Judge6>
bool JudgeHost(std::string_view host, Judge4 judge4, Judge6 judge6) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (IsLocalhostName(host)) return true;
  const std::string text(host.substr(0, host.find('%')));
  std::array<uint8_t, 4> four{};
  if (inet_pton(AF_INET, text.c_str(), four.data()) == 1) return judge4(BigEndian32(four.data()));
  Address6 six{};
  return inet_pton(AF_INET6, text.c_str(), six.data()) == 1 && judge6(six);
}

}  // namespace

struct Url::Handle {
  Handle() : url(curl_url()) {}
  explicit Handle(const Url& base) : Handle() { (void)Set(CURLUPART_URL, base.text(), 0); }
  ~Handle() { curl_url_cleanup(url); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  bool Set(CURLUPart part, const std::string& value, unsigned flags) {
    // A NUL would hide the rest from libcurl.
    return url != nullptr && value.find('\0') == std::string::npos &&
           curl_url_set(url, part, value.c_str(), flags) == CURLUE_OK;
  }
  void Drop(CURLUPart part) { curl_url_set(url, part, nullptr, 0); }
  std::string Get(CURLUPart part, unsigned flags = 0) const {
    char* text = nullptr;
    if (url == nullptr || curl_url_get(url, part, &text, flags) != CURLUE_OK) return {};
    return std::unique_ptr<char, CurlFree>(text).get();
  }

  CURLU* url;
};

Result<Url> Url::FromHandle(const Handle& handle) {
  Url url;
  const std::string scheme = handle.Get(CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https")
    return Error{Code::kInvalid, "URL of scheme " + Quote(scheme) + " instead of http or https"};
  url.https_ = scheme == "https";
  url.host_ = LowerCase(handle.Get(CURLUPART_HOST));
  if (url.host_.starts_with('[') && url.host_.ends_with(']'))
    url.host_ = url.host_.substr(1, url.host_.size() - 2);
  const std::string port = handle.Get(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  const auto parsed = std::from_chars(port.data(), port.data() + port.size(), url.port_);
  url.text_ = handle.Get(CURLUPART_URL);
  if (url.host_.empty() || url.text_.empty() || parsed.ec != std::errc() || url.port_ == 0)
    return Error{Code::kInvalid, "URL without a host or with a bad port"};
  return url;
}

Result<Url> Url::Parse(std::string_view text) {
  Handle handle;
  if (!handle.Set(CURLUPART_URL, std::string(text), CURLU_DISALLOW_USER))
    return Error{Code::kInvalid, "not a URL that can be used: " + Shown(text)};
  handle.Drop(CURLUPART_FRAGMENT);
  return FromHandle(handle);
}

Result<Url> Url::Resolve(std::string_view reference) const {
  Handle handle(*this);
  if (reference.empty() || !handle.Set(CURLUPART_URL, std::string(reference), CURLU_DISALLOW_USER))
    return Error{Code::kInvalid, "not a URL that can be used: " + Shown(reference)};
  handle.Drop(CURLUPART_FRAGMENT);
  return FromHandle(handle);
}

Result<Url> Url::WithQuery(const Query& parameters) const {
  Handle handle(*this);
  for (const auto& [name, value] : parameters)
    if (!handle.Set(CURLUPART_QUERY, name + "=" + value, CURLU_APPENDQUERY | CURLU_URLENCODE))
      return Error{Code::kInvalid, "the query parameter " + Quote(name) + " cannot be encoded"};
  return FromHandle(handle);
}

std::string Url::Target() const {
  const size_t path = text_.find('/', text_.find("://") + 3);
  return path == std::string::npos ? "/" : text_.substr(path);
}

std::string Url::Origin() const {
  const bool six = host_.find(':') != std::string::npos;
  std::string out = (https_ ? "https://" : "http://") + (six ? "[" + host_ + "]" : host_);
  if (port_ != (https_ ? 443 : 80)) out += ":" + std::to_string(port_);
  return out;
}

bool IsInternalHost(std::string_view host) { return JudgeHost(host, IsInternal4, IsInternal6); }
bool IsLoopbackHost(std::string_view host) { return JudgeHost(host, IsLoopback4, IsLoopback6); }

}  // namespace lamina
