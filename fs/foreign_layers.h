#pragma once

// Layers that carry an index: what the manifest or the registry names for a layer, found, verified
// and made a layer index, so that the layer is lazy from its first byte. Any thread; blocks on
// registries.

#include <memory>

#include "base/result.h"
#include "fs/layer_store.h"
#include "index/layer_indexer.h"

namespace lamina {

// The index, made of a TOC that the manifest names, or of a zTOC. kNotFound where the layer carries
// none, or none that is of use: then it is indexed by the pass. Any other error says that what the
// manifest names is not right, so that the layer cannot be read.
Result<std::shared_ptr<const LayerIndex>> IndexFromForeign(const LayerRequest& request,
                                                           const IndexRequest& pass);

// Does the manifest name a TOC whose writer adds files of its own to the layer (IsStargzOwnFile())?
bool HasStargzFiles(const Descriptor& descriptor);

}  // namespace lamina
