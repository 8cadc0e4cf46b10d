// The part of the Catalog that adds and forgets local sources and what is known of names.

#include <fmt/core.h>

#include <set>

#include "base/log.h"
#include "base/text.h"
#include "fs/catalog.h"
#include "fs/source_spec.h"

namespace lamina {

Result<Catalog::AddedSource> Catalog::AddSource(const std::string& source,
                                                const std::string& as_name) {
  ASSIGN_OR_RETURN(SourceSet::Added given, sources_.Add(source, as_name, clock_.NowNs()));
  AddedSource added{.names = {}, .problems = std::move(given.problems)};
  for (const LocalName& name : given.names) {
    RETURN_IF_ERROR(store_.RecordImage(name.repository, name.digest, clock_.NowNs()));
    if (!IsImageNumber(name.tag)) added.names.push_back({name.repository, name.tag, name.digest});
    MutexLock lock(mutex_);
    repositories_.insert(name.repository);
    tags_.erase(name.repository + ":" + name.tag);
  }
  Changed();
  return added;
}

std::map<Digest, std::string> Catalog::LocalImages(const std::string& repository) {
  std::map<Digest, std::string> found;
  for (const LocalName& name : sources_.LocalNamesOf(repository))
    found.try_emplace(name.digest, name.source->origin());
  return found;
}

std::vector<std::string> Catalog::ImageNumbers(const std::string& repository) const {
  return sources_.ImageNumbersOf(repository);
}

std::optional<Digest> Catalog::ImageOfId(const std::string& repository, const Digest& id,
                                         bool may_wait) {
  if (may_wait) sources_.Refresh(repository);
  return sources_.ImageOfId(repository, id);
}

// --- forgetting ----------------------------------------------------------------------------------

Result<std::vector<std::string>> Catalog::Forget(const std::string& text) {
  std::vector<std::string> words;
  std::vector<SourceSet::Forgotten> forgotten;
  std::set<std::string> repositories;
  if (IsSourceSpec(text)) {
    ASSIGN_OR_RETURN(forgotten, sources_.Forget(text));
  } else {
    ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(text));
    if (reference.digest)
      return Error{Code::kInvalid,
                   fmt::format("{}: what is under a digest never changes; give a tag, a repository "
                               "or a source to forget",
                               Quote(text))};
    const std::string repository = reference.repository.ToString();
    ASSIGN_OR_RETURN(forgotten, sources_.ForgetName(repository, reference.tag));
    ASSIGN_OR_RETURN(const bool known, store_.ForgetTags(repository, reference.tag));
    const std::string name = repository + (reference.tag ? ":" + *reference.tag : "");
    if (!known && forgotten.empty())
      return Error{Code::kNotFound, fmt::format("nothing is known of {}", name)};
    words.push_back(name);
    repositories.insert(repository);
    MutexLock lock(mutex_);
    const std::string prefix = repository + ":";
    std::erase_if(tags_, [&](const auto& item) {
      return reference.tag ? item.first == name : item.first.starts_with(prefix);
    });
  }
  RETURN_IF_ERROR(DropRecords(forgotten));
  for (const auto& source : forgotten) {
    words.push_back(source.source);
    for (const LocalName& name : source.names) repositories.insert(name.repository);
  }
  DropUnknown(repositories);
  Changed();
  return words;
}

// What the sources have said of their names.
Status Catalog::DropRecords(const std::vector<SourceSet::Forgotten>& forgotten) {
  for (const auto& source : forgotten) {
    std::vector<LocalNameRow> rows;
    for (const LocalName& name : source.names)
      rows.push_back({0, name.repository, name.tag, name.digest});
    RETURN_IF_ERROR(store_.ForgetNames(rows, source.origin));
    MutexLock lock(mutex_);
    for (const LocalName& name : source.names) tags_.erase(name.repository + ":" + name.tag);
  }
  return {};
}

// Repositories of which nothing is left.
void Catalog::DropUnknown(const std::set<std::string>& repositories) {
  const auto stored = store_.Repositories();
  if (!stored) return LogWarning(stored.error().message);
  std::set<std::string> known(stored->begin(), stored->end());
  const std::vector<std::string> local = sources_.LocalRepositories();
  known.insert(local.begin(), local.end());
  MutexLock lock(mutex_);
  for (const std::string& repository : repositories)
    if (!known.contains(repository)) repositories_.erase(repository);
}

}  // namespace lamina
