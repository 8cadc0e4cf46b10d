#include "fs/namespace.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/text.h"

namespace lamina {
namespace {

// The blocking forms run with may_wait, where nothing answers "would wait".
template <typename T>
Result<T> Answer(Attempt<T> attempt) {
  if (!attempt) return Error{Code::kInternal, "a blocking operation would not block"};
  return *std::move(attempt);
}

Error NoSuchNode(NodeId node) {
  return Error{Code::kNotFound, "there is no node " + std::to_string(node)};
}

size_t CopyFrom(std::string_view text, uint64_t offset, MutableByteSpan out) {
  if (offset >= text.size()) return 0;
  const size_t count = std::min<uint64_t>(out.size(), text.size() - offset);
  std::memcpy(out.data(), text.data() + offset, count);
  return count;
}

}  // namespace

Namespace::Namespace(Catalog& catalog, Store& store, const LayerStore& layers, std::string version,
                     const WallClock& clock)
    : catalog_(catalog),
      layers_(layers),
      version_(std::move(version)),
      clock_(clock),
      started_ns_(clock.NowNs()),
      names_(store, NodeKind::kName),
      image_keys_(store, NodeKind::kImage) {
  catalog_.SetKeepers({.held = [this] { return KeysOfHeldImages(); },
                       .held_changes = [this] { return held_images_.changes(); },
                       .let_go = [this](const Image& image) { LetGo(image); }});
}

Namespace::~Namespace() { catalog_.SetKeepers({}); }

// --- the blocking forms

Result<NodeEntry> Namespace::Lookup(NodeId parent, std::string_view name) {
  Result<NodeEntry> found = Answer(LookupIn(parent, name, true));
  // Trees write down their own failures.
  const KeyPtr folder = FolderOfNames(parent);
  if (folder == nullptr) return found;
  // That a name is not there is an answer, not a failure.
  const bool answered = found || found.error().code == Code::kNotFound;
  if (answered) {
    name_failures_.Clear(*folder);
  } else {
    LogWarning(Quote(name) + " cannot be looked up: " + found.error().message);
    name_failures_.Note(*folder, name, found.error());
  }
  return found;
}
Result<NodeAttributes> Namespace::GetAttr(NodeId node) { return Answer(AttrOf(node, true)); }
Result<std::string> Namespace::ReadLink(NodeId node) { return Answer(LinkOf(node, true)); }
Result<size_t> Namespace::Read(NodeId node, uint64_t offset, MutableByteSpan out,
                               const Deadline& deadline) {
  return Answer(ReadAt(node, offset, out, &deadline));
}
Status Namespace::ReadDirectory(NodeId node, uint64_t cookie, bool attributes,
                                const DirectoryVisitor& visit) {
  return Answer(ListFrom(node, cookie, attributes, visit, true));
}
Result<std::optional<uint64_t>> Namespace::Seek(NodeId node, uint64_t offset, bool hole) {
  return Answer(SeekIn(node, offset, hole, true));
}
Result<std::optional<std::string>> Namespace::Xattr(NodeId node, std::string_view name) {
  return Answer(XattrOf(node, name, true));
}
Result<std::string> Namespace::ListXattr(NodeId node) { return Answer(XattrNamesOf(node, true)); }

// --- which part answers

Attempt<NodeEntry> Namespace::LookupIn(NodeId parent, std::string_view name, bool may_wait) {
  const auto parts = SplitNode(parent);
  if (!parts) return NoSuchNode(parent);
  // The kernel resolves these itself, except for file handles (name_to_handle_at, overlayfs).
  if (name == ".") return EntryOf(parent, may_wait);
  if (name == "..") {
    ATTEMPT(const NodeId up, ParentOf(parent, may_wait));
    return EntryOf(up, may_wait);
  }
  if (parts->kind == NodeClass::kTree) return LookupInTree(*parts, name, may_wait);
  if (parts->kind == NodeClass::kImage) return LookupInImage(*parts, name, may_wait);
  if (parent == kSelfFolderNode) return LookupInSelf(name);
  Attempt<NodeEntry> found = NodeEntry{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};
  if (parent == kRootNode) found = LookupInRoot(name, may_wait);
  if (parts->kind == NodeClass::kDirectory) {
    ATTEMPT(const KeyPtr key, NameKey(parts->row, may_wait));
    found = LookupInDirectory(*key, name, may_wait);
  }
  if (found && *found) NoteEntry(parent, name, **found);
  return found;
}

// Never a folder: to invalidate one takes away what is mounted below it, and what the kernel keeps
// of the images in it. Nor what stands in the root, where the kernel would have to wait for lookups
// of all registries.
void Namespace::NoteEntry(NodeId parent, std::string_view name, const NodeEntry& entry) {
  const bool is_folder = entry.attr.id != 0 && entry.attr.type == EntryType::kDirectory;
  if (is_folder) return handed_out_.DropEntry(parent, name);
  const bool kept = entry.entry_seconds > 0 && entry.entry_seconds < kForever;
  if (kept && parent != kRootNode) handed_out_.NoteEntry(parent, name);
}

Attempt<NodeAttributes> Namespace::AttrOf(NodeId node, bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  switch (parts->kind) {
    case NodeClass::kFixed:
      return NodeAttributes{DirectoryAttr(node), kDirectorySeconds};
    case NodeClass::kDirectory: {
      ATTEMPT(const KeyPtr key, NameKey(parts->row, may_wait));
      return NodeAttributes{DirectoryAttr(node, *key), kDirectorySeconds};
    }
    case NodeClass::kLink: {
      ATTEMPT(const std::string target, LinkOf(node, may_wait));
      return NodeAttributes{{.id = node,
                             .type = EntryType::kSymlink,
                             .mode = 0777,
                             .size = target.size(),
                             .mtime_s = started_ns_ / 1'000'000'000},
                            kForever};
    }
    case NodeClass::kImage: {
      ATTEMPT(const ImageRowPtr image, OpenRow(parts->row, may_wait));
      ATTEMPT(const NodeAttr attr, ImagePartAttr(*parts, *image));
      return NodeAttributes{attr, kForever};
    }
    case NodeClass::kTree: {
      ATTEMPT(const ImageRowPtr row, TreeRow(parts->row, may_wait));
      ATTEMPT(const NodeAttr attr, TreeAttrOf(*row, parts->row, parts->position));
      return NodeAttributes{attr, kForever};
    }
    case NodeClass::kStatus:
    case NodeClass::kSelf: {
      ATTEMPT(const KeyPtr text, TextOf(node, *parts, may_wait));
      return NodeAttributes{TextAttr(node, *text), 0};
    }
  }
  return NoSuchNode(node);
}

Attempt<std::string> Namespace::LinkOf(NodeId node, bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  if (parts->kind == NodeClass::kLink) {
    ATTEMPT(const KeyPtr key, NameKey(parts->row, may_wait));
    const size_t cut = key->find('\n');
    if (cut == std::string::npos) return NoSuchNode(node);
    return key->substr(cut + 1);
  }
  if (parts->kind == NodeClass::kImage) {
    ATTEMPT(const ImageRowPtr image, OpenRow(parts->row, may_wait));
    return ImageLink(*parts, *image);
  }
  if (parts->kind != NodeClass::kTree) return NoSuchNode(node);
  ATTEMPT(const ImageRowPtr row, TreeRow(parts->row, may_wait));
  return row->tree->tree().ReadLink(NidOf(*row, parts->position));
}

Attempt<size_t> Namespace::ReadAt(NodeId node, uint64_t offset, MutableByteSpan out,
                                  const Deadline* deadline) {
  const bool may_wait = deadline != nullptr;
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  if (parts->kind == NodeClass::kTree) return ReadTree(*parts, offset, out, deadline);
  if (parts->kind == NodeClass::kImage) {
    ATTEMPT(const ImageRowPtr image, OpenRow(parts->row, may_wait));
    const std::string* document = DocumentOf(*parts, *image);
    if (document == nullptr) return NoSuchNode(node);
    return CopyFrom(*document, offset, out);
  }
  ATTEMPT(const KeyPtr text, TextOf(node, *parts, may_wait));
  return CopyFrom(*text, offset, out);
}

Attempt<void> Namespace::ListFrom(NodeId node, uint64_t cookie, bool attributes,
                                  const DirectoryVisitor& visit, bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  if (parts->kind == NodeClass::kTree) return ListTree(*parts, cookie, attributes, visit, may_wait);
  if (parts->kind == NodeClass::kImage) {
    ATTEMPT(const ImageRowPtr image, OpenRow(parts->row, may_wait));
    return ListNames(node, ListImage(*parts, *image), cookie, attributes, visit);
  }
  if (node == kSelfFolderNode) return ListNames(node, ListSelf(), cookie, attributes, visit);
  if (node == kRootNode) return ListNames(node, ListRoot(), cookie, false, visit);
  if (parts->kind != NodeClass::kDirectory) return NoSuchNode(node);
  // A walk goes on in the listing that it began with, so that nothing comes twice or is missed.
  auto listing = cookie == 0 ? nullptr : listings_.Find(node);
  if (listing == nullptr) {
    if (!may_wait) return std::nullopt;
    ATTEMPT(const KeyPtr key, NameKey(parts->row, may_wait));
    listing = std::make_shared<const Listing>(ListDirectory(node, *key));
    listings_.Put(node, listing);
  }
  return ListNames(node, *listing, cookie, false, visit);
}

Attempt<void> Namespace::ListNames(NodeId node, const Listing& listing, uint64_t cookie,
                                   bool attributes, const DirectoryVisitor& visit) {
  for (uint64_t i = cookie; i < listing.size(); ++i) {
    const ListedName& listed = listing[i];
    DirectoryItem item{.name = listed.name,
                       .id = listed.id,
                       .type = listed.type,
                       .entry = nullptr,
                       .next_cookie = i + 1};
    Attempt<NodeEntry> entry;
    if (attributes && listed.name != "." && listed.name != "..")
      entry = LookupIn(node, listed.name, false);
    if (entry && *entry && (*entry)->attr.id != 0) {
      item.id = (*entry)->attr.id;
      // What the kernel may not keep it had better ask for.
      if ((*entry)->entry_seconds > 0) item.entry = &**entry;
    }
    if (!visit(item)) break;
  }
  return Status();
}

Attempt<std::optional<uint64_t>> Namespace::SeekIn(NodeId node, uint64_t offset, bool hole,
                                                   bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  ATTEMPT(const NodeAttributes attributes, AttrOf(node, may_wait));
  const uint64_t size = attributes.attr.size;
  if (offset >= size) return std::optional<uint64_t>();
  if (parts->kind != NodeClass::kTree) return std::optional<uint64_t>(hole ? size : offset);
  ATTEMPT(const ImageRowPtr row, TreeRow(parts->row, may_wait));
  const auto found = row->tree->tree().Seek(NidOf(*row, parts->position), offset, hole);
  if (!found && found.error().code == Code::kNotFound) return std::optional<uint64_t>();
  if (!found) return found.error();
  if (!hole && *found >= size) return std::optional<uint64_t>();
  return std::optional<uint64_t>(*found);
}

Attempt<std::optional<std::string>> Namespace::XattrOf(NodeId node, std::string_view name,
                                                       bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  if (name == "user.lamina.error") return ErrorXattr(node, *parts);
  if (parts->kind != NodeClass::kTree) return std::optional<std::string>();
  ATTEMPT(const ImageRowPtr row, TreeRow(parts->row, may_wait));
  const Nid nid = NidOf(*row, parts->position);
  if (name.starts_with("user.lamina.")) return LaminaXattr(*row, nid, name, may_wait);
  if (!row->tree->tree().has_xattrs()) return std::optional<std::string>();
  const auto value = row->tree->tree().Xattr(nid, name);
  if (!value) return value.error();
  if (!value->has_value()) return std::optional<std::string>();
  return std::optional<std::string>(**value);
}

Attempt<std::string> Namespace::XattrNamesOf(NodeId node, bool may_wait) {
  const auto parts = SplitNode(node);
  if (!parts) return NoSuchNode(node);
  std::string names;
  if (parts->kind != NodeClass::kTree) return names;
  ATTEMPT(const ImageRowPtr row, TreeRow(parts->row, may_wait));
  if (!row->tree->tree().has_xattrs()) return names;
  const Status walked = row->tree->tree().ForEachXattr(
      NidOf(*row, parts->position), [&](std::string_view name, std::string_view) {
        names.append(name).push_back('\0');
        return true;
      });
  if (!walked) return walked.error();
  return names;
}

FileSystemFacts Namespace::Facts(NodeId node) const {
  const auto parts = SplitNode(node);
  if (!parts || parts->kind != NodeClass::kTree) return {};
  const auto row = images_.Find(parts->row);
  if (row == nullptr || row->tree == nullptr) return {};
  const Tree& tree = row->tree->tree();
  FileSystemFacts facts{.blocks = 0, .files = tree.inode_count()};
  for (uint32_t device = 0; device < tree.device_count(); ++device)
    facts.blocks += tree.device_bytes(device) / 4096;
  return facts;
}

// --- "." and ".."

Attempt<NodeEntry> Namespace::EntryOf(NodeId node, bool may_wait) {
  ATTEMPT(const NodeAttributes attributes, AttrOf(node, may_wait));
  return NodeEntry{attributes.attr, attributes.seconds, attributes.seconds};
}

Attempt<NodeId> Namespace::ParentOf(NodeId node, bool may_wait) {
  const NodeParts parts = *SplitNode(node);
  if (parts.kind == NodeClass::kFixed) return kRootNode;
  if (parts.kind == NodeClass::kDirectory) {
    ATTEMPT(const KeyPtr key, NameKey(parts.row, may_wait));
    const size_t slash = key->rfind('/');
    if (slash == std::string::npos) return kRootNode;
    ATTEMPT(const NodeEntry up, DirectoryEntry(key->substr(0, slash), may_wait));
    return up.attr.id;
  }
  if (parts.kind == NodeClass::kImage) {
    if (parts.part() != ImagePart::kFolder) return ImageNode(parts.row, ImagePart::kFolder);
    ATTEMPT(const ImageRowPtr image, OpenRow(parts.row, may_wait));
    ATTEMPT(const NodeEntry up, DirectoryEntry(image->image->documents().repository, may_wait));
    return up.attr.id;
  }
  if (parts.kind != NodeClass::kTree) return NoSuchNode(node);
  ATTEMPT(const ImageRowPtr row, TreeRow(parts.row, may_wait));
  if (parts.position == 0) return FolderOfTree(*row);
  const auto up = row->tree->tree().Lookup(parts.position, "..");
  if (!up) return up.error();
  if (!up->has_value()) return NoSuchNode(node);
  return TreeNode(parts.row, PositionOf(*row, (*up)->nid));
}

}  // namespace lamina
