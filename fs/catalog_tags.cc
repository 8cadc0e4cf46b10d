// The part of the Catalog that lists tags and asks for them again.

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "base/log.h"
#include "fs/catalog.h"

namespace lamina {
namespace {

std::string RegistryPart(const std::string& name) { return name.substr(0, name.find('/')); }

std::chrono::seconds TtlOf(const std::map<std::string, std::chrono::seconds>& of_registries,
                           const std::string& name, std::chrono::seconds otherwise) {
  const auto at = of_registries.find(RegistryPart(name));
  return at == of_registries.end() ? otherwise : at->second;
}

}  // namespace

bool CatalogOptions::IsStrict(const std::string& name) const {
  return strict ||
         std::ranges::find(strict_registries, RegistryPart(name)) != strict_registries.end();
}

std::chrono::seconds CatalogOptions::TagTtl(const std::string& name) const {
  return TtlOf(tag_ttls, name, tag_ttl);
}

std::chrono::seconds CatalogOptions::NegativeTtl(const std::string& name) const {
  return TtlOf(negative_ttls, name, negative_ttl);
}

// --- listing -------------------------------------------------------------------------------------

Catalog::TagList Catalog::ListTags(const std::string& repository) {
  const bool asked = RegistryPart(repository) != "localhost";
  auto listed = asked ? RegistryTags(repository) : std::vector<std::string>();
  TagList list{.tags = TagsWith(repository, listed ? *listed : std::vector<std::string>()),
               .asked = asked,
               .unlisted = std::nullopt};
  if (listed) return list;
  list.unlisted = std::move(listed).error();
  const Code code = list.unlisted->code;
  if (code != Code::kUnavailable && code != Code::kTimeout) return list;
  for (TagName& tag : list.tags) {
    if (!tag.known || tag.known->local || tag.known->stale) continue;
    tag.known->stale = true;
    tag.known->stale_reason = list.unlisted->message;
  }
  return list;
}

std::vector<Catalog::TagName> Catalog::Tags(const std::string& repository) {
  return ListTags(repository).tags;
}

std::vector<Catalog::TagName> Catalog::KnownTags(const std::string& repository) {
  return TagsWith(repository, {});
}

std::optional<Catalog::TagAnswer> Catalog::RememberedTag(const std::string& repository,
                                                         const std::string& tag) const {
  MutexLock lock(mutex_);
  const auto at = tags_.find(repository + ":" + tag);
  return at == tags_.end() ? std::nullopt : std::optional(at->second);
}

std::vector<Catalog::TagName> Catalog::TagsWith(const std::string& repository,
                                                const std::vector<std::string>& listed) {
  std::map<std::string, TagName> found;
  for (const std::string& tag : listed) found[tag].listed = true;
  if (auto rows = store_.CurrentTags(repository)) {
    for (const TagRow& row : *rows) {
      TagName& tag = found[row.tag];
      tag.known = Resolution{.digest = row.digest, .origin = row.origin, .seen_ns = row.seen_ns};
      tag.first_ns = row.first_ns;
      tag.moved = row.answers > 1;
      const auto answer = RememberedTag(repository, row.tag);
      if (answer && answer->resolution && answer->resolution->stale)
        tag.known = *answer->resolution;
    }
  }
  for (const LocalName& name : sources_.LocalNamesOf(repository)) {
    if (!name.tag.empty())
      found[name.tag].known = Resolution{.digest = name.digest,
                                         .origin = name.source->origin(),
                                         .local = true,
                                         .seen_ns = clock_.NowNs()};
  }
  AddAliases(repository, &found);
  std::vector<TagName> tags;
  for (auto& [tag, name] : found) {
    name.tag = tag;
    tags.push_back(std::move(name));
  }
  return tags;
}

// --- asking again --------------------------------------------------------------------------------

// The last known digest where the source says that the tag still has it, and its document is here:
// then nothing has to be transferred.
Result<std::optional<Digest>> Catalog::UnmovedDigest(RepositorySource& source,
                                                     const std::string& repository,
                                                     const std::string& tag,
                                                     const Deadline& deadline) {
  const auto last = store_.CurrentTag(repository, tag);
  if (!last || !last->has_value()) return std::optional<Digest>();
  const Digest& digest = (*last)->digest;
  const auto document = store_.GetDocument(digest);
  if (!document || !document->has_value()) return std::optional<Digest>();
  ASSIGN_OR_RETURN(const auto now, source.TagDigest(tag, deadline));
  return now == digest ? now : std::nullopt;
}

Result<std::vector<Catalog::Refreshed>> Catalog::RefreshTags(const std::string& repository,
                                                             const std::string& tag,
                                                             const TagProgress& progress) {
  std::vector<std::string> wanted{tag};
  if (tag.empty()) {
    wanted.clear();
    {
      MutexLock lock(mutex_);
      listings_.erase(repository);
      paths_answers_.erase(repository);
    }
    const TagList list = ListTags(repository);
    if (list.unlisted && list.unlisted->code != Code::kUnsupported) return *list.unlisted;
    for (const TagName& name : list.tags)
      if (name.known || name.alias) wanted.push_back(name.tag);
  }
  std::vector<Refreshed> refreshed;
  for (const std::string& name : wanted) {
    refreshed.push_back(RefreshTag(repository, name));
    // Each of the others would wait as long for the same registry.
    const auto& answer = refreshed.back().resolution;
    if (tag.empty() && answer && answer->stale && answer->repository == repository)
      return Error{Code::kUnavailable, answer->stale_reason};
    if (!progress(refreshed.size(), wanted.size()))
      return Error{Code::kCancelled, "nobody waits for the tags any more"};
  }
  // The kernel may hold other answers, those about what was missing among them.
  Changed();
  return refreshed;
}

Catalog::Refreshed Catalog::RefreshTag(const std::string& repository, const std::string& tag) {
  const auto end = EndOf(repository, tag);
  if (!end) return {.tag = tag, .resolution = end.error()};
  {
    MutexLock lock(mutex_);
    tags_.erase(end->repository + ":" + end->tag);
  }
  const auto before = store_.CurrentTag(end->repository, end->tag);
  Refreshed refreshed{.tag = tag, .resolution = ResolveTag(repository, tag)};
  const bool known = before && before->has_value();
  refreshed.moved = known && refreshed.resolution.has_value() && end->platform.empty() &&
                    refreshed.resolution->digest != (*before)->digest;
  return refreshed;
}

Result<std::vector<TagRow>> Catalog::TagHistory(const std::string& repository,
                                                const std::string& tag) {
  ASSIGN_OR_RETURN(std::vector<TagRow> rows, store_.TagHistory(repository, tag));
  if (rows.empty())
    return Error{Code::kNotFound, fmt::format("{} has never been resolved here",
                                              tag.empty() ? repository : repository + ":" + tag)};
  return rows;
}

}  // namespace lamina
