#include "index/layer_tree.h"

#include <algorithm>
#include <limits>
#include <random>

#include "base/text.h"
#include "index/layer_path.h"
#include "index/xattr_filter.h"

namespace lamina {

namespace format = index_format;

namespace {

constexpr uint32_t kMaxLinksFollowed = 255;
// Components of a path and of all targets on its way: each link may bring two thousand more.
constexpr uint32_t kMaxSteps = 16384;
constexpr size_t kMaxName = 255;
constexpr size_t kMaxTarget = 4095;  // PATH_MAX without the NUL
constexpr uint32_t kImplicitMode = 0755;

Error Invalid(std::string reason) { return Error{Code::kInvalid, std::move(reason)}; }

uint64_t RandomSeed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

uint64_t Mix(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xD1B54A32D192ED03u);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

bool HasType(const format::InodeRecord& inode, EntryType type) {
  return inode.type == static_cast<uint8_t>(type);
}

}  // namespace

// Walks a path from the root, following the layer's own symbolic links inside the root.
class LayerTree::Walker {
 public:
  Walker(LayerTree& tree, bool create) : tree_(tree), create_(create) {}

  Result<Place> Walk(std::span<const std::string_view> components) {
    Push(components);
    while (!pending_.empty() && place_.missing.empty()) {
      if (++steps_ > kMaxSteps) return TooManyLinks();
      const std::string_view name = pending_.back();
      pending_.pop_back();
      RETURN_IF_ERROR(Step(name));
    }
    return place_;
  }

 private:
  void Push(std::span<const std::string_view> components) {
    pending_.insert(pending_.end(), components.rbegin(), components.rend());
  }

  Status Step(std::string_view name) {
    if (name.empty() || name == ".") return {};
    if (name == "..") {
      if (place_.node == kRoot) return {};
      place_.node = tree_.nodes_[place_.node].parent;
      --place_.depth;
      return {};
    }
    uint32_t child = tree_.Find(place_.node, name);
    if (child == kNone || tree_.nodes_[child].content == Content::kNothing) {
      if (!create_) return Miss(name);
      ASSIGN_OR_RETURN(child, tree_.FindOrCreate(place_.node, name));
      RETURN_IF_ERROR(tree_.AddImplicit(child));
    }
    const Node& node = tree_.nodes_[child];
    if (tree_.IsDirectory(node)) return Enter(child);
    if (node.content == Content::kInode && HasType(tree_.inodes_[node.value], EntryType::kSymlink))
      return Follow(child);
    return Invalid("its parent " + Quote(tree_.PathOf(child)) + " is no directory in this layer");
  }

  Status Enter(uint32_t directory) {
    if (++place_.depth > kMaxDepth)
      return Error{Code::kLimit,
                   "it is nested deeper than the limit of " + std::to_string(kMaxDepth)};
    place_.node = directory;
    return {};
  }

  Status Follow(uint32_t link) {
    if (++followed_ > kMaxLinksFollowed) return TooManyLinks();
    const format::InodeRecord& inode = tree_.inodes_[tree_.nodes_[link].value];
    ASSIGN_OR_RETURN(std::string target,
                     tree_.writer_.ReadString({inode.place, static_cast<uint32_t>(inode.size)}));
    if (target[0] == '/') place_ = Place();
    targets_.push_back(std::move(target));
    Push(Split(targets_.back(), '/'));
    return {};
  }

  Error TooManyLinks() const {
    return Invalid("too many symbolic links in its parents, or a loop of them, at " +
                   Quote(tree_.PathOf(place_.node)));
  }

  // What is left goes into `missing`, cleaned with the place it starts from.
  Status Miss(std::string_view name) {
    place_.missing = name;
    for (; !pending_.empty(); pending_.pop_back()) {
      place_.missing += '/';
      place_.missing += pending_.back();
    }
    return {};
  }

