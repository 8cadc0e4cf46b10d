// The part of the Catalog that tells which layers may not be evicted: those of pinned images, as
// far as their documents are known here.

#include <algorithm>

#include "base/log.h"
#include "fetch/manifest.h"
#include "fs/catalog.h"

namespace lamina {

void Catalog::UpdatePins() {
  const auto pins = store_.PinnedImages();
  if (!pins) {
    LogWarning("which images are pinned cannot be told: " + pins.error().message);
    return;
  }
  std::set<std::string> layers;
  for (const Store::PinnedImage& pin : *pins) AddKnownLayers(pin.digest, 0, &layers);
  layers_.SetPinned(std::move(layers));
}

void Catalog::AddKnownLayers(const Digest& digest, int depth, std::set<std::string>* layers) {
  const auto stored = store_.GetDocument(digest);
  if (!stored || !stored->has_value() || depth > DocumentLimits().index_nesting) return;
  const auto parsed = ParseManifestDocument((*stored)->bytes, "", digest.ToString());
  if (!parsed) return;
  if (const auto* index = std::get_if<ImageIndex>(&*parsed)) {
    for (const auto& child : index->manifests) AddKnownLayers(child.digest, depth + 1, layers);
  } else {
    for (const Descriptor& layer : std::get<ImageManifest>(*parsed).layers)
      layers->insert(layer.digest.PathName());
  }
}

}  // namespace lamina
