#include "fs/known_content.h"

#include <utility>
#include <variant>
#include <vector>

namespace lamina {
namespace {

Status AddTrees(Store& store, const ImageManifest& manifest, KnownContent* content) {
  content->documents.insert(manifest.config.digest);
  ASSIGN_OR_RETURN(const auto stored, store.GetDocument(manifest.config.digest));
  if (!stored) {
    content->missing.insert(manifest.config.digest);
    return {};
  }
  const auto config = ParseImageConfig(stored->bytes, manifest, manifest.config.digest.ToString());
  if (!config) return {};  // nothing can have been merged
  content->trees.insert(TreeOf(manifest, *config, std::nullopt).key.PathName());
  for (size_t layer = 0; layer < manifest.layers.size(); ++layer)
    content->trees.insert(TreeOf(manifest, *config, layer).key.PathName());
  return {};
}

Status Add(Store& store, const Digest& digest, int depth, KnownContent* content) {
  if (!content->documents.insert(digest).second || depth > DocumentLimits().index_nesting)
    return {};
  ASSIGN_OR_RETURN(const auto stored, store.GetDocument(digest));
  if (!stored) {
    content->missing.insert(digest);
    return {};
  }
  const auto parsed = ParseManifestDocument(stored->bytes, "", digest.ToString());
  if (!parsed) return {};
  if (const auto* index = std::get_if<ImageIndex>(&*parsed)) {
    for (const Descriptor& child : index->manifests)
      RETURN_IF_ERROR(Add(store, child.digest, depth + 1, content));
    return {};
  }
  const auto& manifest = std::get<ImageManifest>(*parsed);
  for (const Descriptor& layer : manifest.layers) content->layers.insert(layer.digest.PathName());
  return AddTrees(store, manifest, content);
}

}  // namespace

// What one of the two found is not missing.
void KnownContent::Merge(KnownContent other) {
  std::erase_if(missing, [&](const Digest& document) {
    return other.documents.contains(document) && !other.missing.contains(document);
  });
  for (const Digest& document : other.missing)
    if (!documents.contains(document)) missing.insert(document);
  documents.merge(other.documents);
  layers.merge(other.layers);
  trees.merge(other.trees);
}

Status AddKnownContent(Store& store, const Digest& digest, KnownContent* content) {
  return Add(store, digest, 0, content);
}

TreeOfImage TreeOf(const ImageManifest& manifest, const ImageConfig& config,
                   std::optional<size_t> only_layer) {
  const size_t count = only_layer ? *only_layer + 1 : manifest.layers.size();
  std::vector<Digest> digests;
  for (size_t i = 0; i < count; ++i) digests.push_back(manifest.layers[i].digest);
  const TreeOptions options{.created_ns = config.created_ns.value_or(0), .only_layer = only_layer};
  return {TreeKey(digests, options), options};
}

}  // namespace lamina
