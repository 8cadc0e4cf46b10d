#include "overlay/merge.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "overlay/erofs_format.h"
#include "overlay/link_resolver.h"

namespace lamina {
namespace {

// Walks the children of one layer's directory in order, and holds the index to its promise that
// they are sorted and well formed.
class Cursor {
 public:
  static Result<Cursor> Begin(const LayerStack& stack, const LayerDirectory& directory) {
    Cursor cursor(directory);
    RETURN_IF_ERROR(cursor.Load(stack));
    return cursor;
  }

  uint32_t layer() const { return directory_.layer; }
  uint32_t number() const { return directory_.first_child + next_; }
  const LayerEntry& entry() const { return entry_; }
  bool done() const { return next_ >= directory_.child_count; }

  Status Advance(const LayerStack& stack) {
    const std::string_view before = entry_.name;
    ++next_;
    if (done()) return {};
    RETURN_IF_ERROR(Load(stack));
    if (entry_.name > before) return {};
    return Error{
        Code::kCorrupt,
        stack.NameOf(layer()) + ": the names in its index are not sorted at " + Quote(entry_.name)};
  }

 private:
  explicit Cursor(const LayerDirectory& directory) : directory_(directory) {}

  Status Load(const LayerStack& stack) {
    ASSIGN_OR_RETURN(entry_, stack.Entry(layer(), number()));
    const std::string_view name = entry_.name;
    if (!name.empty() && name.size() <= erofs::kMaxName && name != "." && name != ".." &&
        name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos)
      return {};
    return Error{Code::kCorrupt,
                 stack.NameOf(layer()) + ": its index holds the impossible name " + Quote(name)};
  }

  LayerDirectory directory_;
  uint32_t next_ = 0;
  LayerEntry entry_;
};

// For a heap whose front is the least name, and among equal names the topmost layer.
bool ComesLater(const Cursor& a, const Cursor& b) {
  const int order = a.entry().name.compare(b.entry().name);
  return order != 0 ? order > 0 : a.layer() < b.layer();
}

class Merger {
 public:
  Merger(const LayerStack& stack, const TreeOptions& options, BuildWork& work, LinkResolver& links)
      : stack_(stack), options_(options), work_(work), links_(links), inode_of_(stack.size()) {}

  Result<MergedTree> Run();

 private:
  // A directory whose children are still to be merged; its parts are the last `part_count` ones of
  // parts_ when it is at the top of the stack.
  struct Pending {
    uint32_t inode = 0;
    uint32_t part_count = 0;
    uint32_t depth = 0;
  };

  void Reserve();
  Status AddRoot();
  Status MergeDirectory(const Pending& pending);
  Status MergeChildren(const Pending& pending, std::span<const LayerDirectory> parts);
  Status OwnChildren(const Pending& pending, std::span<const LayerDirectory> parts);
  void PushFound();
  Status AddName(const Pending& pending, const ResolvedName& name, uint32_t part_count);
  Result<uint32_t> InodeOf(const Pending& pending, const ResolvedName& name, uint32_t part_count);
  Result<uint32_t> SharedInode(InodeRef ref);
  Result<uint32_t> LinkedInode(const ResolvedName& name);
  uint32_t AddDirectory(const Pending& pending, const ResolvedName& name, uint32_t part_count);
  uint32_t NewInode(const MergedInode& inode);

