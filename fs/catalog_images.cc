// The part of the Catalog that opens images: from a digest to verified documents.

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "fs/catalog.h"

namespace lamina {
namespace {

std::string KeyOf(const std::string& repository, const Digest& digest) {
  return repository + "@" + digest.ToString();
}

bool IsKnownIn(Store& store, const std::string& repository, const Digest& digest) {
  const auto images = store.Images(repository);
  return images && std::find(images->begin(), images->end(), digest) != images->end();
}

}  // namespace

std::shared_ptr<Image> Catalog::OpenedImage(const std::string& repository,
                                            const Digest& digest) const {
  MutexLock lock(mutex_);
  const auto at = images_.find(KeyOf(repository, digest));
  return at == images_.end() ? nullptr : at->second;
}

Result<std::shared_ptr<Image>> Catalog::OpenImage(const std::string& repository,
                                                  const Digest& digest) {
  if (auto image = OpenedImage(repository, digest)) return image;
  return image_flights_.Do(KeyOf(repository, digest), [&]() -> Result<std::shared_ptr<Image>> {
    if (auto image = OpenedImage(repository, digest)) return image;
    ASSIGN_OR_RETURN(auto image, LoadImage(repository, digest));
    if (Status known = store_.RecordImage(repository, digest, clock_.NowNs()); !known)
      LogWarning(fmt::format("{}: {}", KeyOf(repository, digest), known.error().message));
    LearnRepository(repository);
    MutexLock lock(mutex_);
    images_.emplace(KeyOf(repository, digest), image);
    return image;
  });
}

Result<std::shared_ptr<Image>> Catalog::LoadImage(const std::string& repository,
                                                  const Digest& digest) {
  const auto sources = sources_.SourcesOf(repository);
  Error last{Code::kNotFound, fmt::format("no source has {}", KeyOf(repository, digest))};
  for (const auto& source : sources) {
    auto image = LoadImageFrom(repository, digest, source);
    if (image) return image;
    // "Not found" of one source says less than what another one failed with.
    if (image.error().code != Code::kNotFound) last = image.error();
  }
  return last;
}

Result<Document> Catalog::Manifest(const std::string& repository, const Digest& digest,
                                   RepositorySource& source) {
  // What this repository is known to hold needs no asking. A child of a known index is known with
  // it.
  if (IsKnownIn(store_, repository, digest)) {
    auto stored = store_.GetDocument(digest);
    if (stored && stored->has_value())
      return Document{digest, (*stored)->media_type, (*stored)->bytes};
  }
  ASSIGN_OR_RETURN(Document document, source.FetchManifest(digest, NameBound()));
  RETURN_IF_ERROR(store_.PutDocument(document.digest, document.media_type, document.bytes));
  return document;
}

Result<Digest> Catalog::DigestForPlatform(const std::string& repository, const Digest& digest,
                                          const Platform& platform) {
  Error last{Code::kNotFound, fmt::format("no source has {}", KeyOf(repository, digest))};
  for (const auto& source : sources_.SourcesOf(repository)) {
    auto chosen = ChooseIn(*source, repository, digest, platform);
    if (chosen) return chosen;
    if (chosen.error().code != Code::kNotFound) last = chosen.error();
  }
  return last;
}

Result<Digest> Catalog::ChooseIn(RepositorySource& source, const std::string& repository,
                                 const Digest& digest, const Platform& platform) {
  const std::string name = KeyOf(repository, digest);
  Digest chosen = digest;
  for (int depth = 0; depth <= DocumentLimits().index_nesting; ++depth) {
    ASSIGN_OR_RETURN(const Document document, Manifest(repository, chosen, source));
    ASSIGN_OR_RETURN(const ManifestDocument parsed,
                     ParseManifestDocument(document.bytes, document.media_type, name));
    if (Status known = store_.RecordImage(repository, chosen, clock_.NowNs()); !known)
      LogWarning(fmt::format("{}: {}", name, known.error().message));
    if (!std::holds_alternative<ImageIndex>(parsed)) return chosen;
    const auto next = ChoosePlatform(std::get<ImageIndex>(parsed), platform, name);
    // The index is there: this says more than that another source has none.
    if (!next) return Error{Code::kUnsupported, next.error().message};
    chosen = next->digest;
  }
  return Error{Code::kLimit, fmt::format("{}: indexes nest more than {} deep", name,
                                         DocumentLimits().index_nesting)};
}

Result<std::string> Catalog::Config(const Descriptor& descriptor, RepositorySource& source) {
  auto stored = store_.GetDocument(descriptor.digest);
  if (stored && stored->has_value()) return std::move((*stored)->bytes);
  ASSIGN_OR_RETURN(std::string bytes,
                   source.FetchSmallBlob(descriptor, DocumentLimits().config_bytes, NameBound()));
  RETURN_IF_ERROR(store_.PutDocument(descriptor.digest, descriptor.media_type, bytes));
  return bytes;
}

Result<std::shared_ptr<Image>> Catalog::LoadImageFrom(
    const std::string& repository, const Digest& digest,
    const std::shared_ptr<RepositorySource>& source) {
  const std::string name = KeyOf(repository, digest);
  ASSIGN_OR_RETURN(Document document, Manifest(repository, digest, *source));
  ASSIGN_OR_RETURN(ManifestDocument parsed,
                   ParseManifestDocument(document.bytes, document.media_type, name));
  std::optional<std::string> index_bytes;
  std::optional<ImageIndex> index;
  for (int depth = 0; std::holds_alternative<ImageIndex>(parsed); ++depth) {
    if (depth == DocumentLimits().index_nesting)
      return Error{Code::kLimit, fmt::format("{}: indexes nest more than {} deep", name, depth)};
    if (!index) {
      index_bytes = document.bytes;
      index = std::get<ImageIndex>(parsed);
    }
    ASSIGN_OR_RETURN(const Descriptor chosen,
                     ChoosePlatform(std::get<ImageIndex>(parsed), options_.platform, name));
    ASSIGN_OR_RETURN(document, Manifest(repository, chosen.digest, *source));
    RETURN_IF_ERROR(CheckDocument(document.bytes, chosen.digest, chosen.size, name));
    if (Status known = store_.RecordImage(repository, chosen.digest, clock_.NowNs()); !known)
      LogWarning(fmt::format("{}: {}", name, known.error().message));
    const std::string& type = chosen.media_type.empty() ? document.media_type : chosen.media_type;
    ASSIGN_OR_RETURN(parsed, ParseManifestDocument(document.bytes, type, name));
  }
  ImageManifest manifest = std::get<ImageManifest>(std::move(parsed));
  RETURN_IF_ERROR(CheckIsImage(manifest, name));
  for (const Descriptor& layer : manifest.layers) RETURN_IF_ERROR(CheckLayerMediaType(layer, name));
  ASSIGN_OR_RETURN(std::string config, Config(manifest.config, *source));
  ASSIGN_OR_RETURN(ImageConfig parsed_config, ParseImageConfig(config, manifest, name));
  ImageDocuments documents{.repository = repository,
                           .digest = digest,
                           .index = std::move(index_bytes),
                           .parsed_index = std::move(index),
                           .manifest_digest = document.digest,
                           .manifest = std::move(document.bytes),
                           .config = std::move(config),
                           .parsed_manifest = std::move(manifest),
                           .parsed_config = std::move(parsed_config),
                           .origin = source->origin()};
  return std::make_shared<Image>(std::move(documents), source, layers_, paths_);
}

}  // namespace lamina
