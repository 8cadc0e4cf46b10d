#include "fetch/reference.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kMaxNameBytes = 255;      // registry, '/' and path
constexpr size_t kMaxRegistryBytes = 253;  // leaves room for "/x"
constexpr size_t kMaxTagBytes = 128;
constexpr std::string_view kDefaultRegistry = "docker.io";
constexpr std::string_view kLegacyDefaultRegistry = "index.docker.io";
constexpr std::string_view kOfficialPrefix = "library/";

// The locale has no say in these.
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsAlphanumeric(char c) { return IsDigit(c) || IsLower(c) || IsUpper(c); }
bool HasUpper(std::string_view text) { return std::any_of(text.begin(), text.end(), IsUpper); }

std::string Lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (IsUpper(c)) c = static_cast<char>(c - 'A' + 'a');
  return out;
}

bool LooksLikeRegistry(std::string_view component) {
  return component.find_first_of(".:") != std::string_view::npos || component == "localhost" ||
         HasUpper(component);
}

// host and port of "host", "host:port", "[v6]", "[v6]:port"; the port keeps its ':'.
struct HostPort {
  std::string_view host;
  std::string_view port;
};

HostPort SplitHostPort(std::string_view text) {
  const size_t bracket = text.rfind(']');
  const size_t colon = text.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon)};
}

// `port` is empty, or ':' and a number.
bool IsValidPort(std::string_view port) {
  if (port.empty()) return true;
  port.remove_prefix(1);
  if (port.empty() || port.size() > 5 || !std::all_of(port.begin(), port.end(), IsDigit))
    return false;
  unsigned value = 0;
  for (const char c : port) value = value * 10 + static_cast<unsigned>(c - '0');
  return value >= 1 && value <= 65535;
}

// The address between the brackets of `host`, where it is one.
std::optional<in6_addr> ParseBracketed(std::string_view host) {
  if (host.size() < 4 || host.front() != '[' || host.back() != ']') return std::nullopt;
  const std::string inner(host.substr(1, host.size() - 2));
  // The grammar knows neither zones nor dotted quads here.
  if (inner.find_first_not_of("0123456789abcdefABCDEF:") != std::string::npos) return std::nullopt;
  in6_addr address{};
  if (::inet_pton(AF_INET6, inner.c_str(), &address) != 1) return std::nullopt;
  return address;
}

bool IsValidHostLabel(std::string_view label) {
  if (label.empty() || label.front() == '-' || label.back() == '-') return false;
  return std::all_of(label.begin(), label.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '-'; });
}

bool IsValidHost(std::string_view host) {
  if (!host.empty() && host.front() == '[') return ParseBracketed(host).has_value();
  const auto labels = Split(host, '.');
  return std::all_of(labels.begin(), labels.end(), IsValidHostLabel);
}

bool IsLowerHex64(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// `name` with its repository path in lower case, the registry as it stands.
std::string LoweredPath(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos || !LooksLikeRegistry(name.substr(0, slash)))
    return Lowered(name);
  return std::string(name.substr(0, slash)) + Lowered(name.substr(slash));
}

// A reference cut at its marks, not yet judged.
struct Parts {
  std::string_view name;
  std::optional<std::string_view> tag;
  std::optional<std::string_view> digest;
};

Parts Cut(std::string_view text) {
  Parts parts;
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    parts.digest = text.substr(at + 1);
    text = text.substr(0, at);
  }
  const size_t slash = text.rfind('/');
  const size_t colon = text.find(':', slash == std::string_view::npos ? 0 : slash);
  if (colon != std::string_view::npos) {
    parts.tag = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  parts.name = text;
  return parts;
}

Error Bad(std::string_view text, const std::string& reason) {
  return Error{Code::kInvalid, Quote(text) + " is not an image reference: " + reason};
}

RepositoryName Normalise(std::string_view name) {
  const size_t slash = name.find('/');
  RepositoryName out;
  if (slash == std::string_view::npos || !LooksLikeRegistry(name.substr(0, slash))) {
    out.registry = kDefaultRegistry;
    out.path = name;
  } else {
    out.registry = name.substr(0, slash);
    out.path = name.substr(slash + 1);
  }
  if (out.registry == kLegacyDefaultRegistry) out.registry = kDefaultRegistry;
  if (out.registry == kDefaultRegistry && out.path.find('/') == std::string::npos)
    out.path.insert(0, kOfficialPrefix);
  return out;
}

// What users write most often instead of a reference.
Status CheckCommonMistakes(std::string_view text) {
  if (text.empty()) return Bad(text, "it is empty");
  if (const size_t scheme = text.find("://"); scheme != std::string_view::npos)
    return Bad(text, "write it without " + Quote(text.substr(0, scheme + 3)));
  if (text.find_first_of(" \t\r\n") != std::string_view::npos)
    return Bad(text, "it holds white space");
  if (text.front() == '[' && text.find('/') == std::string_view::npos)
    return Bad(text, "a registry has to be followed by '/' and a repository");
  return {};
}

