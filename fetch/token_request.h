#pragma once

// TokenRequest: asks a token server for a Bearer token once, by the rules of the distribution
// project's token specification: GET with Basic, or POST with an identity token, falling back to
// GET where the server has no POST. Any thread.

#include <chrono>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/host_health.h"
#include "fetch/http.h"
#include "fetch/registry.h"

namespace lamina {

struct TokenRequest {
  Url realm;
  std::string service;
  std::string scope;                // several are separated by blanks
  RegistryCredentials credentials;  // may be empty
};

struct Token {
  std::string value;
  std::chrono::seconds lifetime{60};
};

// Repeats what is worth it, inside the deadline; asks nothing of a server that is known to be away.
// Errors name the token server, never what was sent to it.
Result<Token> FetchToken(const TokenRequest& request, const RegistryOptions& options,
                         HttpClient& http, HostHealth& health, RegistryCounters& counters,
                         const Deadline& deadline);

// "Basic …" for an Authorization header.
std::string BasicAuthorization(const std::string& username, const std::string& password);
// With the identity token in the place of the password where there is no password.
std::string BasicAuthorization(const RegistryCredentials& credentials);

}  // namespace lamina
