#include "fs/foreign_layers.h"

#include <fmt/core.h>

#include "base/log.h"
#include "fs/soci_finder.h"
#include "index/foreign_index.h"
#include "index/toc_locate.h"
#include "index/toc_reader.h"
#include "index/ztoc.h"

namespace lamina {
namespace {

// Whether there is a SOCI index is a question of small documents, and a layer waits for the answer.
constexpr std::chrono::seconds kSearchBound{10};
// For a table of at most 150 MiB over a slow link; a layer without one is streamed without a bound.
constexpr std::chrono::minutes kTableBound{3};

using IndexPtr = std::shared_ptr<const LayerIndex>;

// Local layers are read so fast that nothing is won, and the pass verifies more.
bool IsLocal(const LayerRequest& request) {
  return !request.sources.empty() && request.sources.front()->pool_key() == "local" &&
         request.sources.front()->MayHold(request.descriptor.digest);
}

Error None(std::string reason) { return Error{Code::kNotFound, std::move(reason)}; }

std::string OriginOf(const TocClaim& claim) {
  const Digest& digest = claim.json_digest ? *claim.json_digest : *claim.blob_digest;
  return fmt::format("table of contents {} named by the manifest", digest.ToString());
}

// Writers of eStargz that leave the tables out of the layers push them as an image of their own,
// under the tag with this behind it; its layers say which layer each is for.
constexpr const char* kBesideSuffix = "-esgztoc";
constexpr const char* kBesideLayer = "containerd.io/snapshot/stargz/layer.digest";

Result<std::shared_ptr<BlobSource>> TableBeside(RepositorySource& source, const std::string& tag,
                                                const Digest& layer, const Deadline& deadline) {
  ASSIGN_OR_RETURN(const Document document, source.FetchTag(tag, deadline));
  ASSIGN_OR_RETURN(const ManifestDocument parsed,
                   ParseManifestDocument(document.bytes, document.media_type, tag));
  const auto* manifest = std::get_if<ImageManifest>(&parsed);
  if (manifest == nullptr) return Error{Code::kNotFound, tag + " is no image"};
  for (const Descriptor& table : manifest->layers) {
    const auto of = table.annotations.find(kBesideLayer);
    if (of != table.annotations.end() && of->second == layer.ToString())
      return source.OpenBlob(table);
  }
  return Error{Code::kNotFound, fmt::format("{} has no table for it", tag)};
}

Result<Toc> FetchTocBeside(RepositorySource& source, const TocClaim& claim, const TocPlace& place,
                           const LayerRequest& request, const Deadline& deadline) {
  for (const std::string& tag : request.tags) {
    auto table = TableBeside(source, tag + kBesideSuffix, request.descriptor.digest, deadline);
    if (table) return Toc::FetchBeside(claim, place, **table, deadline);
    if (table.error().code != Code::kNotFound) return std::move(table).error();
  }
  return Error{
      Code::kUnsupported,
      fmt::format("its table of contents lies in another image, and no tag of this one has "
                  "such a one beside it (TAG{})",
                  kBesideSuffix)};
}

Result<Toc> FetchToc(RepositorySource& source, const TocClaim& claim, const LayerRequest& request,
                     BlobSource& blob, WindowBudget* windows) {
  const Deadline deadline = Deadline::After(kTableBound);
  ASSIGN_OR_RETURN(TocPlace place, LocateToc(claim, blob, deadline));
  if (place.kind == TocKind::kEstargzBeside)
    return FetchTocBeside(source, claim, place, request, deadline);
  WindowAccount account{.budget = windows,
                        .owner = OwnerOf(blob.origin()),
                        .deadline = std::make_shared<Deadline>(deadline)};
  return Toc::Fetch(claim, std::move(place), blob, deadline, std::move(account));
}

Result<IndexPtr> IndexFromTocOf(RepositorySource& source, const TocClaim& claim,
                                const LayerRequest& request, const IndexRequest& pass) {
  ASSIGN_OR_RETURN(const auto blob, source.OpenBlob(request.descriptor));
  ASSIGN_OR_RETURN(const Toc toc, FetchToc(source, claim, request, *blob, pass.windows));
  return IndexFromToc(toc, pass, OriginOf(claim));
}

// From the first source that has it right. A table that lacks something is no lie: the layer is
// then indexed as others are.
Result<IndexPtr> IndexByToc(const TocClaim& claim, const LayerRequest& request,
                            const IndexRequest& pass) {
  Error failure = None("no source holds it");
  for (const auto& source : request.sources) {
    auto index = IndexFromTocOf(*source, claim, request, pass);
    if (index || index.error().code == Code::kCancelled) return index;
    if (index.error().code == Code::kUnsupported) {
      LogInfo(fmt::format("{}: {}; it is indexed here", request.name, index.error().message));
      return None(index.error().message);
    }
    failure = index.error();
  }
  return failure.Within(
      fmt::format("{}: the table of contents that the manifest names", request.name));
}

Result<IndexPtr> IndexFromZtocOf(const FoundZtoc& found, const LayerRequest& request,
                                 const IndexRequest& pass) {
  const Deadline deadline = Deadline::After(kTableBound);
  ASSIGN_OR_RETURN(std::string bytes, request.soci->Fetch(found, Ztoc::kMaxBytes, deadline));
  ASSIGN_OR_RETURN(const Ztoc ztoc, Ztoc::Open(std::move(bytes)));
  ASSIGN_OR_RETURN(const auto blob, found.source->OpenBlob(request.descriptor));
  return IndexFromZtoc(ztoc, *blob, pass, found.origin, deadline);
}

// A zTOC is an offer beside the image: one that is not right is left alone, and said.
Result<IndexPtr> IndexByZtoc(const LayerRequest& request, const IndexRequest& pass) {
  const auto found = request.soci->ZtocOf(request.descriptor, Deadline::After(kSearchBound));
  if (!found) return None("nothing indexes it");
  auto index = IndexFromZtocOf(*found, request, pass);
  if (index || index.error().code == Code::kCancelled) return index;
  LogWarning(fmt::format("{}: {} cannot be used: {}; it is indexed here", request.name,
                         found->origin, index.error().message));
  return None(index.error().message);
}

}  // namespace

bool HasStargzFiles(const Descriptor& descriptor) {
  const auto claim = TocClaimOf(descriptor.annotations);
  return claim && *claim && (*claim)->dialect() == TocDialect::kStargz;
}

Result<IndexPtr> IndexFromForeign(const LayerRequest& request, const IndexRequest& pass) {
  if (request.strict) return None("nothing is believed before the whole layer is verified");
  if (!request.diff_id || IsLocal(request)) return None("the layer is here");
  auto claim = TocClaimOf(request.descriptor.annotations);
  if (!claim) return claim.error().Within(request.name);
  if (*claim) {
    auto index = IndexByToc(**claim, request, pass);
    if (index || index.error().code != Code::kNotFound) return index;
  }
  if (request.soci == nullptr) return None("nothing indexes it");
  return IndexByZtoc(request, pass);
}

}  // namespace lamina
