#include "index/layer_indexer.h"

#include "index/layer_pass.h"

namespace lamina {

Result<std::shared_ptr<const LayerIndex>> IndexLayer(BlobSource& blob,
                                                     const IndexRequest& request) {
  Status status;
  {
    LayerPass pass(blob, request);
    status = pass.Run();
  }
  if (!status.has_value()) return status.error().Within(request.name);
  return LayerIndex::Open(request.output_path, request.blob_digest);
}

}  // namespace lamina
