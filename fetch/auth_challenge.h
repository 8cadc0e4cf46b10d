#pragma once

// AuthChallenge: what a WWW-Authenticate header asks for (RFC 9110, section 11), as registries use
// it. A value; any thread.

#include <string>
#include <string_view>
#include <vector>

namespace lamina {

struct AuthChallenge {
  std::string scheme;  // lower case: "bearer", "basic", …
  std::string realm;   // of Bearer: the URL of the token server
  std::string service;
  std::string scope;
  std::string error;  // "insufficient_scope", …
};

// All challenges of one header value, which may hold several. What cannot be read ends the list.
std::vector<AuthChallenge> ParseChallenges(std::string_view value);

}  // namespace lamina