Status CheckName(std::string_view text, std::string_view written, const RepositoryName& name) {
  if (IsLowerHex64(written))
    return Bad(text, "64 hex digits are an image id; write NAME@sha256:… instead");
  if (!IsValidRegistry(name.registry))
    return Bad(text, Quote(name.registry) + " is not a registry (HOST or HOST:PORT)");
  if (name.ToString().size() > kMaxNameBytes)
    return Bad(text, "its name has " + std::to_string(name.ToString().size()) +
                         " bytes, more than the limit of " + std::to_string(kMaxNameBytes));
  if (IsValidRepositoryPath(name.path)) return {};
  if (IsValidRepositoryPath(Lowered(name.path)))
    return Bad(text, "repository names are lower case; write " + Quote(LoweredPath(written)));
  if (name.path.empty() || name.path.back() == '/')
    return Bad(text, "its repository name is empty");
  return Bad(text, Quote(name.path) +
                       " is not a repository name (lower-case letters and digits, separated by "
                       "single '.', '_', '__' or '-', in components separated by '/')");
}

Status CheckTag(std::string_view text, std::string_view tag) {
  if (IsValidTag(tag)) return {};
  if (tag.empty()) return Bad(text, "its tag is empty");
  if (tag.size() > kMaxTagBytes)
    return Bad(text, "its tag has " + std::to_string(tag.size()) +
                         " bytes, more than the limit of " + std::to_string(kMaxTagBytes));
  return Bad(
      text,
      Quote(tag) + " is not a tag (letters, digits, '_', '.', '-', not beginning with '.' or '-')");
}

}  // namespace

Result<Reference> Reference::Parse(std::string_view text) {
  RETURN_IF_ERROR(CheckCommonMistakes(text));
  const Parts parts = Cut(text);
  Reference out;
  out.repository = Normalise(parts.name);
  RETURN_IF_ERROR(CheckName(text, parts.name, out.repository));
  if (parts.tag) {
    RETURN_IF_ERROR(CheckTag(text, *parts.tag));
    out.tag = *parts.tag;
  }
  if (parts.digest) {
    auto digest = Digest::Parse(*parts.digest);
    if (!digest)
      return Bad(text,
                 Quote(*parts.digest) +
                     " is not a digest (sha256: and 64 lower-case hex digits, or sha512: and 128)");
    out.digest = *digest;
  }
  return out;
}

std::string Reference::ToString() const {
  std::string out = repository.ToString();
  if (tag) out += ":" + *tag;
  if (digest) out += "@" + digest->ToString();
  return out;
}

bool IsValidRegistry(std::string_view text) {
  if (text.size() > kMaxRegistryBytes || !LooksLikeRegistry(text)) return false;
  const HostPort parts = SplitHostPort(text);
  return IsValidHost(parts.host) && IsValidPort(parts.port);
}

bool IsValidPathComponent(std::string_view text) {
  const auto is_word = [](char c) { return IsDigit(c) || IsLower(c); };
  for (size_t i = 0;;) {
    const size_t word = i;
    while (i < text.size() && is_word(text[i])) ++i;
    if (i == word) return false;
    if (i == text.size()) return true;
    const size_t separator = i;
    while (i < text.size() && text[i] == text[separator]) ++i;
    const size_t length = i - separator;
    const char c = text[separator];
    if (!(c == '-' || (c == '.' && length == 1) || (c == '_' && length <= 2))) return false;
  }
}

bool IsValidRepositoryPath(std::string_view text) {
  if (text.size() > kMaxNameBytes) return false;
  const auto components = Split(text, '/');
  return std::all_of(components.begin(), components.end(), IsValidPathComponent);
}

bool IsValidTag(std::string_view text) {
  if (text.empty() || text.size() > kMaxTagBytes || text.front() == '.' || text.front() == '-')
    return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '_' || c == '.' || c == '-'; });
}

bool IsLoopbackRegistry(std::string_view registry) {
  const std::string host = Lowered(SplitHostPort(registry).host);
  if (host == "localhost") return true;
  if (const auto v6 = ParseBracketed(host)) return IN6_IS_ADDR_LOOPBACK(&*v6);
  in_addr v4{};
  return ::inet_pton(AF_INET, host.c_str(), &v4) == 1 && (ntohl(v4.s_addr) >> 24) == 127;
}

std::string RegistryFolder(std::string_view registry) {
  std::string out(registry);
  bool replaced = false;
  for (char& c : out) {
    if (c != ':' && c != '[' && c != ']') continue;
    c = '_';
    replaced = true;
  }
  return replaced ? out + "_" : out;
}

std::optional<std::string> RegistryOfFolder(std::string_view folder) {
  std::string candidate(folder);
  if (folder.find('_') != std::string_view::npos) {
    if (folder.size() < 2 || folder.back() != '_') return std::nullopt;
    candidate.pop_back();
    const bool v6 = candidate.front() == '_';
    // What follows the bracket is a port: a folder of an address alone ends in the bracket's own
    // '_'.
    const size_t last = candidate.rfind('_');
    std::replace(candidate.begin(), candidate.end(), '_', ':');
    if (v6) {
      const size_t close = last + 1 == candidate.size() ? last : last - 1;
      if (last < 2) return std::nullopt;
      candidate.front() = '[';
      candidate[close] = ']';
    }
  }
  // A host name holds no '_', so only one candidate is possible, and going forward again judges it.
  if (!IsValidRegistry(candidate) || RegistryFolder(candidate) != folder) return std::nullopt;
  return candidate;
}

}  // namespace lamina
