// Image directories: rootfs, layers, the documents, platforms, status.json.

#include <charconv>
#include <set>

#include "fs/namespace.h"

namespace lamina {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
const NodeEntry kNever{.attr = {}, .entry_seconds = kForever, .attr_seconds = 0};

// "linux-arm64" with the position in the index; each name once, the first wins. Attestations have
// no platform.
std::vector<std::pair<std::string, uint32_t>> PlatformNames(const ImageDocuments& documents) {
  std::vector<std::pair<std::string, uint32_t>> names;
  if (!documents.parsed_index) return names;
  std::set<std::string> seen;
  const auto& manifests = documents.parsed_index->manifests;
  for (uint32_t i = 0; i < manifests.size() && i <= kMaxImageNumber; ++i) {
    const auto& platform = manifests[i].platform;
    if (!platform || !IsWellFormed(*platform) || platform->os.empty() || platform->os == "unknown")
      continue;
    std::string name = platform->os + "-" + platform->architecture;
    if (!platform->variant.empty()) name += "-" + platform->variant;
    if (seen.insert(name).second) names.emplace_back(std::move(name), i);
  }
  return names;
}

// A layer's number as it is written, without leading zeros.
std::optional<uint32_t> LayerNumber(std::string_view name, size_t count) {
  uint32_t number = 0;
  const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (failed != std::errc() || end != name.data() + name.size() || std::to_string(number) != name ||
      number >= count)
    return std::nullopt;
  return number;
}

NodeAttr PartAttr(NodeId node, EntryType type, uint32_t mode, uint32_t nlink, uint64_t size,
                  const ImageRow& image) {
  const int64_t created = image.image->documents().parsed_config.created_ns.value_or(0);
  const int64_t remainder = ((created % kSecond) + kSecond) % kSecond;
  return {.id = node,
          .type = type,
          .mode = mode,
          .nlink = nlink,
          .size = size,
          .mtime_s = (created - remainder) / kSecond,
          .mtime_ns = static_cast<uint32_t>(remainder)};
}

bool IsFolder(ImagePart part) {
  return part == ImagePart::kFolder || part == ImagePart::kLayersFolder ||
         part == ImagePart::kPlatformsFolder;
}

// The parts with a fixed name; rootfs and status.json are not among them.
std::optional<ImagePart> PartOfName(std::string_view name, const ImageDocuments& documents) {
  if (name == "layers") return ImagePart::kLayersFolder;
  if (name == "manifest.json") return ImagePart::kManifest;
  if (name == "config.json") return ImagePart::kConfig;
  if (!documents.index) return std::nullopt;
  if (name == "index.json") return ImagePart::kIndex;
  if (name == "platforms") return ImagePart::kPlatformsFolder;
  return std::nullopt;
}

}  // namespace

const std::string* Namespace::DocumentOf(const NodeParts& parts, const ImageRow& image) {
  const ImageDocuments& documents = image.image->documents();
  if (parts.part() == ImagePart::kManifest) return &documents.manifest;
  if (parts.part() == ImagePart::kConfig) return &documents.config;
  if (parts.part() == ImagePart::kIndex && documents.index) return &*documents.index;
  return nullptr;
}

Result<std::string> Namespace::ImageLink(const NodeParts& parts, const ImageRow& image) const {
  if (parts.part() == ImagePart::kTopLink && image.image->layer_count() > 0)
    return std::to_string(image.image->layer_count() - 1);
  const auto& index = image.image->documents().parsed_index;
  if (parts.part() == ImagePart::kPlatformLink && index && parts.number() < index->manifests.size())
    return "../../" + index->manifests[parts.number()].digest.PathName();
  return Error{Code::kNotFound, "the image has no such link"};
}

Attempt<NodeAttr> Namespace::ImagePartAttr(const NodeParts& parts, const ImageRow& image) const {
  const NodeId node = MakeNode(parts.kind, parts.row, parts.position);
  if (IsFolder(parts.part())) {
    uint32_t folders = 0;
    if (parts.part() == ImagePart::kFolder) folders = image.image->documents().index ? 3 : 2;
    if (parts.part() == ImagePart::kLayersFolder)
      folders = static_cast<uint32_t>(image.image->layer_count());
    return PartAttr(node, EntryType::kDirectory, 0555, 2 + folders, 0, image);
  }
  if (const std::string* document = DocumentOf(parts, image))
    return PartAttr(node, EntryType::kRegular, 0444, 1, document->size(), image);
  const auto target = ImageLink(parts, image);
  if (!target) return target.error();
  return PartAttr(node, EntryType::kSymlink, 0777, 1, target->size(), image);
}

Attempt<NodeEntry> Namespace::PartEntry(uint32_t row, const ImageRow& image, ImagePart part,
                                        uint32_t number) const {
  const NodeParts parts = *SplitNode(ImageNode(row, part, number));
  ATTEMPT(const NodeAttr attr, ImagePartAttr(parts, image));
  return NodeEntry{attr, kForever, kForever};
}

