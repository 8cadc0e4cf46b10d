#include "fs/source_set.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <tuple>

#include "base/log.h"
#include "base/take_unused.h"
#include "base/text.h"
#include "fs/source_spec.h"

namespace lamina {
namespace {

constexpr std::string_view kDockerArchive = "docker-archive";
constexpr size_t kMostRegistries = 256;
// Where so many sources name one repository, those that do not have a tag are looked at again only
// after a moment, so that listing many tags does not look at every source for each of them.
constexpr size_t kManySources = 64;
constexpr int64_t kLookAgainMs = 500;
// Of those that lack an image: something else may hold its layers, but not any number of them.
constexpr size_t kMostLacking = 8;
constexpr size_t kMostCompleting = 4;
constexpr size_t kMostForgotten = 64;  // places of sources that are no more

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::vector<LocalNameRow> RowsOf(const NameTable& table) {
  std::vector<LocalNameRow> rows;
  for (const LocalName& name : table.names)
    rows.push_back({0, name.repository, name.tag, name.digest});
  return rows;
}

std::set<std::string> RepositoriesOf(const NameTable& table) {
  std::set<std::string> found;
  for (const LocalName& name : table.names) found.insert(name.repository);
  for (const auto& [name, error] : table.broken) found.insert(name.first);
  return found;
}

SourceSpec SpecOf(const SourceRow& row) { return {row.kind, row.location, row.selected}; }

RegistryOptions Cancelled(RegistryOptions options, const std::atomic<bool>& by) {
  options.cancelled = &by;
  return options;
}

void WarnOf(const NameTable& table) {
  for (const Error& problem : table.problems) LogWarning(problem.message);
}

}  // namespace

SourceSet::SourceSet(Store& store, ArchiveStore& archives, RegistryOptions registry)
    : store_(store),
      archives_(archives),
      registry_options_(Cancelled(std::move(registry), archives.cancelled())) {}

Status SourceSet::Load() {
  ASSIGN_OR_RETURN(const std::vector<SourceRow> rows, store_.Sources());
  ASSIGN_OR_RETURN(const std::vector<LocalNameRow> stored, store_.LocalNames());
  std::map<int64_t, std::vector<const LocalNameRow*>> names;
  for (const LocalNameRow& name : stored) names[name.source_id].push_back(&name);
  for (const SourceRow& row : rows) {
    auto local = LocalSourceAt(row.kind, row.location);
    if (!local) {
      LogWarning(
          fmt::format("source {}: this lamina does not know its kind", ToString(SpecOf(row))));
      continue;
    }
    const auto source = std::make_shared<Source>();
    source->row = row;
    source->source = local;
    auto last = std::make_shared<NameTable>();
    for (const LocalNameRow* name : names[row.id])
      last->names.push_back({name->repository, name->tag, name->digest, local});
    last->Sort();
    RememberNew(source, last);
    if (row.kind != "oci") continue;
    if (auto table = CurrentTable({source, last}); !table)
      LogWarning(
          fmt::format("source {} is away: {}", ToString(SpecOf(row)), table.error().message));
  }
  return {};
}

std::shared_ptr<LocalSource> SourceSet::LocalSourceAt(const std::string& kind,
                                                      const std::string& location) {
  MutexLock lock(mutex_);
  if (local_sources_.size() > 2 * sources_.size() + kMostForgotten)
    std::erase_if(local_sources_, [](const auto& item) { return item.second.expired(); });
  auto& kept = local_sources_[kind + ":" + location];
  auto source = kept.lock();
  if (!source) kept = source = SourceAt(kind, location, archives_);
  return source;
}

Result<SourceSet::TablePtr> SourceSet::CurrentTable(const Known& known) {
  const Source& source = *known.source;
  ASSIGN_OR_RETURN(const auto images, source.source->Images());
  source.checked_ms = NowMs();
  if (known.table->images == images) return known.table;
  const auto table = std::make_shared<const NameTable>(NamesOf(source.row, source.source, images));
  Remember(known.source, table);
  if (table->names == known.table->names) return table;
  WarnOf(*table);
  if (Status kept = store_.ReplaceLocalNames(source.row.id, RowsOf(*table)); !kept)
    LogWarning(fmt::format("source {}: {}", ToString(SpecOf(source.row)), kept.error().message));
  return table;
}

void SourceSet::DropNames(int64_t id, const NameTable& table) {
  for (const std::string& repository : RepositoriesOf(table)) {
    const auto at = by_repository_.find(repository);
    if (at == by_repository_.end()) continue;
    std::erase(at->second, id);
    if (at->second.empty()) by_repository_.erase(at);
  }
}

void SourceSet::Remember(const SourcePtr& source, TablePtr table) {
  MutexLock lock(mutex_);
  const auto old = sources_.find(source->row.id);
  if (old != sources_.end() && old->second.source == source) Put(source, std::move(table));
}

void SourceSet::RememberNew(const SourcePtr& source, TablePtr table) {
  MutexLock lock(mutex_);
  Put(source, std::move(table));
}

void SourceSet::Put(const SourcePtr& source, TablePtr table) {
  const int64_t id = source->row.id;
  if (const auto old = sources_.find(id); old != sources_.end()) DropNames(id, *old->second.table);
  const auto repositories = RepositoriesOf(*table);
  sources_.insert_or_assign(id, Known{source, std::move(table)});
  const auto earlier = [&](int64_t a, int64_t b) REQUIRES(mutex_) {
    return std::make_tuple(sources_.at(a).source->row.added_ns, a) <
           std::make_tuple(sources_.at(b).source->row.added_ns, b);
  };
  for (const std::string& repository : repositories) {
    auto& ids = by_repository_[repository];
    ids.insert(std::upper_bound(ids.begin(), ids.end(), id, earlier), id);
  }
}

Result<SourceSet::Added> SourceSet::Add(const std::string& text, const std::string& as_name,
                                        int64_t now_ns) {
  ASSIGN_OR_RETURN(const SourceSpec spec, ParseSourceSpec(text));
  const auto source = std::make_shared<Source>();
  source->row = {.kind = spec.kind,
                 .location = spec.location,
                 .selected = spec.selected,
                 .as_name = as_name,
                 .added_ns = now_ns};
  source->source = LocalSourceAt(spec.kind, spec.location);
  RETURN_IF_ERROR(source->source->Check());
  ASSIGN_OR_RETURN(const auto images, source->source->Images());
  const auto table =
      std::make_shared<const NameTable>(NamesOf(source->row, source->source, images));
  if (spec.kind != "oci")
    if (const auto layer = ArchiveStore::LayerNameOf(spec.location)) source->row.layer = *layer;
  const std::string origin = source->source->origin();
  if (table->names.empty() && !table->problems.empty())
    return table->problems.front().Within(ToString(spec));
  if (table->names.empty() && !spec.selected.empty())
    return Error{Code::kNotFound,
                 fmt::format("{} has no image named {}", origin, Quote(spec.selected))};
  if (table->names.empty()) return Error{Code::kNotFound, origin + " holds no images"};
  ASSIGN_OR_RETURN(source->row.id, store_.AddSource(source->row, RowsOf(*table)));
  RememberNew(source, table);
  return Added{table->names, table->problems};
}

// --- forgetting ----------------------------------------------------------------------------------

SourceSet::Forgotten SourceSet::ForgetSource(const Known& known) {
  const SourceRow& row = known.source->row;
  if (Status removed = store_.RemoveSource(row.id); !removed)
    LogWarning(fmt::format("source {}: {}", ToString(SpecOf(row)), removed.error().message));
  MutexLock lock(mutex_);
  if (const auto at = sources_.find(row.id); at != sources_.end()) {
    DropNames(row.id, *at->second.table);
    sources_.erase(at);
  }
  return {ToString(SpecOf(row)), known.source->source->origin(), known.table->names};
}

Result<std::vector<SourceSet::Forgotten>> SourceSet::Forget(const std::string& text) {
  const std::vector<SourceSpec> readings = ReadingsOf(text);
  std::vector<Known> found;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, known] : sources_) {
      const SourceRow& row = known.source->row;
      const auto means = [&](const SourceSpec& spec) {
        return spec.kind == row.kind && spec.location == row.location &&
               (spec.selected.empty() || spec.selected == row.selected);
      };
      if (std::any_of(readings.begin(), readings.end(), means)) found.push_back(known);
    }
  }
  if (found.empty())
    return Error{Code::kNotFound, fmt::format("{} is no source that was added", Quote(text))};
  std::vector<Forgotten> forgotten;
  for (const Known& known : found) forgotten.push_back(ForgetSource(known));
  return forgotten;
}

