#include "fetch/registry_errors.h"

#include <fmt/format.h>

#include "base/text.h"
#include "fetch/registry_json.h"

namespace lamina {
namespace {

struct Meaning {
  Code code;
  std::string_view words;
};

Meaning MeaningOf(int status) {
  switch (status) {
    case 400:
      return {Code::kInvalid, "it calls the request invalid"};
    case 401:
      return {Code::kDenied, "it refuses the credentials, or there is nothing of that name"};
    case 403:
      return {Code::kDenied, "it refuses access"};
    case 404:
      return {Code::kNotFound, "not found there"};
    case 405:
      return {Code::kUnsupported, "it does not offer that"};
    case 406:
      return {Code::kUnsupported, "it has no form of it that is understood here"};
    case 410:
      return {Code::kNotFound, "it is no longer there"};
    case 416:
      return {Code::kCorrupt, "it has fewer bytes than its descriptor says (range unsatisfiable)"};
    case 429:
      return {Code::kUnavailable, "it limits the rate of requests"};
    case 501:
      return {Code::kUnsupported, "it does not offer that"};
    default:
      break;
  }
  if (status >= 500) return {Code::kUnavailable, "it failed"};
  return {Code::kUnavailable, "an answer that makes no sense here"};
}

// The registry's codes are more exact than its status.
Meaning MeaningOf(int status, std::string_view registry_code) {
  if (status == 404 && registry_code == "NAME_UNKNOWN")
    return {Code::kNotFound, "there is no such repository"};
  if (status == 404 && registry_code == "MANIFEST_UNKNOWN")
    return {Code::kNotFound, "there is no such manifest"};
  if (status == 404 && registry_code == "BLOB_UNKNOWN")
    return {Code::kNotFound, "there is no such blob"};
  return MeaningOf(status);
}

// Go's and nginx's words to plain HTTP on a port for TLS.
bool IsTlsPort(const HttpResponse& response) {
  return response.status == 400 && response.error_body.find(" HTTPS ") != std::string::npos;
}

// The part of an Authorization value that is secret.
std::string_view SecretOf(std::string_view authorization) {
  const size_t blank = authorization.find(' ');
  return blank == std::string_view::npos ? authorization : authorization.substr(blank + 1);
}

}  // namespace

Error ErrorOfStatus(const HttpResponse& response, std::string_view secret) {
  if (IsTlsPort(response))
    return {Code::kInvalid, "it speaks TLS there, not plain HTTP: its CA has to be named"};
  const RegistryErrorBody body = ParseErrorBody(response.error_body);
  const Meaning meaning = MeaningOf(response.status, body.code);
  const std::string_view hidden = SecretOf(secret);
  const auto shown = [&](const std::string& text) {
    const bool repeats = !hidden.empty() && text.find(hidden) != std::string::npos;
    return text.empty() || repeats ? std::string() : " " + Quote(text);
  };
  return {meaning.code, fmt::format("{} ({}{}{})", meaning.words, response.status, shown(body.code),
                                    shown(body.message))};
}

bool IsWorthRepeating(int status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

bool IsRedirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace lamina
