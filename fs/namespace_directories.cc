// The root, registries and repositories.

#include <algorithm>
#include <map>

#include "fs/namespace.h"

namespace lamina {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// So are answers of a registry that is away.
constexpr double kStaleSeconds = 5;

ListedName Folder(std::string name, NodeId id = 0) {
  return {std::move(name), id, EntryType::kDirectory};
}
ListedName Link(std::string name) { return {std::move(name), 0, EntryType::kSymlink}; }

// What a registry says of a repository that it does not have or will not show.
bool IsRefusal(Code code) {
  return code == Code::kNotFound || code == Code::kDenied || code == Code::kUnsupported;
}

}  // namespace

NodeAttr Namespace::DirectoryAttr(NodeId node, const std::string& name) const {
  // The kernel keeps a listing for as long as this time stands. It moves when names come, and once
  // in a tag's time to live, since a registry may have new ones without telling.
  const int64_t window = std::max<int64_t>(1, catalog_.options().TagTtl(name).count()) * kSecond;
  const int64_t now = clock_.NowNs();
  const int64_t mtime = std::max(catalog_.generation_ns(), now - now % window);
  // One link: how many folders there are below is not known.
  const bool takes_links = link_owner_ && MayHoldTags(name);
  return {.id = node,
          .mode = takes_links ? 0755u : 0555u,
          .nlink = 1,
          .uid = takes_links ? link_owner_->first : 0,
          .gid = takes_links ? link_owner_->second : 0,
          .mtime_s = mtime / kSecond,
          .mtime_ns = static_cast<uint32_t>(mtime % kSecond)};
}

NodeEntry Namespace::Negative(const std::string& directory) const {
  return {.attr = {},
          .entry_seconds = static_cast<double>(catalog_.options().NegativeTtl(directory).count()),
          .attr_seconds = 0};
}

double Namespace::TagSeconds(const std::string& repository, const Resolution& resolution) const {
  const double age = static_cast<double>(clock_.NowNs() - resolution.seen_ns) / kSecond;
  const double ttl = static_cast<double>(catalog_.options().TagTtl(repository).count());
  if (resolution.stale) return std::min(ttl, kStaleSeconds);
  return std::clamp(ttl - age, 0.0, ttl);
}

// --- entries

Attempt<NodeEntry> Namespace::DirectoryEntry(const std::string& key, bool may_wait) {
  auto row = names_.KnownRow(key);
  if (!row) {
    if (!may_wait) return std::nullopt;
    const auto made = names_.Row(key);
    if (!made) return made.error();
    row = *made;
  }
  const NodeId node = DirectoryNode(*row);
  handed_out_.NoteDirectory(node);
  return NodeEntry{DirectoryAttr(node, key), kDirectorySeconds, kDirectorySeconds};
}

Attempt<NodeEntry> Namespace::LinkEntry(const std::string& place, const std::string& target,
                                        double seconds, bool may_wait) {
  const std::string key = place + "\n" + target;
  auto row = names_.KnownRow(key);
  if (!row) {
    if (!may_wait) return std::nullopt;
    const auto made = names_.Row(key);
    if (!made) return made.error();
    row = *made;
  }
  ATTEMPT(const NodeAttributes attributes, AttrOf(LinkNode(*row), may_wait));
  return NodeEntry{attributes.attr, seconds, attributes.seconds};
}

Attempt<NodeEntry> Namespace::ImageFolderEntry(const std::string& repository, const Digest& digest,
                                               bool may_wait) {
  const Attempt<uint32_t> row = RowOfImage(repository, digest, may_wait);
  if (!row) return std::nullopt;
  if (!*row && (*row).error().code == Code::kNotFound) return Negative(repository);
  if (!*row) return (*row).error();
  ATTEMPT(const NodeAttributes attributes, AttrOf(ImageNode(**row, ImagePart::kFolder), may_wait));
  return NodeEntry{attributes.attr, kForever, kForever};
}

