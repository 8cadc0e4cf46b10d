#include "cmd/alias_requests.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/request_json.h"
#include "fs/alias_document.h"
#include "fs/alias_target.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Json AliasJson(Catalog& catalog, const AliasRow& alias) {
  Json json{{"repository", alias.repository},
            {"alias", alias.name},
            {"target", AliasTargetText(alias, true)},
            {"pin", alias.target_digest.has_value()},
            {"made", Rfc3339(alias.made_ns)}};
  if (!alias.platform.empty()) json["platform"] = alias.platform;
  if (const auto known = catalog.LastAnswer(alias.repository, alias.name))
    json["digest"] = known->digest.ToString();
  return json;
}

// NAME:ALIAS; "latest" is not meant where none is given.
Result<AliasRow> ParseName(const Json& request) {
  const std::string text = TextOf(request, "name");
  ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(text));
  if (!reference.tag || reference.digest)
    return Error{Code::kInvalid, fmt::format("{} names no alias: give NAME:ALIAS", Quote(text))};
  return AliasRow{.repository = reference.repository.ToString(),
                  .name = *reference.tag,
                  .target_repository = {},
                  .target_tag = {},
                  .target_digest = std::nullopt,
                  .platform = {},
                  .made_ns = WallClock::System().NowNs()};
}

}  // namespace

Result<Json> ListAliases(Engine& engine, const Json& request, const Replies&) {
  std::string repository = TextOf(request, "repository");
  if (!repository.empty()) {
    ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(repository));
    repository = reference.repository.ToString();
  }
  Json rows = Json::array();
  for (const AliasRow& alias : engine.catalog().Aliases(repository))
    rows.push_back(AliasJson(engine.catalog(), alias));
  return Json{{"aliases", std::move(rows)}};
}

Result<Json> SetAlias(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(AliasRow alias, ParseName(request));
  RETURN_IF_ERROR(SetAliasTarget(TextOf(request, "target"), &alias));
  if (const std::string text = TextOf(request, "platform"); !text.empty()) {
    ASSIGN_OR_RETURN(const Platform platform, Platform::Parse(text));
    alias.platform = platform.ToString();
  }
  RETURN_IF_ERROR(engine.catalog().SetAliases({alias}));
  return Json{{"aliases", Json::array({AliasJson(engine.catalog(), alias)})}};
}

Result<Json> RemoveAlias(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const AliasRow alias, ParseName(request));
  RETURN_IF_ERROR(engine.catalog().RemoveAlias(alias.repository, alias.name));
  return Json{{"removed", alias.repository + ":" + alias.name}};
}

Result<Json> ExportAliases(Engine& engine, const Json&, const Replies&) {
  AliasDocument document;
  document.aliases = engine.catalog().Aliases("");
  std::set<std::pair<std::string, std::string>> targets;
  for (const AliasRow& alias : document.aliases)
    if (!alias.target_digest) targets.emplace(alias.target_repository, alias.target_tag);
  for (const auto& [repository, tag] : targets) {
    if (engine.catalog().AliasOf(repository, tag)) continue;
    if (const auto known = engine.catalog().LastAnswer(repository, tag))
      document.tags.push_back({repository, tag, known->digest});
  }
  return Json{{"document", document.ToString()}};
}

Result<Json> ImportAliases(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(AliasDocument document, AliasDocument::Parse(TextOf(request, "document")));
  for (AliasRow& alias : document.aliases) alias.made_ns = WallClock::System().NowNs();
  RETURN_IF_ERROR(engine.catalog().SetAliases(document.aliases));
  for (const KnownTagDigest& tag : document.tags)
    RETURN_IF_ERROR(engine.catalog().ImportTag(tag.repository, tag.tag, tag.digest));
  return Json{{"aliases", document.aliases.size()}, {"tags", document.tags.size()}};
}

}  // namespace lamina