Result<std::vector<SourceSet::Forgotten>> SourceSet::ForgetName(
    const std::string& repository, const std::optional<std::string>& tag) {
  std::vector<Known> giving;
  for (const Known& known : SourcesNaming(repository)) {
    const auto is_meant = [&](const LocalName& name) {
      return name.repository == repository && (!tag || name.tag == *tag);
    };
    const auto& names = known.table->names;
    if (std::none_of(names.begin(), names.end(), is_meant)) continue;
    for (const LocalName& name : names)
      if (!is_meant(name) && !IsImageNumber(name.tag))
        return Error{
            Code::kInvalid,
            fmt::format("{}{} is one of several names that {} gives; forget that source, "
                        "and add what is to stay",
                        repository, tag ? ":" + *tag : "", ToString(SpecOf(known.source->row)))};
    giving.push_back(known);
  }
  std::vector<Forgotten> forgotten;
  for (const Known& known : giving) forgotten.push_back(ForgetSource(known));
  return forgotten;
}

// --- names ---------------------------------------------------------------------------------------

std::vector<SourceSet::Known> SourceSet::SourcesNaming(const std::string& repository) const {
  MutexLock lock(mutex_);
  const auto at = by_repository_.find(repository);
  if (at == by_repository_.end()) return {};
  std::vector<Known> found;
  for (auto id = at->second.rbegin(); id != at->second.rend(); ++id)
    found.push_back(sources_.at(*id));
  return found;
}

