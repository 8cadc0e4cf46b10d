#include "cmd/request_json.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace lamina {

using Json = nlohmann::json;

std::string TextOf(const Json& request, const char* key) {
  const auto at = request.find(key);
  return at != request.end() && at->is_string() ? at->get<std::string>() : std::string();
}

Json ResolutionJson(const Resolution& resolution) {
  Json json{{"digest", resolution.digest.ToString()},
            {"origin", resolution.origin},
            {"local", resolution.local},
            {"stale", resolution.stale},
            {"seen", Rfc3339(resolution.seen_ns)}};
  if (!resolution.alias_of.empty()) json["alias"] = resolution.alias_of;
  if (resolution.stale) json["reason"] = resolution.stale_reason;
  return json;
}

}  // namespace lamina
