#include "cmd/tag_requests.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cmd/request_json.h"
#include "fs/alias_target.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// NAME or NAME:TAG; a digest has no tags.
Result<Reference> TaggedReference(const Json& request) {
  if (const auto several = request.value("candidates", std::vector<std::string>());
      !several.empty())
    return Error{Code::kInvalid,
                 fmt::format("{} may mean {}: write it in full",
                             Quote(TextOf(request, "reference")), fmt::join(several, " or "))};
  ASSIGN_OR_RETURN(Reference reference, Reference::Parse(TextOf(request, "reference")));
  if (!reference.digest) return reference;
  return Error{Code::kInvalid, fmt::format("{} names a digest: give NAME or NAME:TAG",
                                           Quote(TextOf(request, "reference")))};
}

Json TagJson(const Catalog::TagName& tag, const Catalog::TagList& list) {
  Json row{{"tag", tag.tag}, {"listed", tag.listed}, {"moved", tag.moved}};
  if (tag.known) row.update(ResolutionJson(*tag.known));
  if (tag.alias) row["alias"] = AliasTargetText(*tag.alias, true);
  if (tag.first_ns != 0) row["first_seen"] = Rfc3339(tag.first_ns);
  // The registry has been asked, and names this tag no more.
  const bool local = tag.alias || (tag.known && tag.known->local);
  row["gone"] = list.asked && !list.unlisted && !tag.listed && !local;
  return row;
}

}  // namespace

Result<Json> ListTags(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const Reference reference, TaggedReference(request));
  const std::string repository = reference.repository.ToString();
  const Catalog::TagList list = engine.catalog().ListTags(repository);
  if (list.tags.empty() && list.unlisted) return *list.unlisted;
  Json rows = Json::array();
  for (const Catalog::TagName& tag : list.tags)
    if (!reference.tag || tag.tag == *reference.tag) rows.push_back(TagJson(tag, list));
  if (rows.empty())
    return Error{Code::kNotFound,
                 fmt::format("{} has no tag{}", repository,
                             reference.tag ? " " + Quote(*reference.tag) : "s that are known")};
  Json answer{{"repository", repository},
              {"listed", list.asked && !list.unlisted},
              {"tags", std::move(rows)}};
  if (list.unlisted) answer["reason"] = list.unlisted->message;
  return answer;
}

Result<Json> RefreshTags(Engine& engine, const Json& request, const Replies& replies) {
  ASSIGN_OR_RETURN(const Reference reference, TaggedReference(request));
  const std::string repository = reference.repository.ToString();
  const auto tell = [&](size_t done, size_t of) {
    return replies.progress(Json{{"what", "asking"}, {"unit", "tags"}, {"done", done}, {"of", of}});
  };
  ASSIGN_OR_RETURN(const auto refreshed,
                   engine.catalog().RefreshTags(repository, reference.tag.value_or(""), tell));
  Json rows = Json::array();
  for (const Catalog::Refreshed& tag : refreshed) {
    Json row{{"tag", tag.tag}, {"moved", tag.moved}};
    if (tag.resolution)
      row.update(ResolutionJson(*tag.resolution));
    else if (reference.tag)
      return tag.resolution.error();
    else
      row["error"] = tag.resolution.error().message;
    rows.push_back(std::move(row));
  }
  return Json{{"repository", repository}, {"tags", std::move(rows)}};
}

Result<Json> ShowTagHistory(Engine& engine, const Json& request, const Replies&) {
  ASSIGN_OR_RETURN(const Reference reference, TaggedReference(request));
  const std::string repository = reference.repository.ToString();
  ASSIGN_OR_RETURN(const std::vector<TagRow> rows,
                   engine.catalog().TagHistory(repository, reference.tag.value_or("")));
  Json history = Json::array();
  for (const TagRow& row : rows)
    history.push_back({{"tag", row.tag},
                       {"digest", row.digest.ToString()},
                       {"origin", row.origin},
                       {"first_seen", Rfc3339(row.first_ns)},
                       {"seen", Rfc3339(row.seen_ns)}});
  return Json{{"repository", repository}, {"history", std::move(history)}};
}

}  // namespace lamina
