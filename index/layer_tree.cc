#include "index/layer_tree.h"

#include <algorithm>
#include <random>

#include "base/text.h"
#include "index/layer_path.h"
#include "index/layer_walker.h"
#include "index/xattr_filter.h"

namespace lamina {

namespace format = index_format;

namespace {

constexpr size_t kMaxName = 255;
constexpr size_t kMaxTarget = 4095;  // PATH_MAX without the NUL
constexpr size_t kMaxPath = 4096;
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

}  // namespace

LayerTree::LayerTree(LayerIndexWriter& writer, const LayerTreeLimits& limits, Warn warn)
    : writer_(writer),
      limits_(limits),
      warn_(std::move(warn)),
      seed_(RandomSeed()),
      memory_(limits.memory, limits.shared_memory),
      inodes_(writer.NewSpool()),
      names_(memory_),
      slots_(64, kNone) {
  nodes_.emplace_back();  // the root; Add() and Emit() give it content
}

Status LayerTree::Spend(uint64_t steps) {
  if (limits_.cancel != nullptr && limits_.cancel->load(std::memory_order_relaxed))
    return Error{Code::kCancelled, "indexing was cancelled"};
  if (steps > limits_.steps - steps_)
    return Error{Code::kLimit,
                 "the paths of the layer take more steps to follow than the limit of " +
                     std::to_string(limits_.steps) + " for a layer"};
  steps_ += steps;
  return {};
}

Status LayerTree::PrepareRoot() {
  return nodes_[kRoot].content == Content::kNothing ? AddImplicit(kRoot) : Status();
}

Result<LayerTree::Place> LayerTree::WalkTo(std::span<const std::string_view> components,
                                           bool create, Memo* memo) {
  std::string path = JoinPath(components);
  if (memo->generation == generation_ && memo->path == path) return memo->place;
  ASSIGN_OR_RETURN(Place place, Walker(*this, create).Walk(components));
  // A path that was found leads to the same place until something on its way is replaced.
  if (place.missing.empty()) *memo = {generation_, std::move(path), place};
  return place;
}

Result<bool> LayerTree::Add(const TarEntry& entry) {
  constexpr bool kNoData = false;
  RETURN_IF_ERROR(CountEntry());
  RETURN_IF_ERROR(PrepareRoot());
  const std::vector<std::string_view> components = CleanPath(entry.path);
  if (components.empty()) {
    if (entry.path.empty() || entry.type != EntryType::kDirectory) {
      warn_("an entry named " + Quote(entry.path) + " that is no directory was ignored");
      return kNoData;
    }
    ASSIGN_OR_RETURN(const format::InodeRecord inode, MakeInode(entry));
    RETURN_IF_ERROR(SetInode(kRoot, inode));
    return kNoData;
  }
  const std::string_view name = components.back();
  std::string_view hidden;
  const NameKind kind = ClassifyName(name, &hidden);
  if (kind == NameKind::kInvalidWhiteout) return Invalid("it is a whiteout of no valid name");
  auto walked =
      WalkTo(std::span(components).first(components.size() - 1), /*create=*/true, &last_parent_);
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
  if (++entries_ > limits_.entries)
    return Error{Code::kLimit,
                 "the layer has more entries than the limit of " + std::to_string(limits_.entries)};
  return Spend(1);
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
  MakeDevice00(node);
  return {};
}

void LayerTree::MakeDevice00(uint32_t node) {
  RemoveContent(node);
  nodes_[node].flags |= kWhiteout | kDevice00;
}

Status LayerTree::AddLink(const TarEntry& entry, uint32_t parent, std::string_view name) {
  const std::string quoted = Quote(entry.link_target);
  const std::vector<std::string_view> components = CleanPath(entry.link_target);
  if (components.empty()) return Invalid("it is a hard link to " + quoted + ", the root directory");
  ASSIGN_OR_RETURN(Place place, WalkTo(std::span(components).first(components.size() - 1),
                                       /*create=*/false, &last_target_));
  // What follows goes up to the root, from the target and for the path.
  RETURN_IF_ERROR(Spend(place.depth * uint64_t{3}));
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
  // overlayfs shares the device among its whiteouts, and so does an archive of its upper folder.
  if (target != kNone && (nodes_[target].flags & kDevice00) != 0) {
    warn_("hard link to character device 0/0 taken as a whiteout: " + Quote(entry.path));
    MakeDevice00(own);
    return {};
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
    content.content = Content::kExternalLink;
    ASSIGN_OR_RETURN(content.value, AddExternalLink(PathOf(place.node) + "/" + place.missing));
  }
  RemoveContent(own);
  nodes_[own].content = content.content;
  nodes_[own].type = content.type;
  nodes_[own].value = content.value;
  return {};
}

Result<uint32_t> LayerTree::AddExternalLink(const std::string& path) {
  const std::string clean = JoinPath(CleanPath(path));
  if (clean.size() > kMaxPath)
    return Error{Code::kLimit, "its target is a path of " + std::to_string(clean.size()) +
                                   " bytes once its symbolic links are followed, the limit is " +
                                   std::to_string(kMaxPath)};
  RETURN_IF_ERROR(memory_.Take(sizeof(StringPlace)));
  ASSIGN_OR_RETURN(const StringPlace stored, writer_.AddString(clean));
  external_links_.push_back(stored);
  return static_cast<uint32_t>(external_links_.size() - 1);
}

Result<bool> LayerTree::AddContent(const TarEntry& entry, uint32_t parent, std::string_view name) {
  ASSIGN_OR_RETURN(const format::InodeRecord inode, MakeInode(entry));
  ASSIGN_OR_RETURN(const uint32_t node, FindOrCreate(parent, name));
  if (entry.type == EntryType::kDirectory && IsDirectory(nodes_[node])) {
    // It keeps its children. Directories have one name, so nobody else sees the new attributes.
    RETURN_IF_ERROR(SetInode(node, inode));
    return false;
  }
  // What this layer had there hides the directory below, though a directory has come since.
  const bool replaces = nodes_[node].content != Content::kNothing;
  RemoveContent(node);
  RETURN_IF_ERROR(SetInode(node, inode));
  if (replaces && entry.type == EntryType::kDirectory) nodes_[node].flags |= kWhiteout;
  return entry.type == EntryType::kRegular;
}

Status LayerTree::SetInode(uint32_t node, const format::InodeRecord& inode) {
  RETURN_IF_ERROR(memory_.Take(kInodeBytes));
  ASSIGN_OR_RETURN(nodes_[node].value, inodes_.Add(inode));
  nodes_[node].content = Content::kInode;
  nodes_[node].type = static_cast<EntryType>(inode.type);
  nodes_[node].flags &= static_cast<uint8_t>(~(kImplicit | kDevice00));
  return {};
}

Status LayerTree::AddImplicit(uint32_t node) {
  format::InodeRecord inode;
  inode.type = static_cast<uint8_t>(EntryType::kDirectory);
  inode.mode = kImplicitMode;
  RETURN_IF_ERROR(SetInode(node, inode));
  nodes_[node].flags |= kImplicit;
  return {};
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

void LayerTree::SetFlatOffset(uint64_t flat_offset) { inodes_.last().place = flat_offset; }

void LayerTree::SetExtents(uint32_t first, uint32_t count) {
  inodes_.last().flags |= format::kInodeSparse;
  inodes_.last().extent_first = count == 0 ? 0 : first;
  inodes_.last().extent_count = count;
}

void LayerTree::RemoveContent(uint32_t number) {
  Node& node = nodes_[number];
  if (IsDirectory(node)) DetachChildren(number);
  if (node.content == Content::kInode &&
      (node.type == EntryType::kDirectory || node.type == EntryType::kSymlink))
    ++generation_;
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
  // The root has no name, and there may be no block yet.
  return node.name_length == 0 ? std::string_view() : names_.At(node.name_offset, node.name_length);
}

std::string LayerTree::PathOf(uint32_t node) const {
  std::vector<std::string_view> names;
  for (; node != kRoot; node = nodes_[node].parent) names.push_back(NameOf(nodes_[node]));
  std::reverse(names.begin(), names.end());
  return JoinPath(names);
}

bool LayerTree::IsDirectory(const Node& node) const {
  return node.content == Content::kInode && node.type == EntryType::kDirectory;
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
Status LayerTree::GrowSlots() {
  const uint64_t old_bytes = slots_.size() * sizeof slots_[0];
  RETURN_IF_ERROR(memory_.Take(2 * old_bytes));
  {
    std::vector<uint32_t> old(slots_.size() * 2, kNone);
    old.swap(slots_);
    slots_used_ = 0;
    for (const uint32_t node : old)
      if (node != kNone && node != kDeleted) InsertSlot(node);
  }
  memory_.Give(old_bytes);
  return {};
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
  if (nodes_.size() > limits_.entries)
    return Error{Code::kLimit, "the layer has more names than the limit of " +
                                   std::to_string(limits_.entries) + " entries"};
  if (slots_used_ * 4 >= slots_.size() * 3) RETURN_IF_ERROR(GrowSlots());
  RETURN_IF_ERROR(memory_.Take(kNodeBytes));
  Node node;
  node.parent = parent;
  ASSIGN_OR_RETURN(node.name_offset, names_.Add(name));
  node.name_length = static_cast<uint8_t>(name.size());
  node.next_sibling = nodes_[parent].first_child;
  const auto number = static_cast<uint32_t>(nodes_.size());
  nodes_[parent].first_child = number;
  nodes_.push_back(node);
  InsertSlot(number);
  return number;
}

// The nodes that the index gets, breadth first, with the children of each sorted.
Result<std::vector<uint32_t>> LayerTree::EmitOrder() {
  std::vector<uint32_t> order;
  order.reserve(nodes_.size());
  order.push_back(kRoot);
  for (size_t i = 0; i < order.size(); ++i) {
    RETURN_IF_ERROR(Spend(0));
    const auto first = static_cast<ptrdiff_t>(order.size());
    for (uint32_t child = nodes_[order[i]].first_child; child != kNone;
         child = nodes_[child].next_sibling)
      if (IsShown(nodes_[child])) order.push_back(child);
    std::sort(order.begin() + first, order.end(),
              [&](uint32_t a, uint32_t b) { return NameOf(nodes_[a]) < NameOf(nodes_[b]); });
  }
  return order;
}

bool LayerTree::IsShown(const Node& node) {
  return node.content != Content::kNothing || (node.flags & kWhiteout) != 0;
}

// The inodes that nodes still use; the numbers that they get, by their numbers so far.
Result<std::vector<uint32_t>> LayerTree::EmitInodes(const std::vector<uint32_t>& order) {
  constexpr uint32_t kUsed = 0;
  std::vector<uint32_t> numbers(inodes_.size(), kNone);
  for (const uint32_t node : order)
    if (nodes_[node].content == Content::kInode) numbers[nodes_[node].value] = kUsed;
  RETURN_IF_ERROR(inodes_.ForEach([&](uint32_t number, const format::InodeRecord& inode) -> Status {
    if (numbers[number] != kUsed) return {};
    ASSIGN_OR_RETURN(numbers[number], writer_.AddInode(inode));
    return {};
  }));
  return numbers;
}

Status LayerTree::Emit() {
  RETURN_IF_ERROR(PrepareRoot());
  ASSIGN_OR_RETURN(const std::vector<uint32_t> order, EmitOrder());
  ASSIGN_OR_RETURN(const std::vector<uint32_t> numbers, EmitInodes(order));
  uint32_t next_child = 1;
  for (const uint32_t node : order) {
    RETURN_IF_ERROR(Spend(0));
    format::EntryRecord entry = MakeEntry(nodes_[node], numbers);
    for (uint32_t child = nodes_[node].first_child; child != kNone;
         child = nodes_[child].next_sibling)
      if (IsShown(nodes_[child])) ++entry.child_count;
    if (entry.child_count > 0) entry.first_child = next_child;
    next_child += entry.child_count;
    RETURN_IF_ERROR(writer_.AddEntry(entry));
  }
  return names_.WriteTo(writer_);
}

format::EntryRecord LayerTree::MakeEntry(const Node& node,
                                         const std::vector<uint32_t>& numbers) const {
  format::EntryRecord entry;
  entry.name_offset = node.name_offset;
  entry.name_length = node.name_length;
  switch (node.content) {
    case Content::kNothing:
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kWhiteout);
      break;
    case Content::kExternalLink:
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kExternalLink);
      entry.link_offset = external_links_[node.value].offset;
      entry.link_length = external_links_[node.value].length;
      break;
    case Content::kInode:
      entry.kind = static_cast<uint8_t>(LayerEntry::Kind::kInode);
      // A directory that comes with a whiteout of its own name shows nothing of the one below.
      if (IsDirectory(node) && (node.flags & kWhiteout) != 0)
        entry.flags |= format::kEntryOpaque | format::kEntryReplaces;
      if (IsDirectory(node) && (node.flags & kOpaque) != 0) entry.flags |= format::kEntryOpaque;
      if ((node.flags & kImplicit) != 0) entry.flags |= format::kEntryImplicit;
      entry.inode = numbers[node.value];
      break;
  }
  return entry;
}

}  // namespace lamina