  const LayerStack& stack_;
  const TreeOptions& options_;
  BuildWork& work_;
  LinkResolver& links_;
  MergedTree tree_;
  std::vector<std::vector<uint32_t>> inode_of_;  // by layer and its inode: the merged one, or kNone
  std::vector<Pending> stack_of_directories_;
  std::vector<LayerDirectory> parts_;
  // Directories found in the directory at hand, in order, and their parts one after another.
  std::vector<Pending> found_;
  std::vector<LayerDirectory> found_parts_;
};

Result<MergedTree> Merger::Run() {
  Reserve();
  RETURN_IF_ERROR(AddRoot());
  while (!stack_of_directories_.empty()) {
    const Pending pending = stack_of_directories_.back();
    stack_of_directories_.pop_back();
    RETURN_IF_ERROR(MergeDirectory(pending));
  }
  return std::move(tree_);
}

// A merged tree has no more names than its layers together, so the arrays never move; memory that
// stays untouched costs nothing.
void Merger::Reserve() {
  uint64_t most = 1;
  for (uint32_t layer = 0; layer < stack_.size(); ++layer) {
    const LayerIndex& index = stack_.layer(layer);
    // Once an entry can be read, its index holds as many as it claims.
    if (index.Entry(0)) most += index.facts().entry_count;
  }
  most = std::min(most, options_.entry_limit + 1);
  tree_.names.reserve(most);
  tree_.inodes.reserve(most);
}

Status Merger::AddRoot() {
  ResolvedName root;
  root.kind = ResolvedName::Kind::kDirectory;
  if (stack_.size() > 0) {
    const uint32_t top = static_cast<uint32_t>(options_.only_layer.value_or(stack_.size() - 1));
    ASSIGN_OR_RETURN(root, stack_.Root(top, work_, &found_parts_));
  }
  AddDirectory(Pending{}, root, static_cast<uint32_t>(found_parts_.size()));
  tree_.inodes[0].parent = 0;
  tree_.inodes[0].nlink = 2;
  found_[0].depth = 0;
  PushFound();
  return {};
}

// The first directory found comes to the top of the stack, and its parts to the end of parts_.
void Merger::PushFound() {
  size_t end = found_parts_.size();
  for (size_t i = found_.size(); i-- > 0;) {
    const size_t begin = end - found_[i].part_count;
    parts_.insert(parts_.end(), found_parts_.begin() + static_cast<std::ptrdiff_t>(begin),
                  found_parts_.begin() + static_cast<std::ptrdiff_t>(end));
    stack_of_directories_.push_back(found_[i]);
    end = begin;
  }
  found_.clear();
  found_parts_.clear();
}

Status Merger::MergeDirectory(const Pending& pending) {
  const std::vector<LayerDirectory> parts(parts_.end() - pending.part_count, parts_.end());
  parts_.resize(parts_.size() - pending.part_count);
  tree_.inodes[pending.inode].first_name = static_cast<uint32_t>(tree_.names.size());
  RETURN_IF_ERROR(options_.only_layer ? OwnChildren(pending, parts)
                                      : MergeChildren(pending, parts));
  PushFound();
  return {};
}

Status Merger::MergeChildren(const Pending& pending, std::span<const LayerDirectory> parts) {
  std::vector<Cursor> heap;
  for (const LayerDirectory& part : parts) {
    if (part.child_count == 0) continue;
    ASSIGN_OR_RETURN(Cursor cursor, Cursor::Begin(stack_, part));
    heap.push_back(std::move(cursor));
  }
  std::make_heap(heap.begin(), heap.end(), ComesLater);
  while (!heap.empty()) {
    const std::string_view name = heap.front().entry().name;
    const size_t parts_before = found_parts_.size();
    NameResolver resolver(stack_, &found_parts_);
    bool more = true;
    while (!heap.empty() && heap.front().entry().name == name) {
      RETURN_IF_ERROR(work_.GoOn());
      std::pop_heap(heap.begin(), heap.end(), ComesLater);
      Cursor& cursor = heap.back();
      if (more) {
        ASSIGN_OR_RETURN(more, resolver.Add(cursor.layer(), cursor.number(), cursor.entry()));
      }
      RETURN_IF_ERROR(cursor.Advance(stack_));
      if (cursor.done()) {
        heap.pop_back();
      } else {
        std::push_heap(heap.begin(), heap.end(), ComesLater);
      }
    }
    const auto part_count = static_cast<uint32_t>(found_parts_.size() - parts_before);
    RETURN_IF_ERROR(AddName(pending, resolver.name(), part_count));
  }
  return {};
}

// The names of the one layer alone; the layers below only lend attributes to its implicit
// directories, as an unpacker on overlayfs would find them there.
Status Merger::OwnChildren(const Pending& pending, std::span<const LayerDirectory> parts) {
  if (parts.empty() || parts[0].child_count == 0) return {};
  ASSIGN_OR_RETURN(Cursor cursor, Cursor::Begin(stack_, parts[0]));
  while (!cursor.done()) {
    RETURN_IF_ERROR(work_.GoOn());
    const size_t parts_before = found_parts_.size();
    NameResolver resolver(stack_, &found_parts_);
    ASSIGN_OR_RETURN(bool more, resolver.Add(cursor.layer(), cursor.number(), cursor.entry()));
    for (size_t i = 1; more && i < parts.size(); ++i) {
      ASSIGN_OR_RETURN(const auto number, stack_.FindIn(parts[i], cursor.entry().name, work_));
      if (!number) continue;
      ASSIGN_OR_RETURN(const LayerEntry entry, stack_.Entry(parts[i].layer, *number));
      ASSIGN_OR_RETURN(more, resolver.Add(parts[i].layer, *number, entry));
    }
    const auto part_count = static_cast<uint32_t>(found_parts_.size() - parts_before);
    RETURN_IF_ERROR(AddName(pending, resolver.name(), part_count));
    RETURN_IF_ERROR(cursor.Advance(stack_));
  }
  return {};
}

Status Merger::AddName(const Pending& pending, const ResolvedName& name, uint32_t part_count) {
  if (name.kind == ResolvedName::Kind::kWhiteout && !options_.only_layer) return {};
  // The root is an entry without a name here.
  if (tree_.names.size() + 1 >= options_.entry_limit)
    return Error{Code::kLimit, fmt::format("{} is one entry more than the limit of {} for an image",
                                           stack_.NameOf(name.layer), options_.entry_limit)};
  if (pending.depth >= kMaxDepth)
    return Error{Code::kLimit,
                 fmt::format("{}: what is in {} is deeper than the limit of {} names in a path",
                             stack_.NameOf(name.layer), Quote(tree_.PathOf(stack_, pending.inode)),
                             kMaxDepth)};
  ASSIGN_OR_RETURN(const uint32_t inode, InodeOf(pending, name, part_count));
  tree_.names.push_back({name.entry, inode, static_cast<uint16_t>(name.layer)});
  ++tree_.inodes[pending.inode].name_count;
  return {};
}

Result<uint32_t> Merger::InodeOf(const Pending& pending, const ResolvedName& name,
                                 uint32_t part_count) {
  switch (name.kind) {
    case ResolvedName::Kind::kFile:
      return SharedInode(name.inode);
    case ResolvedName::Kind::kExternalLink:
      return LinkedInode(name);
    case ResolvedName::Kind::kDirectory:
      return AddDirectory(pending, name, part_count);
    case ResolvedName::Kind::kWhiteout:
    case ResolvedName::Kind::kAbsent:
      break;
  }
  MergedInode whiteout;
  whiteout.whiteout = true;
  whiteout.nlink = 1;
  return NewInode(whiteout);
}

Result<uint32_t> Merger::SharedInode(InodeRef ref) {
  std::vector<uint32_t>& known = inode_of_[ref.layer];
  // Grows with what is used, not by what the index claims.
  if (ref.inode >= known.size())
    known.resize(std::max<size_t>(ref.inode + size_t{1}, known.size() * 3 / 2), kNone);
  uint32_t& merged = known[ref.inode];
  if (merged == kNone) {
    MergedInode inode;
    inode.source = ref.inode;
    inode.layer = static_cast<uint16_t>(ref.layer);
    merged = NewInode(inode);
  }
  ++tree_.inodes[merged].nlink;
  return merged;
}

Result<uint32_t> Merger::LinkedInode(const ResolvedName& name) {
  auto target = links_.Follow(name);
  if (!target) return target.error().Within(stack_.NameOf(name.layer));
  return SharedInode(*target);
}

uint32_t Merger::AddDirectory(const Pending& pending, const ResolvedName& name,
                              uint32_t part_count) {
  MergedInode inode;
  inode.directory = true;
  inode.nlink = 2;
  inode.parent = pending.inode;
  inode.opaque = options_.only_layer && name.opaque;
  if (name.attributes) {
    inode.source = name.attributes->inode;
    inode.layer = static_cast<uint16_t>(name.attributes->layer);
  }
  const uint32_t number = NewInode(inode);
  ++tree_.inodes[pending.inode].nlink;
  found_.push_back({number, part_count, pending.depth + 1});
  return number;
}

uint32_t Merger::NewInode(const MergedInode& inode) {
  tree_.inodes.push_back(inode);
  return static_cast<uint32_t>(tree_.inodes.size() - 1);
}

std::string TextOf(const LayerStack& stack, const MergedName& name) {
  const auto entry = stack.Entry(name.layer, name.entry);
  return entry ? std::string(entry->name) : "?";
}

// The directory that holds the name with this number.
uint32_t ParentOfName(const MergedTree& tree, size_t number) {
  for (uint32_t i = 0; i < tree.inodes.size(); ++i) {
    const MergedInode& inode = tree.inodes[i];
    if (inode.directory && number >= inode.first_name &&
        number - inode.first_name < inode.name_count)
      return i;
  }
  return 0;
}

}  // namespace

std::string MergedTree::PathOf(const LayerStack& stack, uint32_t inode) const {
  std::string path;
  while (inode != 0) {
    // A directory has one name, in its parent; a file is looked for everywhere.
    const MergedInode& parent = inodes[inodes[inode].directory ? inodes[inode].parent : 0];
    const std::span<const MergedName> all(names);
    const auto range =
        inodes[inode].directory ? all.subspan(parent.first_name, parent.name_count) : all;
    const auto found = std::find_if(range.begin(), range.end(),
                                    [&](const MergedName& name) { return name.inode == inode; });
    if (found == range.end()) return "/?" + path;
    path = "/" + TextOf(stack, *found) + path;
    inode = inodes[inode].directory
                ? inodes[inode].parent
                : ParentOfName(*this, static_cast<size_t>(&*found - names.data()));
  }
  return path.empty() ? "/" : path;
}

Result<MergedTree> MergeLayers(const LayerStack& stack, const TreeOptions& options,
                               BuildWork& work) {
  LinkResolver links(stack, work);
  for (uint32_t layer = static_cast<uint32_t>(options.only_layer.value_or(0)); layer < stack.size();
       ++layer)
    RETURN_IF_ERROR(links.Check(layer));
  return Merger(stack, options, work, links).Run();
}

}  // namespace lamina
