// Inside rootfs and layers/N: straight from the mapped tree.

#include <fmt/core.h>

#include "base/log.h"
#include "base/text.h"
#include "fs/namespace.h"

namespace lamina {
namespace {

NodeAttr AttrFrom(const TreeAttr& attr, NodeId node) {
  return {.id = node,
          .type = attr.type,
          .mode = attr.mode,
          .nlink = attr.nlink,
          .uid = attr.uid,
          .gid = attr.gid,
          .size = attr.size,
          .mtime_s = attr.mtime_s,
          .mtime_ns = attr.mtime_ns,
          .device_major = attr.device_major,
          .device_minor = attr.device_minor};
}

}  // namespace

Nid Namespace::NidOf(const ImageRow& row, uint32_t position) {
  return position == 0 ? row.tree->tree().root() : position;
}

uint32_t Namespace::PositionOf(const ImageRow& row, Nid nid) {
  return nid == row.tree->tree().root() ? 0 : static_cast<uint32_t>(nid);
}

NodeId Namespace::FolderOfTree(const ImageRow& row) {
  return ImageNode(row.image_row, row.layer ? ImagePart::kLayersFolder : ImagePart::kFolder);
}

Attempt<NodeAttr> Namespace::TreeAttrOf(const ImageRow& row, uint32_t number, uint32_t position) {
  const auto attr = row.tree->tree().Stat(NidOf(row, position));
  if (!attr) return attr.error();
  return AttrFrom(*attr, TreeNode(number, position));
}

Attempt<NodeEntry> Namespace::LookupInTree(const NodeParts& parts, std::string_view name,
                                           bool may_wait) {
  ATTEMPT(const ImageRowPtr row, TreeRow(parts.row, may_wait));
  const auto found = row->tree->tree().Lookup(NidOf(*row, parts.position), name);
  if (!found) return found.error();
  // Nothing under a digest ever changes, what is missing included.
  if (!found->has_value())
    return NodeEntry{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};
  if ((*found)->nid > UINT32_MAX)
    return Error{Code::kCorrupt, fmt::format("{}: node out of bounds", row->tree->tree().path())};
  ATTEMPT(const NodeAttr attr, TreeAttrOf(*row, parts.row, PositionOf(*row, (*found)->nid)));
  return NodeEntry{attr, kForever, kForever};
}

Attempt<size_t> Namespace::ReadTree(const NodeParts& parts, uint64_t offset, MutableByteSpan out,
                                    const Deadline* deadline) {
  ATTEMPT(const ImageRowPtr row, TreeRow(parts.row, deadline != nullptr));
  const Nid nid = NidOf(*row, parts.position);
  size_t got = 0;
  const Result<bool> local = row->image->TryReadFile(*row->tree, nid, offset, out, &got);
  if (local && *local) return got;
  // Failures too: writing them down takes locks and disk.
  if (deadline == nullptr) return std::nullopt;
  Result<size_t> read = row->image->ReadFile(*row->tree, nid, offset, out, *deadline);
  if (read) return read;
  Error error = std::move(read).error();
  const ImageDocuments& documents = row->image->documents();
  LogError(fmt::format("{}@{}: reading {} bytes at {} of node {}: {}", documents.repository,
                       documents.digest.ToString(), out.size(), offset, nid, error.message));
  row->image->SetLastError(error);
  if (error.code == Code::kNotFound) error.code = Code::kIo;
  return error;
}

Attempt<void> Namespace::ListTree(const NodeParts& parts, uint64_t cookie, bool attributes,
                                  const DirectoryVisitor& visit, bool may_wait) {
  ATTEMPT(const ImageRowPtr row, TreeRow(parts.row, may_wait));
  const Tree& tree = row->tree->tree();
  Status failed;
  const auto each = [&](const TreeDirent& dirent, uint64_t next_cookie) {
    const uint32_t position = PositionOf(*row, dirent.nid);
    DirectoryItem item{.name = dirent.name,
                       .id = TreeNode(parts.row, position),
                       .type = dirent.type,
                       .entry = nullptr,
                       .next_cookie = next_cookie};
    const bool dots = dirent.name == "." || dirent.name == "..";
    if (dirent.name == ".." && parts.position == 0) item.id = FolderOfTree(*row);
    NodeEntry entry;
    if (attributes && !dots) {
      const auto attr = tree.Stat(dirent.nid);
      if (!attr) {
        failed = attr.error();
        return false;
      }
      entry = {AttrFrom(*attr, item.id), kForever, kForever};
      item.entry = &entry;
    }
    return visit(item);
  };
  Status walked = tree.ReadDirectory(NidOf(*row, parts.position), cookie, each);
  if (!failed) return failed;
  return walked;
}

Attempt<std::optional<std::string>> Namespace::LaminaXattr(const ImageRow& row, Nid nid,
                                                           std::string_view name, bool may_wait) {
  const std::string_view what = name.substr(std::string_view("user.lamina.").size());
  if (what != "layer" && what != "digest" && what != "local") return std::optional<std::string>();
  if (!may_wait) return std::nullopt;  // a layer's index may have to be opened
  const auto found = row.image->ProvenanceOf(*row.tree, nid);
  if (!found) return found.error();
  if (!found->has_value()) return std::optional<std::string>();
  if (what == "layer") return std::optional<std::string>(std::to_string((*found)->layer));
  if (what == "digest") return std::optional<std::string>((*found)->digest.ToString());
  return std::optional<std::string>((*found)->local ? "yes" : "no");
}

// What failed last in the image, wherever in it one looks, or with a name in a folder of names or
// below it; an image that is not open has no failure.
std::optional<std::string> Namespace::ErrorXattr(NodeId node, const NodeParts& parts) const {
  if (parts.kind == NodeClass::kTree || parts.kind == NodeClass::kImage) {
    const ImageRowPtr row = images_.Find(parts.row);
    return row == nullptr ? std::nullopt : row->image->last_error();
  }
  const KeyPtr folder = FolderOfNames(node);
  return folder == nullptr ? std::nullopt : name_failures_.Find(*folder);
}

}  // namespace lamina