Attempt<NodeEntry> Namespace::LookupInImage(const NodeParts& parts, std::string_view name,
                                            bool may_wait) {
  ATTEMPT(const ImageRowPtr image, OpenRow(parts.row, may_wait));
  if (parts.part() == ImagePart::kLayersFolder)
    return LookupInLayers(*image, parts.row, name, may_wait);
  if (parts.part() == ImagePart::kPlatformsFolder) {
    for (const auto& [platform, number] : PlatformNames(image->image->documents()))
      if (platform == name) return PartEntry(parts.row, *image, ImagePart::kPlatformLink, number);
  }
  if (parts.part() != ImagePart::kFolder) return kNever;
  if (name == "rootfs") return TreeRootEntry(parts.row, *image);
  if (name == "status.json") return StatusEntry(*image, parts.row, may_wait);
  const auto part = PartOfName(name, image->image->documents());
  return part ? PartEntry(parts.row, *image, *part, 0) : kNever;
}

Attempt<NodeEntry> Namespace::LookupInLayers(const ImageRow& image, uint32_t row,
                                             std::string_view name, bool may_wait) {
  const size_t count = image.image->layer_count();
  if (name == "top" && count > 0) return PartEntry(row, image, ImagePart::kTopLink, 0);
  const auto number = LayerNumber(name, count);
  if (!number) return kNever;
  ATTEMPT(const uint32_t layer_row, RowOfLayer(image, *number, may_wait));
  ATTEMPT(const ImageRowPtr layer, OpenRow(layer_row, may_wait));
  return TreeRootEntry(layer_row, *layer);
}

// The lookup must not wait for the tree (the kernel holds a lock meanwhile), so that a tree that is
// not open yet shows with made-up attributes that the kernel may not keep; what comes next waits.
Attempt<NodeEntry> Namespace::TreeRootEntry(uint32_t row, const ImageRow& image) {
  if (image.tree == nullptr) {
    const Attempt<ImageRowPtr> opened = TreeRow(row, false);
    if (opened && *opened) return TreeRootEntry(row, ***opened);
    NodeAttr attr = PartAttr(TreeNode(row, 0), EntryType::kDirectory, 0755, 2, 0, image);
    return NodeEntry{attr, 0, 0};
  }
  ATTEMPT(const NodeAttr attr, TreeAttrOf(image, row, 0));
  return NodeEntry{attr, kForever, kForever};
}

std::string Namespace::StatusOf(const ImageRow& image) {
  const ImageDocuments& documents = image.image->documents();
  return image.image->StatusJson(catalog_.AliasesTo(documents.repository, documents.digest));
}

Attempt<NodeEntry> Namespace::StatusEntry(const ImageRow& image, uint32_t row, bool may_wait) {
  if (!image.image->opened_indexed()) {
    if (!may_wait) return std::nullopt;  // indexes may have to be opened
    image.image->OpenIndexed();
  }
  std::string text = StatusOf(image);
  const NodeId node = StatusNode(row, TextCheck(text));
  const NodeAttr attr = TextAttr(node, text);
  texts_.Put(node, std::move(text));
  return NodeEntry{attr, 0, 0};
}

Listing Namespace::ListImage(const NodeParts& parts, const ImageRow& image) const {
  const NodeId self = MakeNode(parts.kind, parts.row, parts.position);
  const NodeId up =
      parts.part() == ImagePart::kFolder ? 0 : ImageNode(parts.row, ImagePart::kFolder);
  Listing listing{{".", self, EntryType::kDirectory}, {"..", up, EntryType::kDirectory}};
  const auto add = [&](std::string name, NodeId id, EntryType type) {
    listing.push_back({std::move(name), id, type});
  };
  const auto part = [&](ImagePart which) { return ImageNode(parts.row, which); };
  if (parts.part() == ImagePart::kLayersFolder) {
    for (size_t i = 0; i < image.image->layer_count(); ++i)
      add(std::to_string(i), 0, EntryType::kDirectory);
    if (image.image->layer_count() > 0) add("top", part(ImagePart::kTopLink), EntryType::kSymlink);
  } else if (parts.part() == ImagePart::kPlatformsFolder) {
    for (auto& [name, number] : PlatformNames(image.image->documents()))
      add(name, ImageNode(parts.row, ImagePart::kPlatformLink, number), EntryType::kSymlink);
  } else if (parts.part() == ImagePart::kFolder) {
    add("config.json", part(ImagePart::kConfig), EntryType::kRegular);
    if (image.image->documents().index) {
      add("index.json", part(ImagePart::kIndex), EntryType::kRegular);
      add("platforms", part(ImagePart::kPlatformsFolder), EntryType::kDirectory);
    }
    add("layers", part(ImagePart::kLayersFolder), EntryType::kDirectory);
    add("manifest.json", part(ImagePart::kManifest), EntryType::kRegular);
    add("rootfs", TreeNode(parts.row, 0), EntryType::kDirectory);
    add("status.json", 0, EntryType::kRegular);
  }
  return listing;
}

}  // namespace lamina
