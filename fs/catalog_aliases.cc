// The part of the Catalog that keeps aliases and follows them.

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "fs/alias_target.h"
#include "fs/catalog.h"
#include "fs/namespace_names.h"

namespace lamina {
namespace {

// A chain over more other aliases than this is nobody's intention.
constexpr int kMostHops = 16;
constexpr size_t kMostAliases = 100'000;

// Of what was taken over from another machine.
constexpr const char* kImported = "imported";

}  // namespace

std::string Catalog::AliasEnd::ToString() const {
  return digest ? repository + "@" + digest->ToString() : repository + ":" + tag;
}

// --- following -----------------------------------------------------------------------------------

Result<Catalog::AliasEnd> Catalog::Follow(const AliasMap& aliases, const std::string& repository,
                                          const std::string& tag) {
  AliasEnd end{.repository = repository, .tag = tag, .digest = std::nullopt, .platform = {}};
  for (int hops = 0; hops <= kMostHops + 1; ++hops) {
    const auto in = aliases.find(end.repository);
    if (in == aliases.end()) return end;
    const auto at = in->second.find(end.tag);
    if (at == in->second.end()) return end;
    const AliasRow& alias = at->second;
    end.followed = true;
    if (end.platform.empty()) end.platform = alias.platform;
    end.repository = alias.target_repository;
    end.tag = alias.target_tag;
    end.digest = alias.target_digest;
    if (end.digest) return end;
  }
  return Error{Code::kLimit,
               fmt::format("the alias {}:{} leads in a circle or over more than {} others",
                           repository, tag, kMostHops)};
}

Result<Catalog::AliasEnd> Catalog::EndOf(const std::string& repository,
                                         const std::string& tag) const {
  MutexLock lock(mutex_);
  return Follow(aliases_, repository, tag);
}

Resolution Catalog::WithAlias(Resolution resolution, const AliasEnd& end) {
  resolution.alias_of = end.ToString();
  return resolution;
}

std::optional<Result<Resolution>> Catalog::KnownTag(const std::string& repository,
                                                    const std::string& tag) const {
  const auto end = EndOf(repository, tag);
  if (!end) return Result<Resolution>(end.error());
  if (!end->followed) return KnownAnswer(repository, tag);
  // To choose from an index may mean to ask for it.
  if (!end->platform.empty()) return std::nullopt;
  if (end->digest)
    return Result<Resolution>(WithAlias({.digest = *end->digest,
                                         .origin = "pin",
                                         .local = true,
                                         .seen_ns = clock_.NowNs(),
                                         .repository = end->repository},
                                        *end));
  auto known = KnownAnswer(end->repository, end->tag);
  if (known && *known) return Result<Resolution>(WithAlias(**std::move(known), *end));
  return known;
}

Result<Resolution> Catalog::ResolveTag(const std::string& repository, const std::string& tag) {
  if (auto known = KnownTag(repository, tag)) return *known;
  ASSIGN_OR_RETURN(const AliasEnd end, EndOf(repository, tag));
  if (!end.followed) return ResolvePlainTag(repository, tag);
  auto resolution = ResolveEnd(end);
  if (resolution) return resolution;
  return resolution.error().Within(fmt::format("{}:{} is an alias", repository, tag));
}

Result<Resolution> Catalog::ResolveEnd(const AliasEnd& end) {
  Resolution resolution{.digest = end.digest.value_or(Digest::Sha256({})),
                        .origin = "pin",
                        .local = true,
                        .seen_ns = clock_.NowNs(),
                        .repository = end.repository};
  if (!end.digest) {
    ASSIGN_OR_RETURN(resolution, ResolvePlainTag(end.repository, end.tag));
  }
  if (!end.platform.empty()) {
    ASSIGN_OR_RETURN(const Platform platform, Platform::Parse(end.platform));
    ASSIGN_OR_RETURN(resolution.digest,
                     DigestForPlatform(end.repository, resolution.digest, platform));
  }
  return WithAlias(std::move(resolution), end);
}

std::optional<Resolution> Catalog::LastAnswer(const std::string& repository,
                                              const std::string& tag) {
  if (const auto known = KnownTag(repository, tag); known && *known) return **known;
  const auto end = EndOf(repository, tag);
  if (!end || end->digest || !end->platform.empty()) return std::nullopt;
  auto last = AskLocal(end->repository, end->tag);
  if (!last) {
    const auto row = store_.CurrentTag(end->repository, end->tag);
    if (!row || !row->has_value()) return std::nullopt;
    last =
        Resolution{.digest = (*row)->digest, .origin = (*row)->origin, .seen_ns = (*row)->seen_ns};
  }
  last->repository = end->repository;
  return end->followed ? WithAlias(*std::move(last), *end) : *std::move(last);
}

// --- what there is -------------------------------------------------------------------------------

std::optional<AliasRow> Catalog::AliasOf(const std::string& repository,
                                         const std::string& name) const {
  MutexLock lock(mutex_);
  const auto in = aliases_.find(repository);
  if (in == aliases_.end()) return std::nullopt;
  const auto at = in->second.find(name);
  return at == in->second.end() ? std::nullopt : std::optional(at->second);
}

std::vector<AliasRow> Catalog::Aliases(const std::string& repository) const {
  std::vector<AliasRow> found;
  MutexLock lock(mutex_);
  for (const auto& [name, aliases] : aliases_)
    if (repository.empty() || name == repository)
      for (const auto& [alias, row] : aliases) found.push_back(row);
  return found;
}

std::vector<std::string> Catalog::AliasesTo(const std::string& repository,
                                            const Digest& digest) const {
  std::vector<std::string> found;
  MutexLock lock(mutex_);
  for (const auto& [place, aliases] : aliases_) {
    for (const auto& [name, alias] : aliases) {
      const auto end = Follow(aliases_, place, name);
      if (!end || end->repository != repository || !end->platform.empty()) continue;
      const auto answer = tags_.find(repository + ":" + end->tag);
      const bool resolved = answer != tags_.end() && answer->second.resolution.has_value();
      if (end->digest == digest || (resolved && answer->second.resolution->digest == digest))
        found.push_back(place + ":" + name);
    }
  }
  return found;
}

void Catalog::AddAliases(const std::string& repository, std::map<std::string, TagName>* found) {
  for (AliasRow& alias : Aliases(repository)) {
    TagName& tag = (*found)[alias.name];
    tag.known = LastAnswer(repository, alias.name);
    tag.first_ns = 0;
    tag.moved = false;
    tag.alias = std::move(alias);
  }
}

// --- changes -------------------------------------------------------------------------------------

Status Catalog::CheckAlias(const AliasRow& row) const {
  const std::string name = row.repository + ":" + row.name;
  const auto bad = [&](const std::string& reason) {
    return Error{Code::kInvalid, fmt::format("{} cannot be an alias: {}", Quote(name), reason)};
  };
  RETURN_IF_ERROR(CheckRepositoryName(row.repository));
  RETURN_IF_ERROR(CheckRepositoryName(row.target_repository));
  if (!IsValidTag(row.name) || ParseNameForm(row.name).kind != NameForm::Kind::kPlain)
    return bad("its name is no tag");
  if (KnownPath(row.repository + "/" + row.name) != PathKind::kNothing)
    return bad("a folder of repositories has this name");
  if (row.target_digest.has_value() == IsValidTag(row.target_tag))
    return bad("its target is neither a tag nor a digest");
  if (row.platform.empty()) return {};
  RETURN_IF_ERROR(Platform::Parse(row.platform));
  return {};
}

Status Catalog::SetAliases(const std::vector<AliasRow>& rows) {
  for (const AliasRow& row : rows) RETURN_IF_ERROR(CheckAlias(row));
  RETURN_IF_ERROR(ChangeAliases({.remove = {}, .put = rows}));
  for (const AliasRow& row : rows)
    LogInfo(fmt::format("alias {}:{} leads to {}", row.repository, row.name,
                        AliasTargetText(row, true)));
  return {};
}

Status Catalog::RemoveAlias(const std::string& repository, const std::string& name) {
  RETURN_IF_ERROR(ChangeAliases({.remove = {{repository, name}}, .put = {}}));
  LogInfo(fmt::format("alias {}:{} is removed", repository, name));
  return {};
}

Status Catalog::RenameAlias(const std::string& repository, const std::string& from,
                            const std::string& to) {
  auto alias = AliasOf(repository, from);
  if (!alias) return Error{Code::kNotFound, fmt::format("{}:{} is no alias", repository, from)};
  alias->name = to;
  RETURN_IF_ERROR(CheckAlias(*alias));
  RETURN_IF_ERROR(ChangeAliases({.remove = {{repository, from}}, .put = {*alias}}));
  LogInfo(fmt::format("alias {}:{} is {} now", repository, from, to));
  return {};
}

Status Catalog::ChangeAliases(const Store::AliasChange& change) {
  ASSIGN_OR_RETURN(const Store::AliasState state,
                   store_.ChangeAliases(change, [&](const std::vector<AliasRow>& all) {
                     return CheckChains(all, change.put);
                   }));
  AliasMap after = MapOf(state.rows);
  {
    MutexLock lock(mutex_);
    for (const AliasRow& row : change.put) repositories_.insert(row.repository);
    if (state.change > alias_change_) {
      alias_change_ = state.change;
      aliases_.swap(after);
    }
  }
  UpdatePins();
  Changed();
  return {};
}

Catalog::AliasMap Catalog::MapOf(const std::vector<AliasRow>& rows) {
  AliasMap aliases;
  for (const AliasRow& row : rows) aliases[row.repository][row.name] = row;
  return aliases;
}

// A circle that was not there before leads over one of the new ones.
Status Catalog::CheckChains(const std::vector<AliasRow>& all, const std::vector<AliasRow>& added) {
  if (all.size() > kMostAliases && !added.empty())
    return Error{Code::kNoSpace, fmt::format("there would be {} aliases, more than the limit of {}",
                                             all.size(), kMostAliases)};
  const AliasMap aliases = MapOf(all);
  for (const AliasRow& row : added) RETURN_IF_ERROR(Follow(aliases, row.repository, row.name));
  return {};
}

Status Catalog::ImportTag(const std::string& repository, const std::string& tag,
                          const Digest& digest) {
  ASSIGN_OR_RETURN(const auto known, store_.CurrentTag(repository, tag));
  if (known) return {};
  const int64_t now = clock_.NowNs();
  ASSIGN_OR_RETURN([[maybe_unused]] const bool moved, store_.RecordTag({.repository = repository,
                                                                        .tag = tag,
                                                                        .digest = digest,
                                                                        .origin = kImported,
                                                                        .seen_ns = now,
                                                                        .first_ns = now}));
  LearnRepository(repository);
  return {};
}

}  // namespace lamina
