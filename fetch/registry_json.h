#pragma once

// The small JSON answers of registries and token servers. Hostile input gives an empty or an error
// value. Pure functions; any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

// The first error of {"errors":[{"code","message"}]}, or of a token server's {"error"} or
// {"details"}.
struct RegistryErrorBody {
  std::string code;     // "MANIFEST_UNKNOWN"; empty where there is none
  std::string message;  // as sent: quote it
};
RegistryErrorBody ParseErrorBody(std::string_view body);

struct TokenBody {
  std::string token;
  std::optional<int64_t> expires_in;  // seconds
};
// kInvalid unless there is a `token` or `access_token` of visible ASCII characters.
Result<TokenBody> ParseTokenBody(std::string_view body);

// The valid names of {"tags":[…]} or {"repositories":[…]}; kInvalid unless that is an array or
// null.
Result<std::vector<std::string>> ParseTagList(std::string_view body);
Result<std::vector<std::string>> ParseCatalog(std::string_view body);

}  // namespace lamina
