#include "fs/catalog.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"

namespace lamina {
namespace {

// A stale answer is asked for again soon: the registry may be back.
constexpr std::chrono::seconds kStaleTtl{5};
// More answers than this are dropped together; they are asked for again.
constexpr size_t kMostAnswers = 100'000;
constexpr size_t kMostListings = 1'000;

std::string RegistryPart(const std::string& name) { return name.substr(0, name.find('/')); }

std::string PathPart(const std::string& name) {
  const size_t slash = name.find('/');
  return slash == std::string::npos ? "" : name.substr(slash + 1);
}

// Answers that say nothing of the tag: the source is away, or lets us in no more.
bool MayHaveKnown(Code code) {
  return code == Code::kUnavailable || code == Code::kTimeout || code == Code::kDenied;
}

// Of a registry also: how it is to be asked cannot be read, or makes no sense to it.
bool MayHaveKnownOfRegistry(Code code) {
  return MayHaveKnown(code) || code == Code::kInvalid || code == Code::kIo;
}

// What a registry says of a repository that it does not have or will not show.
bool IsRefusal(Code code) {
  return code == Code::kNotFound || code == Code::kDenied || code == Code::kUnsupported;
}

// The names in a sorted set that are `prefix` itself or lie below it.
template <typename Visit>
void ForEachBelow(const std::set<std::string>& names, const std::string& prefix,
                  const Visit& visit) {
  const std::string below = prefix + "/";
  for (auto at = names.lower_bound(below); at != names.end() && at->starts_with(below); ++at)
    visit(*at);
}

std::string NextComponent(const std::string& name, size_t from) {
  return name.substr(from, name.find('/', from) - from);
}

}  // namespace

Catalog::Catalog(StorePaths paths, Store& store, LayerStore& layers, CatalogOptions options,
                 const WallClock& clock)
    : paths_(std::move(paths)),
      store_(store),
      layers_(layers),
      options_(std::move(options)),
      clock_(clock),
      archives_(layers),
      sources_(store, archives_, options_.registry),
      generation_ns_(clock.NowNs()) {}

Catalog::~Catalog() = default;

Status Catalog::Load() {
  RETURN_IF_ERROR(sources_.Load());
  ASSIGN_OR_RETURN(const std::vector<std::string> stored, store_.Repositories());
  const std::vector<std::string> local = sources_.LocalRepositories();
  ASSIGN_OR_RETURN(const std::vector<AliasRow> aliases, store_.Aliases());
  UpdatePins();
  MutexLock lock(mutex_);
  repositories_.insert(stored.begin(), stored.end());
  repositories_.insert(local.begin(), local.end());
  aliases_ = MapOf(aliases);
  return {};
}

// --- tags ----------------------------------------------------------------------------------------

std::optional<Result<Resolution>> Catalog::KnownAnswer(const std::string& repository,
                                                       const std::string& tag) const {
  MutexLock lock(mutex_);
  const auto at = tags_.find(repository + ":" + tag);
  if (at == tags_.end() || at->second.fresh_until.passed()) return std::nullopt;
  return at->second.resolution;
}

Result<Resolution> Catalog::ResolvePlainTag(const std::string& repository, const std::string& tag) {
  if (auto known = KnownAnswer(repository, tag)) return *known;
  return tag_flights_.Do(repository + ":" + tag, [&] { return AskForTag(repository, tag); });
}

Result<Resolution> Catalog::AskForTag(const std::string& repository, const std::string& tag) {
  if (auto known = KnownAnswer(repository, tag)) return *known;
  Result<Resolution> answer = AskLocal(repository, tag);
  // A local source that is away is no reason to give the tag another meaning.
  const bool is_number = IsImageNumber(tag);  // no registry has such a tag
  const bool remote = !answer && answer.error().code == Code::kNotFound && !is_number;
  if (remote) answer = AskRegistry(repository, tag);
  std::chrono::seconds ttl =
      answer ? options_.TagTtl(repository) : options_.NegativeTtl(repository);
  const auto may_have_known = remote ? MayHaveKnownOfRegistry : MayHaveKnown;
  if (!answer && may_have_known(answer.error().code)) {
    answer = LastKnown(repository, tag, answer.error());
    ttl = kStaleTtl;
  }
  if (answer && !answer->stale && !is_number) Record(repository, tag, *answer);
  if (answer) answer->repository = repository;
  // Only what a source has said is remembered; a failure to ask is delivered once.
  if (answer || answer.error().code == Code::kNotFound) {
    MutexLock lock(mutex_);
    if (tags_.size() > kMostAnswers) tags_.clear();
    tags_.insert_or_assign(repository + ":" + tag, TagAnswer{answer, Deadline::After(ttl)});
  }
  return answer;
}

Result<Resolution> Catalog::AskLocal(const std::string& repository, const std::string& tag) {
  ASSIGN_OR_RETURN(const LocalName name, sources_.Find(repository, tag));
  return Resolution{.digest = name.digest,
                    .origin = name.source->origin(),
                    .local = true,
                    .seen_ns = clock_.NowNs()};
}

Result<Resolution> Catalog::AskRegistry(const std::string& repository, const std::string& tag) {
  const std::string host = RegistryPart(repository);
  if (host == "localhost")
    return Error{Code::kNotFound, fmt::format("{} has no tag {}", repository, tag)};
  const auto row = store_.CurrentTag(repository, tag);
  const bool known = row && row->has_value();  // then that is the answer of a registry that is away
  const auto source =
      sources_.RegistryOf(host)->Repository(PathPart(repository), tag, /*hasty=*/known);
  const Deadline deadline = NameBound();
  ASSIGN_OR_RETURN(const auto unmoved, UnmovedDigest(*source, repository, tag, deadline));
  if (unmoved)
    return Resolution{.digest = *unmoved, .origin = source->origin(), .seen_ns = clock_.NowNs()};
  ASSIGN_OR_RETURN(const Document document, source->FetchTag(tag, deadline));
  Keep(document, repository + ":" + tag);
  return Resolution{
      .digest = document.digest, .origin = source->origin(), .seen_ns = clock_.NowNs()};
}

Result<Resolution> Catalog::LastKnown(const std::string& repository, const std::string& tag,
                                      const Error& reason) {
  auto row = store_.CurrentTag(repository, tag);
  if (!row || !row->has_value()) return reason;
  LogWarning(fmt::format("{}:{} is served as last seen: {}", repository, tag, reason.message));
  return Resolution{.digest = (*row)->digest,
                    .origin = (*row)->origin,
                    .stale = true,
                    .seen_ns = (*row)->seen_ns,
                    .stale_reason = reason.message};
}

void Catalog::Record(const std::string& repository, const std::string& tag,
                     const Resolution& resolution) {
  LearnRepository(repository);
  auto moved = store_.RecordTag({.repository = repository,
                                 .tag = tag,
                                 .digest = resolution.digest,
                                 .origin = resolution.origin,
                                 .seen_ns = resolution.seen_ns,
                                 .first_ns = resolution.seen_ns});
  if (!moved)
    return LogWarning(
        fmt::format("{}:{} is not recorded: {}", repository, tag, moved.error().message));
  if (Status known = store_.RecordImage(repository, resolution.digest, resolution.seen_ns); !known)
    LogWarning(fmt::format("{}:{} is not recorded: {}", repository, tag, known.error().message));
  if (*moved) {
    LogInfo(fmt::format("tag {}:{} moved to {}", repository, tag, resolution.digest.ToString()));
    Changed();
  }
}

Result<Resolution> Catalog::Resolve(const Reference& reference) {
  const std::string repository = reference.repository.ToString();
  if (!reference.digest) return ResolveTag(repository, reference.tag_or_latest());
  const Digest digest = ImageOfId(repository, *reference.digest, true).value_or(*reference.digest);
  ASSIGN_OR_RETURN(const auto image, OpenImage(repository, digest));
  return Resolution{.digest = digest,
                    .origin = image->documents().origin,
                    .local = image->documents().local,
                    .seen_ns = clock_.NowNs(),
                    .repository = repository};
}

// --- paths ---------------------------------------------------------------------------------------

Result<bool> Catalog::RegistryExists(const std::string& registry) {
  if (registry == "localhost" || registry == "docker.io" ||
      KnownPath(registry) != PathKind::kNothing)
    return true;
  ASSIGN_OR_RETURN(const PathKind kind, path_flights_.Do(registry, [&]() -> Result<PathKind> {
    {
      MutexLock lock(mutex_);
      const auto at = paths_answers_.find(registry);
      if (at != paths_answers_.end() && !at->second.fresh_until.passed()) return at->second.kind;
    }
    const Status answers = sources_.RegistryOf(registry)->Ping(NameBound());
    // Wrong credentials are an answer of a registry too.
    if (!answers && answers.error().code != Code::kDenied &&
        answers.error().code != Code::kNotFound)
      return answers.error();
    const PathKind found = !answers && answers.error().code == Code::kNotFound ? PathKind::kNothing
                                                                               : PathKind::kPrefix;
    MutexLock lock(mutex_);
    paths_answers_.insert_or_assign(registry,
                                    PathAnswer{found, Deadline::After(options_.TagTtl(registry))});
    return found;
  }));
  return kind != PathKind::kNothing;
}

PathKind Catalog::KnownPath(const std::string& name) const {
  MutexLock lock(mutex_);
  if (repositories_.contains(name)) return PathKind::kRepository;
  const auto next = repositories_.lower_bound(name + "/");
  const bool below = next != repositories_.end() && next->starts_with(name + "/");
  return below ? PathKind::kPrefix : PathKind::kNothing;
}

Result<PathKind> Catalog::Classify(const std::string& registry, const std::string& path) {
  const std::string name = registry + "/" + path;
  if (const PathKind known = KnownPath(name); known != PathKind::kNothing) return known;
  if (registry == "localhost") return PathKind::kNothing;
  return path_flights_.Do(name, [&]() -> Result<PathKind> {
    {
      MutexLock lock(mutex_);
      const auto at = paths_answers_.find(name);
      if (at != paths_answers_.end() && !at->second.fresh_until.passed()) return at->second.kind;
    }
    ASSIGN_OR_RETURN(const PathKind kind, AskForPath(registry, path));
    if (kind == PathKind::kRepository) LearnRepository(name);
    const auto ttl =
        kind == PathKind::kNothing ? options_.NegativeTtl(registry) : options_.TagTtl(registry);
    MutexLock lock(mutex_);
    if (paths_answers_.size() > kMostAnswers) paths_answers_.clear();
    paths_answers_.insert_or_assign(name, PathAnswer{kind, Deadline::After(ttl)});
    return kind;
  });
}

Result<PathKind> Catalog::AskForPath(const std::string& registry, const std::string& path) {
  const auto tags = RegistryTags(registry + "/" + path);
  if (tags) return PathKind::kRepository;
  if (!IsRefusal(tags.error().code)) return tags.error();
  if (registry == "docker.io") {
    // Docker Hub has no catalog, but a fixed shape: namespace/name.
    if (path.find('/') == std::string::npos) return PathKind::kPrefix;
    return PathKind::kNothing;
  }
  const auto catalog = RegistryCatalog(registry);
  if (!catalog)
    return IsRefusal(catalog.error().code) ? Result<PathKind>(PathKind::kPrefix) : catalog.error();
  const auto below = [&](const std::string& name) { return name.starts_with(path + "/"); };
  return std::any_of(catalog->begin(), catalog->end(), below) ? PathKind::kPrefix
                                                              : PathKind::kNothing;
}

// --- listings ------------------------------------------------------------------------------------

Result<std::vector<std::string>> Catalog::RegistryTags(const std::string& repository) {
  const std::string host = RegistryPart(repository);
  if (host == "localhost") return Error{Code::kUnsupported, "localhost names local images only"};
  {
    MutexLock lock(mutex_);
    const auto at = listings_.find(repository);
    if (at != listings_.end() && !at->second.fresh_until.passed()) return at->second.names;
  }
  ASSIGN_OR_RETURN(
      std::vector<std::string> tags,
      sources_.RegistryOf(host)->Repository(PathPart(repository))->ListTags(NameBound()));
  MutexLock lock(mutex_);
  if (listings_.size() > kMostListings) listings_.clear();
  listings_.insert_or_assign(repository,
                             Listing{tags, Deadline::After(options_.TagTtl(repository))});
  return tags;
}

Result<std::vector<std::string>> Catalog::RegistryCatalog(const std::string& registry) {
  {
    MutexLock lock(mutex_);
    const auto at = listings_.find(registry);
    if (at != listings_.end() && !at->second.fresh_until.passed()) return at->second.names;
  }
  ASSIGN_OR_RETURN(std::vector<std::string> names,
                   sources_.RegistryOf(registry)->ListRepositories(NameBound()));
  MutexLock lock(mutex_);
  if (listings_.size() > kMostListings) listings_.clear();
  listings_.insert_or_assign(registry,
                             Listing{names, Deadline::After(options_.NegativeTtl(registry))});
  return names;
}

std::vector<std::string> Catalog::KnownRegistries() const {
  std::set<std::string> found{"docker.io", "localhost"};
  MutexLock lock(mutex_);
  for (const std::string& name : repositories_) found.insert(RegistryPart(name));
  return {found.begin(), found.end()};
}

std::vector<std::string> Catalog::KnownChildren(const std::string& prefix) const {
  std::set<std::string> found;
  MutexLock lock(mutex_);
  ForEachBelow(repositories_, prefix, [&](const std::string& name) {
    found.insert(NextComponent(name, prefix.size() + 1));
  });
  return {found.begin(), found.end()};
}

std::vector<std::string> Catalog::Children(const std::string& prefix) {
  const std::vector<std::string> known = KnownChildren(prefix);
  std::set<std::string> found(known.begin(), known.end());
  const std::string registry = RegistryPart(prefix);
  if (registry == "localhost" || registry == "docker.io") return known;
  const auto catalog = RegistryCatalog(registry);
  if (!catalog) return known;
  const std::string below = prefix + "/";
  for (const std::string& path : *catalog) {
    const std::string name = registry + "/" + path;
    if (name.starts_with(below)) found.insert(NextComponent(name, below.size()));
  }
  return {found.begin(), found.end()};
}

std::vector<Digest> Catalog::KnownImages(const std::string& repository) const {
  auto images = store_.Images(repository);
  return images ? *std::move(images) : std::vector<Digest>();
}

std::vector<std::string> Catalog::KnownRepositories() const {
  MutexLock lock(mutex_);
  return {repositories_.begin(), repositories_.end()};
}

// --- changes -------------------------------------------------------------------------------------

void Catalog::LearnRepository(const std::string& repository) {
  {
    MutexLock lock(mutex_);
    if (!repositories_.insert(repository).second) return;
  }
  Changed();
}

void Catalog::Changed() {
  generation_ns_ = clock_.NowNs();
  ++generation_;
  std::vector<std::function<void()>> callbacks;
  {
    MutexLock lock(mutex_);
    callbacks = callbacks_;
  }
  for (const auto& callback : callbacks) callback();
}

uint64_t Catalog::generation() const { return generation_; }
int64_t Catalog::generation_ns() const { return generation_ns_; }

void Catalog::OnChange(std::function<void()> callback) {
  MutexLock lock(mutex_);
  callbacks_.push_back(std::move(callback));
}

std::vector<Catalog::RegistryStatus> Catalog::registries() const {
  std::vector<RegistryStatus> found;
  for (const auto& [host, registry] : sources_.Registries()) {
    const RegistryCounters& counters = registry->counters();
    found.push_back({host, counters.requests, counters.range_requests, counters.blob_bytes,
                     counters.token_requests, counters.retries});
  }
  return found;
}

}  // namespace lamina