std::vector<LocalName> SourceSet::LocalNamesOf(const std::string& repository) {
  std::vector<LocalName> found;
  std::set<std::string> tags;
  for (const Known& known : SourcesNaming(repository)) {
    const auto table = CurrentTable(known);
    if (!table) {
      LogWarning(
          fmt::format("source {}: {}", ToString(SpecOf(known.source->row)), table.error().message));
      continue;
    }
    const auto [begin, end] = (*table)->Of(repository);
    for (auto name = begin; name != end; ++name)
      if (!IsImageNumber(name->tag) && (name->tag.empty() || tags.insert(name->tag).second))
        found.push_back(*name);
  }
  return found;
}

std::vector<std::string> SourceSet::ImageNumbersOf(const std::string& repository) const {
  std::set<std::string> numbers;
  for (const Known& known : SourcesNaming(repository)) {
    const auto [begin, end] = known.table->Of(repository);
    for (auto name = begin; name != end; ++name)
      if (IsImageNumber(name->tag)) numbers.insert(name->tag);
  }
  return {numbers.begin(), numbers.end()};
}

Result<LocalName> SourceSet::Find(const std::string& repository, const std::string& tag) {
  const std::vector<Known> sources = SourcesNaming(repository);
  for (const Known& known : sources) {
    const LocalName* last = known.table->Find(repository, tag);
    if (last == nullptr && sources.size() > kManySources &&
        NowMs() - known.source->checked_ms < kLookAgainMs)
      continue;
    const auto table = CurrentTable(known);
    if (!table && last == nullptr) continue;
    if (!table)
      return Error{Code::kUnavailable, fmt::format("{}:{} is in a source that is away: {}",
                                                   repository, tag, table.error().message)};
    if (const LocalName* name = (*table)->Find(repository, tag)) return *name;
    const auto broken = (*table)->broken.find({repository, tag});
    if (broken != (*table)->broken.end()) return broken->second;
  }
  return Error{Code::kNotFound, fmt::format("{}:{} is in no local source", repository, tag)};
}

std::optional<Digest> SourceSet::ImageOfId(const std::string& repository, const Digest& id) const {
  for (const Known& known : SourcesNaming(repository)) {
    const auto at = known.table->by_image_id.find(id);
    if (at == known.table->by_image_id.end()) continue;
    const auto [begin, end] = known.table->Of(repository);
    const auto same = [&](const LocalName& name) { return name.digest == at->second; };
    if (std::any_of(begin, end, same)) return at->second;
  }
  return std::nullopt;
}

