#include "fs/alias_target.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/text.h"
#include "fetch/reference.h"
#include "fs/namespace_names.h"

namespace lamina {
namespace {

Error NoTarget(std::string_view text, std::string_view reason) {
  return Error{Code::kInvalid, fmt::format("{} is no target of an alias: {}", Quote(text), reason)};
}

// The components of a repository's canonical path below the mount point.
std::vector<std::string> FoldersOf(const std::string& repository) {
  std::vector<std::string> folders;
  for (const std::string_view part : Split(repository, '/')) folders.emplace_back(part);
  folders.front() = RegistryFolder(folders.front());
  return folders;
}

// Where a relative path leads from a folder, by its text alone; empty where it leaves the mount.
std::vector<std::string> WalkFrom(std::vector<std::string> place, std::string_view path) {
  for (const std::string_view part : Split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      place.emplace_back(part);
    } else if (place.empty()) {
      return {};
    } else {
      place.pop_back();
    }
  }
  return place;
}

// The last component: a tag or digest of the repository above it, or NAME:TAG and NAME@DIGEST,
// which go one deeper.
Status SetName(std::string_view text, std::string_view name, std::string repository,
               AliasRow* row) {
  const NameForm form = ParseNameForm(name);
  row->target_tag.clear();
  row->target_digest = form.digest;
  switch (form.kind) {
    case NameForm::Kind::kInvalid:
    case NameForm::Kind::kNumberLink:  // another image once the source has changed
      return NoTarget(text, "it names neither a tag nor a digest");
    case NameForm::Kind::kPlain:
      if (!IsValidTag(name)) return NoTarget(text, "it names no tag");
      row->target_tag = name;
      break;
    case NameForm::Kind::kTagLink:
      row->target_tag = form.tag;
      repository += "/" + form.component;
      break;
    case NameForm::Kind::kPinLink:
      repository += "/" + form.component;
      break;
    case NameForm::Kind::kImageFolder:
    case NameForm::Kind::kDigestLink:
      break;
  }
  RETURN_IF_ERROR(CheckRepositoryName(repository));
  row->target_repository = std::move(repository);
  return {};
}

}  // namespace

Status CheckRepositoryName(const std::string& name) {
  const std::string registry = RegistryOf(name);
  const std::string path = RepositoryPathOf(name);
  const bool valid = IsValidRegistry(registry) && IsValidRepositoryPath(path) && name.size() <= 255;
  if (valid && MayHoldTags(name)) return {};
  return Error{Code::kInvalid, Quote(name) + " is not a repository"};
}

Status SetAliasTarget(std::string_view text, AliasRow* row) {
  const NameForm::Kind kind = ParseNameForm(text).kind;
  if (IsValidTag(text) || kind == NameForm::Kind::kImageFolder ||
      kind == NameForm::Kind::kDigestLink)
    return SetName(text, text, row->repository, row);
  if (text.starts_with("sha256:") || text.starts_with("sha512:"))
    return NoTarget(text, "it begins as a digest and is none");
  ASSIGN_OR_RETURN(const Reference reference, Reference::Parse(text));
  row->target_repository = reference.repository.ToString();
  row->target_digest = reference.digest;
  row->target_tag = reference.digest ? "" : reference.tag_or_latest();
  return {};
}

Status SetAliasLink(std::string_view text, AliasRow* row) {
  if (text.starts_with("/")) return NoTarget(text, "write it relative to the folder of the link");
  std::vector<std::string> parts = WalkFrom(FoldersOf(row->repository), text);
  if (parts.size() < 2) return NoTarget(text, "it leads out of all repositories");
  // Both names of a registry are taken.
  std::string repository = RegistryOfFolder(parts.front()).value_or(parts.front());
  for (size_t i = 1; i + 1 < parts.size(); ++i) {
    if (!IsUsableComponent(parts[i])) return NoTarget(text, "it leads through no repository");
    repository += "/" + parts[i];
  }
  return SetName(text, parts.back(), std::move(repository), row);
}

std::string AliasTargetText(const AliasRow& row, bool full) {
  const bool beside = row.target_repository == row.repository && !full;
  if (row.target_digest)
    return (beside ? "" : row.target_repository + "@") + row.target_digest->ToString();
  return (beside ? "" : row.target_repository + ":") + row.target_tag;
}

std::string AliasLinkText(const std::string& repository, const std::string& target_repository,
                          const std::string& name) {
  const std::vector<std::string> from = FoldersOf(repository);
  const std::vector<std::string> to = FoldersOf(target_repository);
  const auto [apart, other] = std::mismatch(from.begin(), from.end(), to.begin(), to.end());
  std::string text;
  for (auto at = apart; at != from.end(); ++at) text += "../";
  for (auto at = other; at != to.end(); ++at) text += *at + "/";
  return text + name;
}

}  // namespace lamina