// A link to an image by its digest, or by its id where a local source has an image of this id: it
// has to be there.
Attempt<NodeEntry> Namespace::PinEntry(const std::string& place, const std::string& repository,
                                       const std::string& way, const Digest& digest,
                                       bool may_wait) {
  const Digest target = catalog_.ImageOfId(repository, digest, may_wait).value_or(digest);
  ATTEMPT(const NodeEntry image, ImageFolderEntry(repository, target, may_wait));
  if (image.attr.id == 0) return image;
  return LinkEntry(place, way + target.PathName(), kForever, may_wait);
}

// --- lookups

Attempt<NodeEntry> Namespace::LookupInRoot(std::string_view name, bool may_wait) {
  if (name == ".lamina")
    return NodeEntry{DirectoryAttr(kSelfFolderNode), kForever, kDirectorySeconds};
  std::optional<std::string> registry = RegistryOfFolder(name);
  const bool is_folder = registry.has_value();
  if (!is_folder && IsValidRegistry(name)) registry = std::string(name);
  if (!registry) return NodeEntry{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};
  if (*registry != "localhost" && *registry != "docker.io" &&
      catalog_.KnownPath(*registry) == PathKind::kNothing) {
    if (!may_wait) return std::nullopt;
    const auto exists = catalog_.RegistryExists(*registry);
    if (!exists) return exists.error();
    // Not to be kept: nothing in the root is ever invalidated.
    if (!*exists) return NodeEntry{};
  }
  if (is_folder) return DirectoryEntry(*registry, may_wait);
  return LinkEntry(*registry, RegistryFolder(*registry), kForever, may_wait);
}

Attempt<NodeEntry> Namespace::LookupInDirectory(const std::string& directory, std::string_view name,
                                                bool may_wait) {
  const NameForm form = ParseNameForm(name);
  const bool is_repository_path = !RepositoryPathOf(directory).empty();
  const std::string place = directory + "/" + std::string(name);
  const std::string below = directory + "/" + form.component;
  const NodeEntry never{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};
  switch (form.kind) {
    case NameForm::Kind::kInvalid:
      return never;
    case NameForm::Kind::kImageFolder:
      return is_repository_path ? ImageFolderEntry(directory, *form.digest, may_wait) : never;
    case NameForm::Kind::kDigestLink:
      if (!is_repository_path) return never;
      return PinEntry(place, directory, "", *form.digest, may_wait);
    case NameForm::Kind::kPinLink:
      return PinEntry(place, below, form.component + "/", *form.digest, may_wait);
    case NameForm::Kind::kNumberLink:
      return is_repository_path ? LookupTag(directory, form.component, may_wait) : never;
    case NameForm::Kind::kTagLink: {
      if (!IsValidRepositoryPath(RepositoryPathOf(below))) return never;
      ATTEMPT(NodeEntry tag, LookupTag(below, form.tag, may_wait));
      if (tag.attr.id == 0) return tag;
      return LinkEntry(place, form.component + "/" + form.tag, tag.entry_seconds, may_wait);
    }
    case NameForm::Kind::kPlain:
      return LookupPlain(directory, form.component, may_wait);
  }
  return never;
}

// A tag of a repository as a link; negative where the source says that it has none such.
Attempt<NodeEntry> Namespace::LookupTag(const std::string& directory, const std::string& name,
                                        bool may_wait) {
  if (const auto alias = catalog_.AliasOf(directory, name)) return AliasEntry(*alias, may_wait);
  std::optional<Result<Resolution>> known = catalog_.KnownTag(directory, name);
  if (!known) {
    if (!may_wait) return std::nullopt;
    known = catalog_.ResolveTag(directory, name);
  }
  if (*known)
    return LinkEntry(directory + "/" + name, (*known)->digest.PathName(),
                     TagSeconds(directory, **known), may_wait);
  if (known->error().code == Code::kNotFound) return Negative(directory);
  return known->error();
}

