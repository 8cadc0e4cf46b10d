#include "index/layer_indexer.h"

#include "index/layer_pass.h"

namespace lamina {

Result<std::shared_ptr<const LayerIndex>> IndexLayer(BlobSource& blob,
                                                     const IndexRequest& request) {
  auto file = LayerPass(blob, request).Run();
  if (!file.has_value()) return file.error().Within(request.name);
  ASSIGN_OR_RETURN(auto index, LayerIndex::Open(file->temporary_path(), request.blob_digest));
  RETURN_IF_ERROR(request.publish ? request.publish(index, *file) : file->Commit());
  return index;
}

}  // namespace lamina
