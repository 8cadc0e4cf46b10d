// Aliases as symbolic links: how they show, and how links that users make become aliases.

#include <fmt/core.h>

#include "base/text.h"
#include "fs/alias_target.h"
#include "fs/namespace.h"

namespace lamina {
namespace {

// A change of an alias is told to the kernel at once.
constexpr double kAliasSeconds = 60;

Error ReadOnly(const std::string& what) {
  return Error{Code::kUnsupported,
               what + ": only aliases in the folder of a repository can change"};
}

}  // namespace

void Namespace::AllowLinks(uint32_t uid, uint32_t gid) { link_owner_.emplace(uid, gid); }

Attempt<NodeEntry> Namespace::AliasEntry(const AliasRow& alias, bool may_wait) {
  const std::string place = alias.repository + "/" + alias.name;
  std::string name = alias.target_digest ? alias.target_digest->PathName() : alias.target_tag;
  std::string repository = alias.target_repository;
  double seconds = kAliasSeconds;
  if (!alias.platform.empty()) {
    // One image of an index: there is no name for it but its digest.
    if (!may_wait) return std::nullopt;
    const auto resolution = catalog_.ResolveTag(alias.repository, alias.name);
    if (!resolution && resolution.error().code == Code::kNotFound)
      return Negative(alias.repository);
    if (!resolution) return resolution.error();
    name = resolution->digest.PathName();
    repository = resolution->repository;
    seconds = TagSeconds(repository, *resolution);
  }
  return LinkEntry(place, AliasLinkText(alias.repository, repository, name), seconds, may_wait);
}

// The repository whose folder this is.
Result<std::string> Namespace::RepositoryOfLinks(NodeId folder) {
  const auto parts = SplitNode(folder);
  if (!links_allowed() || !parts || parts->kind != NodeClass::kDirectory)
    return ReadOnly("this is no folder of a repository");
  ASSIGN_OR_RETURN(const auto key, names_.Key(parts->row));
  if (!MayHoldTags(*key)) return ReadOnly(*key);
  if (catalog_.KnownPath(*key) == PathKind::kRepository) return *key;
  ASSIGN_OR_RETURN(const PathKind kind,
                   catalog_.Classify(RegistryOf(*key), RepositoryPathOf(*key)));
  if (kind == PathKind::kRepository) return *key;
  return ReadOnly(*key);
}

Result<NodeEntry> Namespace::MakeLink(NodeId parent, std::string_view name,
                                      std::string_view target) {
  ASSIGN_OR_RETURN(std::string repository, RepositoryOfLinks(parent));
  AliasRow alias{.repository = std::move(repository),
                 .name = std::string(name),
                 .target_repository = {},
                 .target_tag = {},
                 .target_digest = std::nullopt,
                 .platform = {},
                 .made_ns = clock_.NowNs()};
  RETURN_IF_ERROR(SetAliasLink(target, &alias));
  RETURN_IF_ERROR(catalog_.SetAliases({alias}));
  return Lookup(parent, name);
}

Status Namespace::RemoveLink(NodeId parent, std::string_view name) {
  ASSIGN_OR_RETURN(const std::string repository, RepositoryOfLinks(parent));
  // What a registry or a local source says is not ours to remove.
  if (!catalog_.AliasOf(repository, std::string(name)))
    return ReadOnly(fmt::format("{} of {}", Quote(name), repository));
  return catalog_.RemoveAlias(repository, std::string(name));
}

Status Namespace::RenameLink(NodeId parent, std::string_view name, NodeId new_parent,
                             std::string_view new_name) {
  ASSIGN_OR_RETURN(const std::string repository, RepositoryOfLinks(parent));
  if (new_parent != parent || !catalog_.AliasOf(repository, std::string(name)))
    return ReadOnly(fmt::format("{} of {}", Quote(name), repository));
  return catalog_.RenameAlias(repository, std::string(name), std::string(new_name));
}

}  // namespace lamina