  LayerTree& tree_;
  const bool create_;
  Place place_;
  uint32_t followed_ = 0;
  uint32_t steps_ = 0;
  std::vector<std::string_view> pending_;  // the next one is the last
  std::deque<std::string> targets_;        // what pending_ points into
};

LayerTree::LayerTree(LayerIndexWriter& writer, uint64_t entry_limit, Warn warn)
    : writer_(writer),
      entry_limit_(entry_limit),
      warn_(std::move(warn)),
      seed_(RandomSeed()),
      slots_(64, kNone) {
  Node root;
  root.content = Content::kInode;
  root.value = 0;
  root.flags = kImplicit;
  nodes_.push_back(root);
  format::InodeRecord inode;
  inode.type = static_cast<uint8_t>(EntryType::kDirectory);
  inode.mode = kImplicitMode;
  inodes_.push_back(inode);
}

Result<std::optional<uint32_t>> LayerTree::Add(const TarEntry& entry) {
  constexpr std::optional<uint32_t> kNoData;
  RETURN_IF_ERROR(CountEntry());
  const std::vector<std::string_view> components = CleanPath(entry.path);
  if (components.empty()) {
    if (entry.path.empty() || entry.type != EntryType::kDirectory) {
      warn_("an entry named " + Quote(entry.path) + " that is no directory was ignored");
      return kNoData;
    }
    ASSIGN_OR_RETURN(inodes_[nodes_[kRoot].value], MakeInode(entry));
    nodes_[kRoot].flags &= static_cast<uint8_t>(~kImplicit);
    return kNoData;
  }
  const std::string_view name = components.back();
  std::string_view hidden;
  const NameKind kind = ClassifyName(name, &hidden);
  if (kind == NameKind::kInvalidWhiteout) return Invalid("it is a whiteout of no valid name");
  auto walked =
      Walker(*this, /*create=*/true).Walk(std::span(components).first(components.size() - 1));
  const bool is_marker = kind == NameKind::kWhiteout || kind == NameKind::kOpaque;
  if (!walked && is_marker && walked.error().code == Code::kInvalid) {
    // umoci writes `d` and `d/.wh.x` when a file replaces a directory. The file hides it all.
    warn_("a whiteout below what is no directory in this layer was ignored: " + Quote(entry.path));
    return kNoData;
  }
  if (!walked) return std::move(walked).error();
  const Place parent = *std::move(walked);
  if (parent.depth >= kMaxDepth)
    return Error{Code::kLimit,
                 "it is nested deeper than the limit of " + std::to_string(kMaxDepth)};
  if (kind == NameKind::kOpaque) {
    nodes_[parent.node].flags |= kOpaque;
    return kNoData;
  }
  if (kind == NameKind::kWhiteout) {
    RETURN_IF_ERROR(AddWhiteout(parent.node, hidden));
    return kNoData;
  }
  if (entry.type == EntryType::kCharDevice && entry.device_major == 0 && entry.device_minor == 0) {
    RETURN_IF_ERROR(AddDevice00(entry, parent.node, name));
    return kNoData;
  }
  if (entry.type == EntryType::kHardlink) {
    RETURN_IF_ERROR(AddLink(entry, parent.node, name));
    return kNoData;
  }
  return AddContent(entry, parent.node, name);
}

Status LayerTree::CountEntry() {
  if (++entries_ > entry_limit_)
    return Error{Code::kLimit,
                 "the layer has more entries than the limit of " + std::to_string(entry_limit_)};
  return {};
}

Status LayerTree::AddWhiteout(uint32_t parent, std::string_view name) {
  ASSIGN_OR_RETURN(const uint32_t node, FindOrCreate(parent, name));
  nodes_[node].flags |= kWhiteout;
  return {};
}

// How overlayfs itself keeps a whiteout: some tools ship it as it is.
Status LayerTree::AddDevice00(const TarEntry& entry, uint32_t parent, std::string_view name) {
  warn_("character device 0/0 taken as a whiteout: " + Quote(entry.path));
  ASSIGN_OR_RETURN(const uint32_t node, FindOrCreate(parent, name));
  RemoveContent(node);
  nodes_[node].flags |= kWhiteout;
  return {};
}

Status LayerTree::AddLink(const TarEntry& entry, uint32_t parent, std::string_view name) {
  const std::string quoted = Quote(entry.link_target);
  const std::vector<std::string_view> components = CleanPath(entry.link_target);
  if (components.empty()) return Invalid("it is a hard link to " + quoted + ", the root directory");
  ASSIGN_OR_RETURN(
      Place place,
      Walker(*this, /*create=*/false).Walk(std::span(components).first(components.size() - 1)));
  ASSIGN_OR_RETURN(const uint32_t own, FindOrCreate(parent, name));
  if (IsInside(place.node, own))
    return Invalid("it is a hard link to " + quoted + ", which it replaces");
  uint32_t target = kNone;
  if (place.missing.empty()) {
    target = Find(place.node, components.back());
    if (target == own) return Invalid("it is a hard link to itself");
    place.missing = components.back();
  } else {
    place.missing += '/';
    place.missing += components.back();
  }
  Node content;
  if (target != kNone && nodes_[target].content != Content::kNothing) {
    content = nodes_[target];
    if (IsDirectory(content)) return Invalid("it is a hard link to " + quoted + ", a directory");
  } else {
    const std::string_view first =
        std::string_view(place.missing).substr(0, place.missing.find('/'));
    const uint32_t whiteout = Find(place.node, first);
    if (whiteout == own) return Invalid("it is a hard link to " + quoted + ", which it replaces");
    if (whiteout != kNone || HidesLower(place.node))
      return Invalid("it is a hard link to " + quoted + ", which this layer deletes");
    const std::string path = PathOf(place.node) + "/" + place.missing;
    content.content = Content::kExternalLink;
    content.value = static_cast<uint32_t>(external_links_.size());
    ASSIGN_OR_RETURN(const StringPlace stored, writer_.AddString(JoinPath(CleanPath(path))));
    external_links_.push_back(stored);
  }
  RemoveContent(own);
  nodes_[own].content = content.content;
  nodes_[own].value = content.value;
  return {};
}

Result<std::optional<uint32_t>> LayerTree::AddContent(const TarEntry& entry, uint32_t parent,
                                                      std::string_view name) {
  ASSIGN_OR_RETURN(const format::InodeRecord inode, MakeInode(entry));
  ASSIGN_OR_RETURN(const uint32_t node, FindOrCreate(parent, name));
  if (entry.type == EntryType::kDirectory && IsDirectory(nodes_[node])) {
    // Directories have one name, so nobody else sees the new attributes.
    inodes_[nodes_[node].value] = inode;
    nodes_[node].flags &= static_cast<uint8_t>(~kImplicit);
    return std::optional<uint32_t>();
  }
  RemoveContent(node);
  ASSIGN_OR_RETURN(nodes_[node].value, AppendInode(inode));
  nodes_[node].content = Content::kInode;
  if (entry.type != EntryType::kRegular) return std::optional<uint32_t>();
  return std::optional<uint32_t>(nodes_[node].value);
}

Status LayerTree::AddImplicit(uint32_t node) {
  format::InodeRecord inode;
  inode.type = static_cast<uint8_t>(EntryType::kDirectory);
  inode.mode = kImplicitMode;
  ASSIGN_OR_RETURN(nodes_[node].value, AppendInode(inode));
  nodes_[node].content = Content::kInode;
  nodes_[node].flags |= kImplicit;
  return {};
}

Result<uint32_t> LayerTree::AppendInode(const format::InodeRecord& inode) {
  inodes_.push_back(inode);
  return static_cast<uint32_t>(inodes_.size() - 1);
}

Result<format::InodeRecord> LayerTree::MakeInode(const TarEntry& entry) {
  format::InodeRecord inode;
  inode.type = static_cast<uint8_t>(entry.type);
  // Linux shows every symbolic link with all permissions.
  inode.mode =
      entry.type == EntryType::kSymlink ? 0777 : static_cast<uint16_t>(entry.mode & 07777u);
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  inode.mtime_s = entry.mtime_s;
  inode.mtime_ns = entry.mtime_ns;
  if (entry.type == EntryType::kRegular) inode.size = entry.size;
  if (entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice)
    inode.place = uint64_t{entry.device_major} << 32 | entry.device_minor;
  if (entry.type == EntryType::kSymlink) RETURN_IF_ERROR(StoreTarget(entry, &inode));
  RETURN_IF_ERROR(StoreXattrs(entry, &inode));
  return inode;
}

Status LayerTree::StoreTarget(const TarEntry& entry, format::InodeRecord* inode) {
  if (entry.link_target.empty()) return Invalid("it is a symbolic link without a target");
  if (entry.link_target.size() > kMaxTarget)
    return Error{Code::kLimit, "its target has " + std::to_string(entry.link_target.size()) +
                                   " bytes, the limit is " + std::to_string(kMaxTarget)};
  ASSIGN_OR_RETURN(const StringPlace place, writer_.AddString(entry.link_target));
  inode->place = place.offset;
  inode->size = place.length;
  return {};
}

Status LayerTree::StoreXattrs(const TarEntry& entry, format::InodeRecord* inode) {
  for (const auto& [name, value] : entry.xattrs) {
    const XattrFate fate = FateOfXattr(name, entry.type);
    if (fate == XattrFate::kDropWarning)
      warn_("xattr " + Quote(name, 80) + " cannot be on this file, ignored: " + Quote(entry.path));
    if (fate != XattrFate::kKeep) continue;
    ASSIGN_OR_RETURN(const uint32_t number, writer_.AddXattr(name, value));
    if (inode->xattr_count++ == 0) inode->xattr_first = number;
  }
  return {};
}

void LayerTree::SetFlatOffset(uint32_t inode, uint64_t flat_offset) {
  inodes_[inode].place = flat_offset;
}

void LayerTree::SetExtents(uint32_t inode, uint32_t first, uint32_t count) {
  inodes_[inode].flags |= format::kInodeSparse;
  inodes_[inode].extent_first = count == 0 ? 0 : first;
  inodes_[inode].extent_count = count;
}

void LayerTree::RemoveContent(uint32_t number) {
  Node& node = nodes_[number];
  if (IsDirectory(node)) DetachChildren(number);
  node.content = Content::kNothing;
  node.value = kNone;
  node.flags &= kWhiteout;  // which speaks of the layers below, not of this content
}

void LayerTree::DetachChildren(uint32_t number) {
  std::vector<uint32_t> directories = {number};
  while (!directories.empty()) {
    Node& directory = nodes_[directories.back()];
    directories.pop_back();
    uint32_t child = directory.first_child;
    directory.first_child = kNone;
    for (; child != kNone; child = nodes_[child].next_sibling) {
      EraseSlot(child);
      if (nodes_[child].first_child != kNone) directories.push_back(child);
    }
  }
}

std::string_view LayerTree::NameOf(const Node& node) const {
  return std::string_view(names_).substr(node.name_offset, node.name_length);
}

std::string LayerTree::PathOf(uint32_t node) const {
  std::vector<std::string_view> names;
  for (; node != kRoot; node = nodes_[node].parent) names.push_back(NameOf(nodes_[node]));
  std::reverse(names.begin(), names.end());
  return JoinPath(names);
}

bool LayerTree::IsDirectory(const Node& node) const {
  return node.content == Content::kInode && HasType(inodes_[node.value], EntryType::kDirectory);
}

// Whether what the layers below have in this directory is hidden by this layer, as far as it has
// been read.
bool LayerTree::HidesLower(uint32_t node) const {
  for (;; node = nodes_[node].parent) {
    if ((nodes_[node].flags & (kOpaque | kWhiteout)) != 0) return true;
    if (node == kRoot) return false;
  }
}

bool LayerTree::IsInside(uint32_t node, uint32_t directory) const {
  for (; node != kRoot; node = nodes_[node].parent)
    if (node == directory) return true;
  return false;
}

uint64_t LayerTree::HashOf(uint32_t parent, std::string_view name) const {
  uint64_t hash = Mix(seed_, parent + (uint64_t{name.size()} << 32));
  for (; name.size() > sizeof(uint64_t); name.remove_prefix(sizeof(uint64_t)))
    hash = Mix(hash, LoadLe<uint64_t>(AsBytes(name).data()) ^ seed_);
  uint64_t tail = 0;
  std::memcpy(&tail, name.data(), name.size());
  return Mix(hash, tail ^ seed_);
}

uint32_t LayerTree::Find(uint32_t parent, std::string_view name) const {
  const size_t mask = slots_.size() - 1;
  for (size_t slot = HashOf(parent, name) & mask; slots_[slot] != kNone; slot = (slot + 1) & mask) {
    if (slots_[slot] == kDeleted) continue;
    const Node& node = nodes_[slots_[slot]];
    if (node.parent == parent && NameOf(node) == name) return slots_[slot];
  }
  return kNone;
}

void LayerTree::InsertSlot(uint32_t node) {
  const size_t mask = slots_.size() - 1;
  size_t slot = HashOf(nodes_[node].parent, NameOf(nodes_[node])) & mask;
  while (slots_[slot] != kNone) slot = (slot + 1) & mask;
  slots_[slot] = node;
  ++slots_used_;
}

// Also sweeps the deleted ones out.
void LayerTree::GrowSlots() {
  std::vector<uint32_t> old(slots_.size() * 2, kNone);
  old.swap(slots_);
  slots_used_ = 0;
  for (const uint32_t node : old)
    if (node != kNone && node != kDeleted) InsertSlot(node);
}

void LayerTree::EraseSlot(uint32_t node) {
  const size_t mask = slots_.size() - 1;
  size_t slot = HashOf(nodes_[node].parent, NameOf(nodes_[node])) & mask;
  while (slots_[slot] != node) slot = (slot + 1) & mask;
  slots_[slot] = kDeleted;
}

Result<uint32_t> LayerTree::FindOrCreate(uint32_t parent, std::string_view name) {
  const uint32_t found = Find(parent, name);
  if (found != kNone) return found;
  if (name.size() > kMaxName)
    return Error{Code::kLimit, "a component of " + std::to_string(name.size()) +
                                   " bytes is longer than the limit of " +
                                   std::to_string(kMaxName)};
  // Names made on the way count as well, or one long path an entry would multiply them.
  if (nodes_.size() > entry_limit_ ||
      names_.size() + name.size() > std::numeric_limits<uint32_t>::max())
    return Error{Code::kLimit, "the layer has more names than the limit of " +
                                   std::to_string(entry_limit_) + " entries"};
  Node node;
  node.parent = parent;
  node.name_offset = static_cast<uint32_t>(names_.size());
  node.name_length = static_cast<uint8_t>(name.size());
  node.next_sibling = nodes_[parent].first_child;
  names_ += name;
  const auto number = static_cast<uint32_t>(nodes_.size());
  nodes_[parent].first_child = number;
  nodes_.push_back(node);
  if (slots_used_ * 4 >= slots_.size() * 3) GrowSlots();
  InsertSlot(number);
  return number;
}

std::vector<uint32_t> LayerTree::SortedChildren(const Node& node) const {
  std::vector<uint32_t> children;
  for (uint32_t child = node.first_child; child != kNone; child = nodes_[child].next_sibling)
    if (nodes_[child].content != Content::kNothing || (nodes_[child].flags & kWhiteout) != 0)
      children.push_back(child);
  std::sort(children.begin(), children.end(),
            [&](uint32_t a, uint32_t b) { return NameOf(nodes_[a]) < NameOf(nodes_[b]); });
  return children;
}

Status LayerTree::Emit() {
  std::vector<uint32_t> order = {kRoot};
  std::vector<uint32_t> numbers(inodes_.size(), kNone);  // in the file, of each inode met so far
  for (size_t i = 0; i < order.size(); ++i) {
    const std::vector<uint32_t> children = SortedChildren(nodes_[order[i]]);
    RETURN_IF_ERROR(EmitNode(order[i], static_cast<uint32_t>(order.size()),
                             static_cast<uint32_t>(children.size()), &numbers));
    order.insert(order.end(), children.begin(), children.end());
  }
  return {};
}

Status LayerTree::EmitNode(uint32_t number, uint32_t first_child, uint32_t child_count,
                           std::vector<uint32_t>* numbers) {
  const Node& node = nodes_[number];
  format::EntryRecord entry;
  entry.name_offset = node.name_offset;
  entry.name_length = node.name_length;
  if (child_count > 0) {
    entry.first_child = first_child;
    entry.child_count = child_count;
  }
  switch (node.content) {
    case Content::kNothing:
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kWhiteout);
      break;
    case Content::kExternalLink:
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kExternalLink);
      entry.link_offset = external_links_[node.value].offset;
      entry.link_length = external_links_[node.value].length;
      break;
    case Content::kInode: {
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kInode);
      // A directory that comes with a whiteout of its own name shows nothing of the one below.
      if (IsDirectory(node) && (node.flags & kWhiteout) != 0)
        entry.flags |= format::kEntryOpaque | format::kEntryReplaces;
      if (IsDirectory(node) && (node.flags & kOpaque) != 0) entry.flags |= format::kEntryOpaque;
      if ((node.flags & kImplicit) != 0) entry.flags |= format::kEntryImplicit;
      uint32_t& inode = (*numbers)[node.value];
      if (inode == kNone) {
        ASSIGN_OR_RETURN(inode, writer_.AddInode(inodes_[node.value]));
      }
      entry.inode = inode;
      break;
    }
  }
  return writer_.AddEntry(entry);
}

}  // namespace lamina
