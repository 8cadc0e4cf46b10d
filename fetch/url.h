#pragma once

// Url: an absolute http or https URL, parsed by libcurl so that what is judged here is what is
// asked there. A value, valid by construction: a host, no user name, no password. Any thread.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace lamina {

class Url {
 public:
  using Query = std::vector<std::pair<std::string, std::string>>;

  // Errors never quote the query, which may hold a signature.
  static Result<Url> Parse(std::string_view text);
  // What `reference` (a Location or Link header, relative or absolute) means on a page at this URL.
  Result<Url> Resolve(std::string_view reference) const;
  // With these parameters, encoded, after those that are there.
  Result<Url> WithQuery(const Query& parameters) const;

  const std::string& text() const { return text_; }  // may hold secrets: never into a message
  const std::string& host() const { return host_; }  // lower case, IPv6 without brackets
  bool https() const { return https_; }
  uint16_t port() const { return port_; }
  // The path with the query: "/v2/?n=1".
  std::string Target() const;
  // "https://host:port", the port left out where it is the scheme's own.
  std::string Origin() const;
  bool SameOrigin(const Url& other) const {
    return https_ == other.https_ && host_ == other.host_ && port_ == other.port_;
  }

 private:
  struct Handle;
  Url() = default;
  static Result<Url> FromHandle(const Handle& handle);

  std::string text_;
  std::string host_;
  bool https_ = true;
  uint16_t port_ = 0;
};

// An address literal of a loopback, link-local, private, shared, unspecified or multicast range,
// also one mapped into IPv6, or a name of the localhost domain. `host` is in the form of
// Url::host().
bool IsInternalHost(std::string_view host);
// The part of it that never leaves the machine.
bool IsLoopbackHost(std::string_view host);

}  // namespace lamina
