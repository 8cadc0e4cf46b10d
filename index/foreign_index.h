#pragma once

// Makes a LayerIndex of what a foreign index says of a layer: eStargz, zstd:chunked, SOCI. Not a
// byte of the layer's data is read for it, so the layer is lazy at once; that the table agrees with
// the tar is found when the whole layer comes (SameTree() of index_compare.h). Blocks; call it from
// a pool thread.

#include <memory>
#include <string>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/result.h"
#include "index/layer_index.h"
#include "index/layer_indexer.h"
#include "index/toc_reader.h"
#include "index/ztoc.h"

namespace lamina {

// `request.diff_id` is taken as the config says it and must be there. Sink and progress are not
// used; `publish` is as in IndexLayer(). Errors are those of Toc and Ztoc, and what the tree
// refuses.
Result<std::shared_ptr<const LayerIndex>> IndexFromToc(const Toc& toc, const IndexRequest& request,
                                                       const std::string& origin);

// `blob` is asked for the bytes in front of the first span.
Result<std::shared_ptr<const LayerIndex>> IndexFromZtoc(const Ztoc& ztoc, BlobSource& blob,
                                                        const IndexRequest& request,
                                                        const std::string& origin,
                                                        const Deadline& deadline);

}  // namespace lamina
