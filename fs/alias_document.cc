#include "fs/alias_document.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/text.h"
#include "fetch/json.h"
#include "fetch/platform.h"
#include "fetch/reference.h"
#include "fs/alias_target.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr int kDepth = 8;
constexpr uint64_t kVersion = 1;
constexpr const char* kName = "the list of aliases";

// What this lamina does not know may change what the rest means.
Status RefuseOtherKeys(const Json& object, std::initializer_list<std::string_view> known,
                       const std::string& where) {
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end())
      return Error{Code::kUnsupported, fmt::format("{}: {} is not known here", where, Quote(key))};
  return {};
}

Result<AliasRow> ParseAlias(const std::string& repository, const std::string& name,
                            const Json& value) {
  const std::string where = fmt::format("{}: {}:{}", kName, repository, Quote(name));
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(value, {"target", "platform"}, where));
  RETURN_IF_ERROR(RefuseOtherKeys(value, {"target", "platform"}, where));
  AliasRow alias{.repository = repository,
                 .name = name,
                 .target_repository = {},
                 .target_tag = {},
                 .target_digest = std::nullopt,
                 .platform = {}};
  ASSIGN_OR_RETURN(const std::string target, object.String("target"));
  if (Status set = SetAliasTarget(target, &alias); !set) return set.error().Within(where);
  ASSIGN_OR_RETURN(const auto platform, object.FindString("platform"));
  if (platform) {
    const auto parsed = Platform::Parse(*platform);
    if (!parsed) return parsed.error().Within(where);
    alias.platform = parsed->ToString();
  }
  return alias;
}

Status ParseRepository(const std::string& repository, const Json& value, AliasDocument* document) {
  const std::string where = fmt::format("{}: {}", kName, Quote(repository));
  if (Status valid = CheckRepositoryName(repository); !valid) return valid.error().Within(kName);
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(value, {"aliases", "tags"}, where));
  RETURN_IF_ERROR(RefuseOtherKeys(value, {"aliases", "tags"}, where));
  if (const Json* aliases = object.Find("aliases")) {
    if (!aliases->is_object()) return object.Bad("aliases", "is no object");
    for (const auto& [name, alias] : aliases->items()) {
      ASSIGN_OR_RETURN(AliasRow row, ParseAlias(repository, name, alias));
      document->aliases.push_back(std::move(row));
    }
  }
  ASSIGN_OR_RETURN(const auto tags, object.FindStringMap("tags"));
  for (const auto& [tag, text] : tags) {
    const auto digest = Digest::Parse(text);
    if (!IsValidTag(tag) || !digest)
      return Error{Code::kInvalid, fmt::format("{}: {} is no tag with the digest {}", where,
                                               Quote(tag), Quote(text))};
    document->tags.push_back({repository, tag, *digest});
  }
  return {};
}

}  // namespace

Result<AliasDocument> AliasDocument::Parse(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, kDepth, kName));
  ASSIGN_OR_RETURN(const JsonObject object,
                   JsonObject::Of(json, {"version", "repositories"}, kName));
  ASSIGN_OR_RETURN(const uint64_t version, object.Size("version"));
  if (version != kVersion)
    return Error{Code::kUnsupported,
                 fmt::format("{} has version {}, this lamina knows {}", kName, version, kVersion)};
  RETURN_IF_ERROR(RefuseOtherKeys(json, {"version", "repositories"}, kName));
  AliasDocument document;
  const Json* repositories = object.Find("repositories");
  if (repositories == nullptr || !repositories->is_object())
    return object.Bad("repositories", "is no object");
  for (const auto& [repository, value] : repositories->items())
    RETURN_IF_ERROR(ParseRepository(repository, value, &document));
  return document;
}

std::string AliasDocument::ToString() const {
  Json repositories = Json::object();
  for (const AliasRow& alias : aliases) {
    Json entry{{"target", AliasTargetText(alias, false)}};
    if (!alias.platform.empty()) entry["platform"] = alias.platform;
    repositories[alias.repository]["aliases"][alias.name] = std::move(entry);
  }
  for (const KnownTagDigest& tag : tags)
    repositories[tag.repository]["tags"][tag.tag] = tag.digest.ToString();
  const Json json{{"version", kVersion}, {"repositories", std::move(repositories)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace lamina
