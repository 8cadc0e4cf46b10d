#include "fs/source_set.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "base/log.h"
#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kMostRegistries = 256;

// A repository component made of a file name: lower case, and '-' for what the grammar does not
// allow.
std::string ComponentOf(const std::string& path) {
  std::string name = path;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  std::string out;
  for (const char c : name) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (plain)
      out += lower;
    else if (!out.empty() && out.back() != '-')
      out += '-';
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "image" : out;
}

// The repository that --as names: as it stands where it has a registry part, else below localhost.
Result<std::string> RepositoryOfAs(const std::string& as_name) {
  const size_t slash = as_name.find('/');
  const std::string first = as_name.substr(0, slash);
  const bool has_registry =
      slash != std::string::npos &&
      (first == "localhost" || first.find_first_of(".:") != std::string::npos);
  ASSIGN_OR_RETURN(const Reference parsed,
                   Reference::Parse(has_registry ? as_name : "localhost/" + as_name));
  if (parsed.tag || parsed.digest)
    return Error{
        Code::kInvalid,
        fmt::format("--as {}: tags come from the source; give a name without one", Quote(as_name))};
  return parsed.repository.ToString();
}

// Where an entry of a layout appears: repository and tag.
Result<std::pair<std::string, std::string>> PlaceOf(const SourceRow& row,
                                                    const std::string& ref_name) {
  std::string repository;
  if (!row.as_name.empty()) {
    ASSIGN_OR_RETURN(repository, RepositoryOfAs(row.as_name));
  }
  const std::string fallback = "localhost/" + ComponentOf(row.location);
  if (ref_name.empty())
    return std::make_pair(repository.empty() ? fallback : repository, std::string());
  if (IsValidTag(ref_name))
    return std::make_pair(repository.empty() ? fallback : repository, ref_name);
  ASSIGN_OR_RETURN(const Reference parsed, Reference::Parse(ref_name));
  return std::make_pair(repository.empty() ? parsed.repository.ToString() : repository,
                        parsed.tag_or_latest());
}

std::vector<LocalNameRow> RowsOf(const std::vector<LocalName>& names) {
  std::vector<LocalNameRow> rows;
  for (const LocalName& name : names) rows.push_back({0, name.repository, name.tag, name.digest});
  return rows;
}

}  // namespace

SourceSet::SourceSet(Store& store, RegistryOptions registry,
                     std::vector<std::string> insecure_registries)
    : store_(store),
      registry_options_(std::move(registry)),
      insecure_registries_(std::move(insecure_registries)) {}

Status SourceSet::Load() {
  ASSIGN_OR_RETURN(const std::vector<SourceRow> rows, store_.Sources());
  ASSIGN_OR_RETURN(const std::vector<LocalNameRow> stored, store_.LocalNames());
  for (const SourceRow& row : rows) {
    const Source source{row, OciLayout::At(row.location), {}};
    std::vector<LocalName> last;
    for (const LocalNameRow& name : stored)
      if (name.source_id == row.id)
        last.push_back({name.repository, name.tag, name.digest, source.layout});
    Remember(source, last);
    if (auto names = CurrentNames(source); !names)
      LogWarning(fmt::format("source oci:{} is away: {}", row.location, names.error().message));
  }
  return {};
}

Result<std::vector<LocalName>> SourceSet::NamesOf(const Source& source) {
  ASSIGN_OR_RETURN(const auto entries, source.layout->Entries());
  std::vector<LocalName> names;
  for (const OciLayout::Entry& entry : entries) {
    if (!source.row.selected.empty() && entry.ref_name != source.row.selected) continue;
    auto place = PlaceOf(source.row, entry.ref_name);
    if (!place) {
      LogWarning(fmt::format("oci:{}: an image is reachable by digest only: {}",
                             source.row.location, place.error().message));
      ASSIGN_OR_RETURN(place, PlaceOf(source.row, ""));
    }
    names.push_back({place->first, place->second, entry.descriptor.digest, source.layout});
  }
  return names;
}

Result<std::vector<LocalName>> SourceSet::CurrentNames(const Source& source) {
  ASSIGN_OR_RETURN(std::vector<LocalName> names, NamesOf(source));
  if (names == source.last_names) return names;
  Remember(source, names);
  if (Status kept = store_.ReplaceLocalNames(source.row.id, RowsOf(names)); !kept)
    LogWarning(fmt::format("source oci:{}: {}", source.row.location, kept.error().message));
  return names;
}

void SourceSet::Remember(Source source, const std::vector<LocalName>& names) {
  source.last_names = names;
  const auto added = std::make_shared<const Source>(std::move(source));
  std::set<std::string> repositories;
  for (const LocalName& name : names) repositories.insert(name.repository);
  MutexLock lock(mutex_);
  for (auto& [repository, sources] : by_repository_)
    std::erase_if(sources, [&](const SourcePtr& other) { return other->row.id == added->row.id; });
  std::erase_if(by_repository_, [](const auto& item) { return item.second.empty(); });
  const auto later = [](const SourcePtr& a, const SourcePtr& b) {
    return std::tie(a->row.added_ns, a->row.id) < std::tie(b->row.added_ns, b->row.id);
  };
  for (const std::string& repository : repositories) {
    auto& sources = by_repository_[repository];
    sources.insert(std::upper_bound(sources.begin(), sources.end(), added, later), added);
  }
}

