// Rows to keys, open images and open trees; what a request waits for.

#include <fmt/core.h>

#include "base/log.h"
#include "base/text.h"
#include "fs/namespace.h"

namespace lamina {
namespace {

// For work that asks SQLite alone.
constexpr const char* kNamesKey = "names";
// For registries of which nothing is known; each user has one.
constexpr const char* kStrangersKey = "strangers";
// What local sources give as their key.
constexpr std::string_view kLocalSource = "local";

// "repo@digest" or "repo@digest#layer"
struct ImageKey {
  std::string repository;
  Digest digest;
  std::optional<uint32_t> layer;
};

std::string KeyOfImage(const std::string& repository, const Digest& digest) {
  return repository + "@" + digest.ToString();
}

Result<ImageKey> ParseImageKey(const std::string& key) {
  const Error broken{Code::kCorrupt, Quote(key) + " is not the key of an image"};
  const size_t at = key.find('@');
  if (at == std::string::npos) return broken;
  const size_t hash = key.find('#', at);
  auto digest = Digest::Parse(
      std::string_view(key).substr(at + 1, hash == std::string::npos ? hash : hash - at - 1));
  if (!digest) return broken;
  ImageKey parsed{key.substr(0, at), *digest, std::nullopt};
  if (hash != std::string::npos) {
    const std::string number = key.substr(hash + 1);
    if (number.empty() || number.size() > 6 ||
        number.find_first_not_of("0123456789") != std::string::npos)
      return broken;
    parsed.layer = static_cast<uint32_t>(std::stoul(number));
  }
  return parsed;
}

std::shared_ptr<MountedTree> OpenedTreeOf(const Image& image,
                                          const std::optional<uint32_t>& layer) {
  return layer ? image.OpenedLayerTree(*layer) : image.OpenedTree();
}

std::shared_ptr<const ImageRow> MakeRow(uint32_t image_row, std::optional<uint32_t> layer,
                                        std::shared_ptr<Image> image,
                                        std::shared_ptr<MountedTree> tree) {
  auto row = std::make_shared<ImageRow>();
  row->image_row = image_row;
  row->layer = layer;
  row->image = std::move(image);
  row->tree = std::move(tree);
  return row;
}

}  // namespace

Attempt<Namespace::KeyPtr> Namespace::NameKey(uint32_t row, bool may_wait) {
  if (auto key = names_.KnownKey(row)) return key;
  if (!may_wait) return std::nullopt;
  return names_.Key(row);
}

Attempt<Namespace::ImageRowPtr> Namespace::OpenRow(uint32_t row, bool may_wait) {
  if (auto found = images_.Find(row)) {
    found->image->NoteUse();
    return found;
  }
  if (!may_wait) return std::nullopt;
  const auto key = image_keys_.Key(row);
  if (!key) return key.error();
  return OpenImageKey(row, **key);
}

Result<Namespace::ImageRowPtr> Namespace::OpenImageKey(uint32_t row, const std::string& key) {
  ASSIGN_OR_RETURN(const ImageKey parsed, ParseImageKey(key));
  auto image = catalog_.OpenImage(parsed.repository, parsed.digest);
  if (!image) {
    // That a name is not there is an answer, not a fault.
    if (image.error().code != Code::kNotFound)
      LogWarning(fmt::format("{}: {}", key, image.error().message));
    return image.error();
  }
  if (parsed.layer && *parsed.layer >= (*image)->layer_count())
    return Error{Code::kNotFound, fmt::format("{} has no such layer", key)};
  uint32_t image_row = row;
  if (parsed.layer) {
    ASSIGN_OR_RETURN(image_row, image_keys_.Row(KeyOfImage(parsed.repository, parsed.digest)));
  }
  ImageRowPtr opened =
      MakeRow(image_row, parsed.layer, *image, OpenedTreeOf(**image, parsed.layer));
  images_.Put(row, opened);
  return opened;
}

Result<std::vector<std::string>> Namespace::KeysOfHeldImages() {
  std::vector<std::string> keys;
  for (const uint32_t row : held_images_.Rows()) {
    const auto key = image_keys_.Key(row);
    if (!key) return key.error();
    keys.push_back(**key);
  }
  return keys;
}

void Namespace::LetGo(const Image& image) { images_.Remove(image); }

Attempt<Namespace::ImageRowPtr> Namespace::TreeRow(uint32_t row, bool may_wait) {
  ATTEMPT(ImageRowPtr found, OpenRow(row, may_wait));
  if (found->tree != nullptr) return found;
  if (auto tree = OpenedTreeOf(*found->image, found->layer)) {
    found = MakeRow(found->image_row, found->layer, found->image, std::move(tree));
    images_.Put(row, found);
    return found;
  }
  if (!may_wait) return std::nullopt;
  return OpenTree(row, found);
}

Result<Namespace::ImageRowPtr> Namespace::OpenTree(uint32_t row, const ImageRowPtr& image) {
  auto tree =
      image->layer ? image->image->EnsureLayerTree(*image->layer) : image->image->EnsureTree();
  if (!tree) {
    Error error = std::move(tree).error();
    const ImageDocuments& documents = image->image->documents();
    LogError(
        fmt::format("{}: {}", KeyOfImage(documents.repository, documents.digest), error.message));
    image->image->SetLastError(error);
    // The image is there; that a part of it is missing must not read as "no such file".
    if (error.code == Code::kNotFound) error.code = Code::kIo;
    return error;
  }
  ImageRowPtr opened = MakeRow(image->image_row, image->layer, image->image, *std::move(tree));
  images_.Put(row, opened);
  return opened;
}

Attempt<uint32_t> Namespace::RowOfImage(const std::string& repository, const Digest& digest,
                                        bool may_wait) {
  const std::string key = KeyOfImage(repository, digest);
  if (const auto known = image_keys_.KnownRow(key)) {
    if (const auto found = images_.Find(*known)) {
      found->image->NoteUse();
      return *known;
    }
    if (auto image = catalog_.OpenedImage(repository, digest)) {
      image->NoteUse();
      images_.Put(*known, MakeRow(*known, std::nullopt, image, image->OpenedTree()));
      return *known;
    }
  }
  if (!may_wait) return std::nullopt;
  auto image = catalog_.OpenImage(repository, digest);
  if (!image) return image.error();
  const auto row = image_keys_.Row(key);
  if (!row) return row.error();
  images_.Put(*row, MakeRow(*row, std::nullopt, *image, (*image)->OpenedTree()));
  return *row;
}

Attempt<uint32_t> Namespace::RowOfLayer(const ImageRow& image, uint32_t layer, bool may_wait) {
  const ImageDocuments& documents = image.image->documents();
  const std::string key =
      fmt::format("{}#{}", KeyOfImage(documents.repository, documents.digest), layer);
  auto row = image_keys_.KnownRow(key);
  if (!row) {
    if (!may_wait) return std::nullopt;
    const auto made = image_keys_.Row(key);
    if (!made) return made.error();
    row = *made;
  }
  if (images_.Find(*row) == nullptr)
    images_.Put(*row,
                MakeRow(image.image_row, layer, image.image, image.image->OpenedLayerTree(layer)));
  return *row;
}

NodeWait Namespace::WaitForNames(const std::string& registry) const {
  if (registry == "localhost") return {.pool_key = Catalog::PoolKey(registry)};
  if (registry == "docker.io" || catalog_.KnownPath(registry) != PathKind::kNothing)
    return {.pool_key = Catalog::PoolKey(registry), .share = PoolShare::kRegistry};
  return {.pool_key = kStrangersKey, .share = PoolShare::kStranger};
}

// Indexing takes long, and names have bounds of their own: each has a lane beside the reads.
NodeWait Namespace::WaitForImage(const ImageRow& row, bool for_tree, NodeId gate) {
  const std::string key = row.image->pool_key();
  NodeWait wait{.pool_key = key + (for_tree ? " trees" : " data"),
                .share = key == kLocalSource ? PoolShare::kLocal : PoolShare::kRegistry};
  if (for_tree) wait.gate = gate;
  wait.bounded = !for_tree;
  return wait;
}

NodeWait Namespace::WaitOf(NodeId node, std::string_view name) const {
  const NodeWait for_store{.pool_key = kNamesKey};
  const auto parts = SplitNode(node);
  if (!parts || parts->kind == NodeClass::kSelf) return for_store;
  if (parts->kind == NodeClass::kFixed) {
    if (name.empty()) return for_store;
    return WaitForNames(RegistryOfFolder(name).value_or(std::string(name)));
  }
  if (parts->kind == NodeClass::kDirectory || parts->kind == NodeClass::kLink) {
    const auto key = names_.KnownKey(parts->row);
    if (key == nullptr) return {.pool_key = kNamesKey, .gate = node};
    return parts->kind == NodeClass::kLink ? for_store : WaitForNames(RegistryOf(*key));
  }
  const NodeId gate = TreeNode(parts->row, 0);
  if (const auto row = images_.Find(parts->row))
    return WaitForImage(*row, parts->kind == NodeClass::kTree && row->tree == nullptr, gate);
  const auto key = image_keys_.KnownKey(parts->row);
  NodeWait wait = key == nullptr ? for_store : WaitForNames(RegistryOf(*key));
  wait.gate = gate;
  return wait;
}

void Namespace::NoteFailure(NodeId node, std::string_view name, const Error& error) {
  const auto parts = SplitNode(node);
  const bool of_image =
      parts && (parts->kind == NodeClass::kImage || parts->kind == NodeClass::kTree);
  const auto row = of_image ? images_.Find(parts->row) : nullptr;
  if (row == nullptr) {
    LogWarning(fmt::format(
        "{} is given up: {}",
        name.empty() ? fmt::format("a request on node {}", node) : "the lookup of " + Quote(name),
        error.message));
    const KeyPtr folder = FolderOfNames(node);
    if (folder != nullptr && !name.empty()) name_failures_.Note(*folder, name, error);
    return;
  }
  const ImageDocuments& documents = row->image->documents();
  LogError(fmt::format("{}: node {}: {}", KeyOfImage(documents.repository, documents.digest), node,
                       error.message));
  row->image->SetLastError(error);
}

Namespace::KeyPtr Namespace::FolderOfNames(NodeId node) const {
  static const KeyPtr kRoot = std::make_shared<const std::string>();
  if (node == kRootNode) return kRoot;
  const auto parts = SplitNode(node);
  const bool is_folder = parts && parts->kind == NodeClass::kDirectory;
  return is_folder ? names_.KnownKey(parts->row) : nullptr;
}

Status Namespace::Prepare(NodeId node) {
  const auto parts = SplitNode(node);
  if (!parts) return {};
  if (parts->kind == NodeClass::kDirectory || parts->kind == NodeClass::kLink) {
    RETURN_IF_ERROR(names_.Key(parts->row));
    return {};
  }
  if (const auto row = images_.Find(parts->row)) {
    if (parts->kind != NodeClass::kTree || row->tree != nullptr) return {};
    RETURN_IF_ERROR(OpenTree(parts->row, row));
    return {};
  }
  if (const auto key = image_keys_.KnownKey(parts->row)) {
    RETURN_IF_ERROR(OpenImageKey(parts->row, *key));
    return {};
  }
  RETURN_IF_ERROR(image_keys_.Key(parts->row));
  return {};
}

}  // namespace lamina
