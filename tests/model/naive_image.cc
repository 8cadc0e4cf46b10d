#include "tests/model/naive_image.h"

#include <algorithm>

namespace lamina::testing {
namespace {

using Type = EntrySpec::Type;

std::vector<std::string> Components(const std::string& path) {
  std::vector<std::string> components;
  std::string component;
  for (const char c : path + "/") {
    if (c != '/') {
      component += c;
      continue;
    }
    if (component == "..") {
      if (!components.empty()) components.pop_back();
    } else if (!component.empty() && component != ".") {
      components.push_back(component);
    }
    component.clear();
  }
  return components;
}

std::shared_ptr<NaiveInode> MakeInode(const EntrySpec& entry) {
  auto inode = std::make_shared<NaiveInode>();
  inode->type = entry.type;
  inode->mode = entry.mode;
  inode->uid = entry.uid;
  inode->gid = entry.gid;
  inode->mtime_s = entry.mtime_s;
  inode->mtime_ns = entry.mtime_ns;
  inode->major = entry.major;
  inode->minor = entry.minor;
  inode->xattrs = entry.xattrs;
  if (entry.type == Type::kSymlink) {
    inode->target = entry.link;
    inode->mode = 0777;  // Linux has no other
  }
  if (entry.type == Type::kFile && entry.sparse_size > 0) {
    inode->size = entry.sparse_size;
    inode->data = entry.sparse_data;
  } else if (entry.type == Type::kFile) {
    inode->size = entry.content.size();
    inode->data = {{0, entry.content}};
  }
  return inode;
}

// Stands for the target of a link that leads nowhere, or to a directory: an error if the link is
// there in the end.
std::shared_ptr<NaiveInode> DeadLink() {
  auto inode = std::make_shared<NaiveInode>();
  inode->type = Type::kHardlink;
  return inode;
}

}  // namespace

NaiveImage::NaiveImage(int64_t created_s) : created_s_(created_s), root_(ImplicitDirectory()) {}

NaiveNode NaiveImage::ImplicitDirectory() const {
  NaiveNode node;
  node.inode = std::make_shared<NaiveInode>();
  node.inode->mtime_s = created_s_;
  return node;
}

bool NaiveImage::Apply(const LayerSpec& layer) {
  Change change;
  for (const EntrySpec& entry : layer)
    if (!AddEntry(entry, &change)) return false;
  if (HasDeadLink(change)) return false;
  if (change.inode != nullptr) root_.inode = change.inode;
  Overlay(change, &root_);
  return true;
}

bool NaiveImage::HasDeadLink(const Change& change) {
  if (change.inode != nullptr && change.inode->type == Type::kHardlink) return true;
  for (const auto& [name, child] : change.children)
    if (HasDeadLink(child)) return true;
  return false;
}

// Whiteouts are only noted here: wherever they stand in the layer, they concern lower layers.
bool NaiveImage::AddEntry(const EntrySpec& entry, Change* layer) const {
  std::vector<std::string> components = Components(entry.path);
  if (components.empty()) {
    layer->inode = MakeInode(entry);
    return true;
  }
  const std::string name = components.back();
  components.pop_back();
  Change* parent = layer;
  for (const std::string& component : components) parent = &parent->children[component];
  if (name == ".wh..wh..opq") {
    parent->opaque = true;
  } else if (name.starts_with(".wh.")) {
    parent->whiteouts.push_back(name.substr(4));
  } else if (entry.type == Type::kHardlink) {
    const std::shared_ptr<NaiveInode> inode = LinkTarget(entry.link, *layer);
    if (inode == nullptr) return false;
    parent->children[name].inode = inode;
  } else {
    // A directory in the place of a file of this layer: the file has deleted what is below.
    const auto before = parent->children.find(name);
    if (entry.type == Type::kDirectory && before != parent->children.end() &&
        !before->second.is_directory())
      parent->whiteouts.push_back(name);
    parent->children[name].inode = MakeInode(entry);
  }
  return true;
}

// What the layer itself has there by now, else what the layers below have, unless this layer has
// deleted it by now.
std::shared_ptr<NaiveInode> NaiveImage::LinkTarget(const std::string& path,
                                                   const Change& layer) const {
  const std::vector<std::string> components = Components(path);
  const Change* own = &layer;
  bool deleted = false;
  for (const std::string& component : components) {
    deleted =
        deleted || own->opaque ||
        std::find(own->whiteouts.begin(), own->whiteouts.end(), component) != own->whiteouts.end();
    const auto child = own->children.find(component);
    own = child == own->children.end() ? nullptr : &child->second;
    if (own == nullptr) break;
  }
  if (own != nullptr && own->inode != nullptr) return own->inode;
  if (deleted) return nullptr;
  const NaiveNode* node = &root_;
  for (const std::string& component : components) {
    const auto child = node->children.find(component);
    if (child == node->children.end()) return DeadLink();
    node = &child->second;
  }
  return node->is_directory() ? DeadLink() : node->inode;
}

void NaiveImage::Overlay(const Change& change, NaiveNode* directory) const {
  if (change.opaque) directory->children.clear();
  for (const std::string& name : change.whiteouts) directory->children.erase(name);
  for (const auto& [name, child] : change.children) {
    if (!child.is_directory()) {
      directory->children[name] = NaiveNode{child.inode, {}};
      continue;
    }
    const auto lower = directory->children.find(name);
    if (lower == directory->children.end() || !lower->second.is_directory())
      directory->children[name] = ImplicitDirectory();
    NaiveNode& node = directory->children[name];
    if (child.inode != nullptr) node.inode = child.inode;
    Overlay(child, &node);
  }
}

}  // namespace lamina::testing