// A tag that exists wins over a deeper component. Where the directory is only known to lead
// somewhere, a component that is known needs no asking.
Attempt<NodeEntry> Namespace::LookupPlain(const std::string& directory, const std::string& name,
                                          bool may_wait) {
  const PathKind parent = catalog_.KnownPath(directory);
  const bool known_below =
      IsUsableComponent(name) && catalog_.KnownPath(directory + "/" + name) != PathKind::kNothing;
  const bool ask_tag = IsValidTag(name) && MayHoldTags(directory) &&
                       (parent == PathKind::kRepository || !known_below);
  if (ask_tag) {
    const Attempt<NodeEntry> tag = LookupTag(directory, name, may_wait);
    if (!tag) return std::nullopt;
    if (*tag && (*tag)->attr.id != 0) return tag;
    const bool refused = !*tag && parent != PathKind::kRepository && IsRefusal((*tag).error().code);
    // What can be no component, as "rootfs", is asked for by who takes the directory for an image:
    // he is to know that it may be one that he has no access to.
    const bool denied = !*tag && (*tag).error().code == Code::kDenied && !IsUsableComponent(name);
    if (!*tag && (!refused || denied) && !known_below) return tag;
  }
  return LookupComponent(directory, name, may_wait);
}

Attempt<NodeEntry> Namespace::LookupComponent(const std::string& directory, const std::string& name,
                                              bool may_wait) {
  const std::string path = RepositoryPathOf(directory + "/" + name);
  if (!IsUsableComponent(name) || !IsValidRepositoryPath(path)) return Negative(directory);
  if (catalog_.KnownPath(directory + "/" + name) == PathKind::kNothing) {
    if (!may_wait) return std::nullopt;
    const auto kind = catalog_.Classify(RegistryOf(directory), path);
    if (!kind) return kind.error();
    if (*kind == PathKind::kNothing) return Negative(directory);
    // Below a repository nothing is assumed: a tag that is not there must not show as an empty
    // directory.
    const bool doubtful =
        *kind == PathKind::kPrefix && catalog_.KnownPath(directory) == PathKind::kRepository;
    if (doubtful && !IsListedBelow(directory, name)) return Negative(directory);
  }
  return DirectoryEntry(directory + "/" + name, may_wait);
}

bool Namespace::IsListedBelow(const std::string& directory, const std::string& name) {
  const std::vector<std::string> children = catalog_.Children(directory);
  return std::find(children.begin(), children.end(), name) != children.end();
}

// --- listings

Listing Namespace::ListRoot() const {
  Listing listing{Folder(".", kRootNode), Folder("..", kRootNode),
                  Folder(".lamina", kSelfFolderNode)};
  for (const std::string& registry : catalog_.KnownRegistries()) {
    const std::string folder = RegistryFolder(registry);
    const auto row = names_.KnownRow(registry);
    listing.push_back(Folder(folder, row ? DirectoryNode(*row) : 0));
    if (folder != registry) listing.push_back(Link(registry));
  }
  return listing;
}

Listing Namespace::ListDirectory(NodeId node, const std::string& directory) {
  std::map<std::string, ListedName> found;
  // Names come from registries: what is not by the grammar is not shown, since it could not be
  // looked up.
  for (const std::string& child : catalog_.Children(directory)) {
    if (!IsUsableComponent(child)) continue;
    const auto row = names_.KnownRow(directory + "/" + child);
    found[child] = Folder(child, row ? DirectoryNode(*row) : 0);
  }
  if (catalog_.KnownPath(directory) == PathKind::kRepository &&
      !RepositoryPathOf(directory).empty())
    AddRepository(directory, &found);
  Listing listing{Folder(".", node), Folder("..")};
  for (auto& [name, listed] : found) listing.push_back(std::move(listed));
  return listing;
}

void Namespace::AddRepository(const std::string& repository,
                              std::map<std::string, ListedName>* found) {
  std::vector<Digest> images = catalog_.KnownImages(repository);
  for (const Catalog::TagName& tag : catalog_.Tags(repository)) {
    // What an alias leads to may be in another folder.
    if (tag.known && !tag.alias) images.push_back(tag.known->digest);
    if (ParseNameForm(tag.tag).kind == NameForm::Kind::kPlain && IsValidTag(tag.tag))
      (*found)[tag.tag] = Link(tag.tag);
  }
  for (const std::string& number : catalog_.ImageNumbers(repository))
    (*found)[number] = Link(number);
  for (const Digest& digest : images) {
    const auto row = image_keys_.KnownRow(repository + "@" + digest.ToString());
    const std::string name = digest.PathName();
    (*found)[name] = Folder(name, row ? ImageNode(*row, ImagePart::kFolder) : 0);
  }
}

}  // namespace lamina
