// The part of the Catalog that tells which layers may not be evicted: those of pinned images, as
// far as their documents are known here.

#include <algorithm>

#include "base/log.h"
#include "fetch/manifest.h"
#include "fs/catalog.h"

namespace lamina {

// Under a lock over the reading, or an older answer could be the last to be set. Where the store
// does not answer, what was pinned stays pinned.
void Catalog::UpdatePins() {
  MutexLock lock(pins_mutex_);
  const auto pins = store_.PinnedImages();
  if (!pins) {
    LogWarning("which images are pinned cannot be told: " + pins.error().message);
    return;
  }
  std::set<std::string> layers;
  for (const Store::PinnedImage& pin : *pins) {
    if (const Status known = AddKnownLayers(pin.digest, 0, &layers); !known) {
      LogWarning("the layers of pinned images cannot be told: " + known.error().message);
      return;
    }
  }
  layers_.SetPinned(std::move(layers));
}

Status Catalog::AddKnownLayers(const Digest& digest, int depth, std::set<std::string>* layers) {
  ASSIGN_OR_RETURN(const auto stored, store_.GetDocument(digest));
  if (!stored || depth > DocumentLimits().index_nesting) return {};
  const auto parsed = ParseManifestDocument(stored->bytes, "", digest.ToString());
  if (!parsed) return {};
  if (const auto* index = std::get_if<ImageIndex>(&*parsed)) {
    for (const Descriptor& child : index->manifests)
      RETURN_IF_ERROR(AddKnownLayers(child.digest, depth + 1, layers));
  } else {
    for (const Descriptor& layer : std::get<ImageManifest>(*parsed).layers)
      layers->insert(layer.digest.PathName());
  }
  return {};
}

}  // namespace lamina