void SourceSet::Refresh(const std::string& repository) {
  for (const Known& known : SourcesNaming(repository))
    if (known.table->images == nullptr) (void)CurrentTable(known).has_value();
}

std::vector<std::string> SourceSet::LocalRepositories() const {
  MutexLock lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [repository, sources] : by_repository_) names.push_back(repository);
  return names;
}

// --- who holds what ------------------------------------------------------------------------------

bool SourceSet::IsOfDockerArchive(const std::vector<Known>& known, const std::string& repository,
                                  const Digest& image) {
  for (const Known& one : known) {
    if (one.source->row.kind != kDockerArchive) continue;
    const auto [begin, end] = one.table->Of(repository);
    if (std::any_of(begin, end, [&](const LocalName& name) { return name.digest == image; }))
      return true;
  }
  return false;
}

// That of the repository, then those that the image's own names name, else those of the
// repository's names: what an index holds has none.
void SourceSet::AddRegistries(const std::vector<Known>& known, const std::string& repository,
                              const Digest& image,
                              std::vector<std::shared_ptr<RepositorySource>>* sources) {
  const size_t slash = repository.find('/');
  const std::string host = repository.substr(0, slash);
  const auto add = [&](const std::string& registry, const std::string& path) {
    const auto hosts = RegistryOf(registry)->Sources(path, image);
    sources->insert(sources->end(), hosts.begin(), hosts.end());
  };
  if (host != "localhost" && slash != std::string::npos) add(host, repository.substr(slash + 1));
  std::set<RepositoryName> of_image;
  std::set<RepositoryName> of_others;
  for (const Known& one : known) {
    if (one.source->row.kind == kDockerArchive) continue;
    const auto [begin, end] = one.table->Of(repository);
    for (auto name = begin; name != end; ++name) {
      if (!name->registry_name || name->registry_name->ToString() == repository) continue;
      if (name->digest == image)
        of_image.insert(*name->registry_name);
      else if (of_others.size() < kMostCompleting)
        of_others.insert(*name->registry_name);
    }
  }
  const auto& chosen = of_image.empty() ? of_others : of_image;
  size_t added = 0;
  for (const RepositoryName& name : chosen)
    if (added++ < kMostCompleting) add(name.registry, name.path);
}

std::vector<std::shared_ptr<RepositorySource>> SourceSet::SourcesOf(const std::string& repository,
                                                                    const Digest& image) {
  const std::vector<Known> known = SourcesNaming(repository);
  std::vector<std::shared_ptr<RepositorySource>> found;
  std::vector<std::shared_ptr<RepositorySource>> lacking;
  for (const Known& one : known) {
    const auto& source = one.source->source;
    auto& place = source->MayHold(image) ? found : lacking;
    // Several may have been chosen from one archive.
    if (std::find(place.begin(), place.end(), source) == place.end()) place.push_back(source);
  }
  // The digests of docker-archive are made here: no registry has them.
  if (!IsOfDockerArchive(known, repository, image)) AddRegistries(known, repository, image, &found);
  lacking.resize(std::min(lacking.size(), kMostLacking));
  found.insert(found.end(), lacking.begin(), lacking.end());
  return found;
}

std::shared_ptr<Registry> SourceSet::RegistryOf(const std::string& host) {
  std::vector<std::shared_ptr<Registry>> dropped;  // ends connections and threads: without the lock
  MutexLock lock(mutex_);
  // Anybody may look up any host's name: those that never gave a byte are not kept for ever.
  if (registries_.size() >= kMostRegistries && !registries_.contains(host))
    dropped = TakeUnused(
        registries_, [](const Registry& registry) { return registry.counters().blob_bytes == 0; });
  std::shared_ptr<Registry>& registry = registries_[host];
  if (!registry) registry = Registry::Create(host, registry_options_);
  return registry;
}

std::vector<std::pair<std::string, std::shared_ptr<Registry>>> SourceSet::Registries() const {
  MutexLock lock(mutex_);
  return {registries_.begin(), registries_.end()};
}

}  // namespace lamina
