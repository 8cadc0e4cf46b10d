#include "overlay/link_resolver.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace lamina {

Status LinkResolver::Check(uint32_t layer) {
  const uint64_t count = stack_.layer(layer).facts().entry_count;
  for (uint32_t number = 0; number < count; ++number) {
    RETURN_IF_ERROR(work_.GoOn());
    ASSIGN_OR_RETURN(const LayerEntry entry, stack_.Entry(layer, number));
    if (entry.kind != LayerEntry::Kind::kExternalLink) continue;
    ResolvedName link;
    link.kind = ResolvedName::Kind::kExternalLink;
    link.layer = layer;
    link.entry = number;
    link.link_path = entry.link_path;
    const auto target = Follow(link);
    if (!target)
      return target.error().Within(fmt::format("{}: hard link {} to {}", stack_.NameOf(layer),
                                               Quote(PathOf(layer, number)),
                                               Quote(entry.link_path)));
    targets_[layer].push_back({number, *target});
  }
  return {};
}

Result<InodeRef> LinkResolver::Follow(const ResolvedName& link) {
  ResolvedName name = link;
  // Every round goes to a lower layer, so this ends.
  while (name.layer > 0) {
    if (const auto known = Known(name.layer, name.entry)) return *known;
    ASSIGN_OR_RETURN(name, Walk(name.layer - 1, name.link_path));
    switch (name.kind) {
      case ResolvedName::Kind::kFile:
        return name.inode;
      case ResolvedName::Kind::kDirectory:
        return Error{Code::kInvalid, "the target is a directory"};
      case ResolvedName::Kind::kAbsent:
      case ResolvedName::Kind::kWhiteout:
        return Error{Code::kInvalid, "the target is missing in the layers below"};
      case ResolvedName::Kind::kExternalLink:
        break;
    }
  }
  return Error{Code::kInvalid, "the target is missing, as there is no layer below"};
}

std::optional<InodeRef> LinkResolver::Known(uint32_t layer, uint32_t entry) const {
  const std::vector<Target>& targets = targets_[layer];
  const auto at =
      std::lower_bound(targets.begin(), targets.end(), entry,
                       [](const Target& target, uint32_t number) { return target.entry < number; });
  if (at == targets.end() || at->entry != entry) return std::nullopt;
  return at->inode;
}

Result<ResolvedName> LinkResolver::Walk(uint32_t top, std::string_view path) {
  RETURN_IF_ERROR(StartAt(top));
  size_t depth = 0;
  for (size_t slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/')) {
    ASSIGN_OR_RETURN(const bool found, Enter(++depth, path.substr(0, slash)));
    if (!found) return ResolvedName{};
    path.remove_prefix(slash + 1);
  }
  std::vector<LayerDirectory> below;
  return stack_.Find(levels_[depth].parts, path, work_, &below);
}

Status LinkResolver::StartAt(uint32_t top) {
  if (!levels_.empty() && top_ == top) return {};
  levels_.clear();
  Level root;
  ASSIGN_OR_RETURN(const ResolvedName found, stack_.Root(top, work_, &root.parts));
  (void)found;  // always a directory
  levels_.push_back(std::move(root));
  top_ = top;
  return {};
}

// Makes the folder of that name the level at `depth`, with what the last path left there where it
// is the same. False where there is no such folder.
Result<bool> LinkResolver::Enter(size_t depth, std::string_view name) {
  if (depth < levels_.size() && levels_[depth].name == name) return true;
  levels_.resize(depth);
  Level level;
  level.name = name;
  ASSIGN_OR_RETURN(const ResolvedName found,
                   stack_.Find(levels_[depth - 1].parts, name, work_, &level.parts));
  if (found.kind != ResolvedName::Kind::kDirectory) return false;
  levels_.push_back(std::move(level));
  return true;
}

// Children stand behind their directory in an index, so one walk to the front meets all folders of
// the path.
std::string LinkResolver::PathOf(uint32_t layer, uint32_t entry) const {
  const auto self = stack_.Entry(layer, entry);
  std::string path(self ? self->name : "?");
  for (uint32_t number = entry; number-- > 1;) {
    const auto folder = stack_.Entry(layer, number);
    if (!folder || entry < folder->first_child ||
        entry - folder->first_child >= folder->child_count)
      continue;
    path = std::string(folder->name) + "/" + path;
    entry = number;
  }
  return path;
}

}  // namespace lamina
