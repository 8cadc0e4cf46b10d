#include "index/foreign_index.h"

#include <vector>

#include "index/foreign_builder.h"

namespace lamina {
namespace {

LayerFacts FactsOf(const IndexRequest& request, IndexKind kind, Compression compression,
                   uint64_t raw_size) {
  return {.blob_digest = request.blob_digest,
          .diff_id = *request.diff_id,
          .blob_size = request.blob_size,
          .raw_size = raw_size,
          .compression = compression,
          .kind = kind};
}

Result<std::shared_ptr<const LayerIndex>> Publish(AtomicFile file, const IndexRequest& request) {
  ASSIGN_OR_RETURN(auto index, LayerIndex::Open(file.temporary_path(), request.blob_digest));
  RETURN_IF_ERROR(request.publish ? request.publish(index, file) : file.Commit());
  return index;
}

Status CheckRequest(const IndexRequest& request) {
  if (request.diff_id) return {};
  return Error{Code::kInternal, "a foreign index needs the layer's diff id"};
}

Result<AtomicFile> BuildFromToc(const Toc& toc, const IndexRequest& request,
                                const std::string& origin) {
  RETURN_IF_ERROR(CheckRequest(request));
  const bool gzip = toc.kind() == TocKind::kEstargz || toc.kind() == TocKind::kEstargzBeside;
  ForeignBuilder builder(request);
  RETURN_IF_ERROR(toc.Read([&](const TarEntry& entry, std::span<const TocPiece> pieces) {
    return builder.AddPieces(entry, pieces);
  }));
  return builder.Write(FactsOf(request, gzip ? IndexKind::kStargz : IndexKind::kZstdChunked,
                               gzip ? Compression::kGzip : Compression::kZstd, 0),
                       origin);
}

Result<AtomicFile> BuildFromZtoc(const Ztoc& ztoc, BlobSource& blob, const IndexRequest& request,
                                 const std::string& origin, const Deadline& deadline) {
  RETURN_IF_ERROR(CheckRequest(request));
  if (ztoc.compressed_size() != request.blob_size)
    return Error{Code::kInvalid, "the zTOC is of a blob of " +
                                     std::to_string(ztoc.compressed_size()) + " bytes, this has " +
                                     std::to_string(request.blob_size)};
  std::vector<uint8_t> head(ztoc.header_size());
  RETURN_IF_ERROR(blob.ReadAt(0, head, deadline));
  RETURN_IF_ERROR(ztoc.CheckHeader(head));
  ForeignBuilder builder(request);
  RETURN_IF_ERROR(builder.AddSpans(ztoc));
  RETURN_IF_ERROR(ztoc.ReadEntries([&](const TarEntry& entry, uint64_t payload_offset) {
    return builder.AddAt(entry, payload_offset);
  }));
  return builder.Write(
      FactsOf(request, IndexKind::kSoci, ztoc.compression(), ztoc.uncompressed_size()), origin);
}

}  // namespace

Result<std::shared_ptr<const LayerIndex>> IndexFromToc(const Toc& toc, const IndexRequest& request,
                                                       const std::string& origin) {
  auto file = BuildFromToc(toc, request, origin);
  if (!file) return file.error().Within(request.name);
  return Publish(*std::move(file), request);
}

Result<std::shared_ptr<const LayerIndex>> IndexFromZtoc(const Ztoc& ztoc, BlobSource& blob,
                                                        const IndexRequest& request,
                                                        const std::string& origin,
                                                        const Deadline& deadline) {
  auto file = BuildFromZtoc(ztoc, blob, request, origin, deadline);
  if (!file) return file.error().Within(request.name);
  return Publish(*std::move(file), request);
}

}  // namespace lamina
