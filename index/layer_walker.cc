#include "index/layer_walker.h"

#include "base/text.h"

namespace lamina {

namespace format = index_format;

namespace {

constexpr uint32_t kMaxLinksFollowed = 255;
// Components of a path and of all targets on its way: each link may bring two thousand more.
constexpr uint32_t kMaxSteps = 16384;
// What following a link costs of the layer's steps: inode and target may have to be read from disk.
constexpr uint64_t kFollowSteps = 64;

}  // namespace

Result<LayerTree::Place> LayerTree::Walker::Walk(std::span<const std::string_view> components) {
  Push(components);
  while (!pending_.empty() && place_.missing.empty()) {
    if (++steps_ > kMaxSteps) return TooManyLinks();
    RETURN_IF_ERROR(tree_.Spend(1));
    const std::string_view name = pending_.back();
    pending_.pop_back();
    RETURN_IF_ERROR(Step(name));
  }
  return place_;
}

void LayerTree::Walker::Push(std::span<const std::string_view> components) {
  pending_.insert(pending_.end(), components.rbegin(), components.rend());
}

Status LayerTree::Walker::Step(std::string_view name) {
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
  if (node.content == Content::kInode && node.type == EntryType::kSymlink) return Follow(child);
  return Error{Code::kInvalid,
               "its parent " + Quote(tree_.PathOf(child)) + " is no directory in this layer"};
}

Status LayerTree::Walker::Enter(uint32_t directory) {
  if (++place_.depth > kMaxDepth)
    return Error{Code::kLimit,
                 "it is nested deeper than the limit of " + std::to_string(kMaxDepth)};
  place_.node = directory;
  return {};
}

Status LayerTree::Walker::Follow(uint32_t link) {
  if (++followed_ > kMaxLinksFollowed) return TooManyLinks();
  RETURN_IF_ERROR(tree_.Spend(kFollowSteps));
  ASSIGN_OR_RETURN(const format::InodeRecord inode, tree_.inodes_.Read(tree_.nodes_[link].value));
  ASSIGN_OR_RETURN(std::string target,
                   tree_.writer_.ReadString({inode.place, static_cast<uint32_t>(inode.size)}));
  if (target[0] == '/') place_ = Place();
  targets_.push_back(std::move(target));
  Push(Split(targets_.back(), '/'));
  return {};
}

Error LayerTree::Walker::TooManyLinks() const {
  return Error{Code::kInvalid, "too many symbolic links in its parents, or a loop of them, at " +
                                   Quote(tree_.PathOf(place_.node))};
}

// What is left goes into `missing`, cleaned with the place it starts from.
Status LayerTree::Walker::Miss(std::string_view name) {
  place_.missing = name;
  for (; !pending_.empty(); pending_.pop_back()) {
    place_.missing += '/';
    place_.missing += pending_.back();
  }
  return {};
}

}  // namespace lamina