Result<std::vector<LocalName>> SourceSet::Add(const std::string& spec, const std::string& as_name,
                                              int64_t now_ns) {
  if (!spec.starts_with("oci:"))
    return Error{
        Code::kInvalid,
        fmt::format("{} is no source that lamina reads; use oci:DIR or oci:DIR:REF", Quote(spec))};
  SourceRow row{.kind = "oci",
                .location = spec.substr(4),
                .selected = "",
                .as_name = as_name,
                .added_ns = now_ns};
  auto layout = OciLayout::Open(row.location);
  // A ':' may belong to the folder's name or begin the REF; the folder wins where it is there.
  if (const size_t colon = row.location.find(':'); !layout && colon != std::string::npos) {
    row.selected = row.location.substr(colon + 1);
    row.location = row.location.substr(0, colon);
    layout = OciLayout::Open(row.location);
  }
  if (!layout) return std::move(layout).error();
  row.location = (*layout)->path();
  Source source{row, *std::move(layout), {}};
  ASSIGN_OR_RETURN(const std::vector<LocalName> names, NamesOf(source));
  if (names.empty() && !row.selected.empty())
    return Error{Code::kNotFound,
                 fmt::format("oci:{} has no image named {}", row.location, Quote(row.selected))};
  if (names.empty())
    return Error{Code::kNotFound, fmt::format("oci:{} holds no images", row.location)};
  ASSIGN_OR_RETURN(source.row.id, store_.AddSource(row, RowsOf(names)));
  Remember(source, names);
  return names;
}

std::vector<SourceSet::SourcePtr> SourceSet::SourcesNaming(const std::string& repository) const {
  MutexLock lock(mutex_);
  const auto at = by_repository_.find(repository);
  if (at == by_repository_.end()) return {};
  return {at->second.rbegin(), at->second.rend()};
}

std::vector<LocalName> SourceSet::LocalNamesOf(const std::string& repository) {
  std::vector<LocalName> found;
  for (const SourcePtr& source : SourcesNaming(repository)) {
    auto names = CurrentNames(*source);
    if (!names) {
      LogWarning(fmt::format("source oci:{}: {}", source->row.location, names.error().message));
      continue;
    }
    for (LocalName& name : *names) {
      if (name.repository != repository) continue;
      const auto same = [&](const LocalName& other) {
        return !name.tag.empty() && other.tag == name.tag;
      };
      if (std::none_of(found.begin(), found.end(), same)) found.push_back(std::move(name));
    }
  }
  return found;
}

Result<LocalName> SourceSet::Find(const std::string& repository, const std::string& tag) {
  const auto wanted = [&](const LocalName& name) {
    return name.repository == repository && name.tag == tag;
  };
  for (const SourcePtr& source : SourcesNaming(repository)) {
    const auto names = CurrentNames(*source);
    const std::vector<LocalName>& known = names ? *names : source->last_names;
    const auto at = std::find_if(known.begin(), known.end(), wanted);
    if (at == known.end()) continue;
    if (names) return *at;
    return Error{Code::kUnavailable, fmt::format("{}:{} is in a source that is away: {}",
                                                 repository, tag, names.error().message)};
  }
  return Error{Code::kNotFound, fmt::format("{}:{} is in no local source", repository, tag)};
}

std::vector<std::string> SourceSet::LocalRepositories() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [repository, sources] : by_repository_) names.push_back(repository);
  return names;
}

std::vector<std::shared_ptr<RepositorySource>> SourceSet::SourcesOf(const std::string& repository,
                                                                    const Digest& image) {
  std::vector<std::shared_ptr<RepositorySource>> found;
  std::vector<std::shared_ptr<RepositorySource>> lacking;
  for (const SourcePtr& source : SourcesNaming(repository))
    (source->layout->MayHold(image) ? found : lacking).push_back(source->layout);
  const size_t slash = repository.find('/');
  const std::string host = repository.substr(0, slash);
  if (host != "localhost" && slash != std::string::npos)
    found.push_back(RegistryOf(host)->Repository(repository.substr(slash + 1)));
  found.insert(found.end(), lacking.begin(), lacking.end());
  return found;
}

std::shared_ptr<Registry> SourceSet::RegistryOf(const std::string& host) {
  MutexLock lock(mutex_);
  // Anybody may look up any host's name: those that never gave a byte are not kept for ever.
  if (registries_.size() >= kMostRegistries && !registries_.contains(host))
    std::erase_if(registries_, [](const auto& item) {
      return item.second.use_count() == 1 && item.second->counters().blob_bytes == 0;
    });
  std::shared_ptr<Registry>& registry = registries_[host];
  if (!registry) {
    RegistryOptions options = registry_options_;
    options.insecure = std::find(insecure_registries_.begin(), insecure_registries_.end(), host) !=
                       insecure_registries_.end();
    registry = Registry::Create(host, std::move(options));
  }
  return registry;
}

std::vector<std::pair<std::string, std::shared_ptr<Registry>>> SourceSet::Registries() const {
  MutexLock lock(mutex_);
  return {registries_.begin(), registries_.end()};
}

}  // namespace lamina
