#include "overlay/layer_stack.h"

#include <fmt/format.h>

namespace lamina {

std::string LayerStack::NameOf(uint32_t layer) const {
  return fmt::format("layer {} ({})", layer, layers_[layer]->facts().blob_digest.ToString());
}

Result<LayerEntry> LayerStack::Entry(uint32_t layer, uint32_t number) const {
  auto entry = layers_[layer]->Entry(number);
  if (!entry) return entry.error().Within(NameOf(layer));
  return entry;
}

Result<LayerInode> LayerStack::Inode(InodeRef ref) const {
  auto inode = layers_[ref.layer]->Inode(ref.inode);
  if (!inode) return inode.error().Within(NameOf(ref.layer));
  return inode;
}

Result<ResolvedName> LayerStack::Root(uint32_t top, BuildWork& work,
                                      std::vector<LayerDirectory>* parts) const {
  NameResolver resolver(*this, parts);
  for (uint32_t layer = top + 1; layer-- > 0;) {
    RETURN_IF_ERROR(work.SpendSearch(0));
    ASSIGN_OR_RETURN(const LayerEntry entry, Entry(layer, 0));
    ASSIGN_OR_RETURN(const bool more, resolver.Add(layer, 0, entry));
    if (resolver.name().kind != ResolvedName::Kind::kDirectory)
      return Error{Code::kCorrupt, NameOf(layer) + ": the root of its index is not a directory"};
    if (!more) break;
  }
  return resolver.name();
}

Result<std::optional<uint32_t>> LayerStack::FindIn(const LayerDirectory& directory,
                                                   std::string_view name, BuildWork& work) const {
  RETURN_IF_ERROR(work.SpendSearch(directory.child_count));
  uint32_t low = 0;
  uint32_t high = directory.child_count;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const uint32_t number = directory.first_child + middle;
    ASSIGN_OR_RETURN(const LayerEntry entry, Entry(directory.layer, number));
    const int order = entry.name.compare(name);
    if (order == 0) return std::optional<uint32_t>(number);
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return std::optional<uint32_t>();
}

Result<ResolvedName> LayerStack::Find(std::span<const LayerDirectory> parts, std::string_view name,
                                      BuildWork& work, std::vector<LayerDirectory>* below) const {
  NameResolver resolver(*this, below);
  for (const LayerDirectory& part : parts) {
    ASSIGN_OR_RETURN(const std::optional<uint32_t> number, FindIn(part, name, work));
    if (!number) continue;
    ASSIGN_OR_RETURN(const LayerEntry entry, Entry(part.layer, *number));
    ASSIGN_OR_RETURN(const bool more, resolver.Add(part.layer, *number, entry));
    if (!more) break;
  }
  return resolver.name();
}

Result<bool> NameResolver::Add(uint32_t layer, uint32_t number, const LayerEntry& entry) {
  const bool first = name_.kind == ResolvedName::Kind::kAbsent;
  if (first) {
    name_.layer = layer;
    name_.entry = number;
  }
  if (entry.kind != LayerEntry::Kind::kInode) {
    if (!first) return false;
    name_.kind = entry.kind == LayerEntry::Kind::kWhiteout ? ResolvedName::Kind::kWhiteout
                                                           : ResolvedName::Kind::kExternalLink;
    name_.link_path = entry.link_path;
    return false;
  }
  ASSIGN_OR_RETURN(const LayerInode inode, stack_.Inode({layer, entry.inode}));
  if (inode.type == EntryType::kHardlink)
    return Error{Code::kCorrupt, stack_.NameOf(layer) + ": its index holds an inode of type link"};
  if (inode.type == EntryType::kDirectory) return AddDirectory(layer, entry);
  if (first) {
    name_.kind = ResolvedName::Kind::kFile;
    name_.inode = {layer, entry.inode};
  }
  return false;
}

Result<bool> NameResolver::AddDirectory(uint32_t layer, const LayerEntry& entry) {
  if (name_.kind == ResolvedName::Kind::kAbsent) {
    name_.kind = ResolvedName::Kind::kDirectory;
    name_.opaque = entry.opaque;
  }
  if (!hidden_) parts_->push_back({layer, entry.first_child, entry.child_count});
  hidden_ = hidden_ || entry.opaque;
  if (!entry.implicit && !name_.attributes) name_.attributes = InodeRef{layer, entry.inode};
  return !entry.replaces && (!hidden_ || !name_.attributes);
}

}  // namespace lamina
