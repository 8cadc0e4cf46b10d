// The part of the Catalog that opens images: from a digest to verified documents.

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "base/log.h"
#include "fs/catalog.h"
#include "fs/foreign_layers.h"

namespace lamina {
namespace {

constexpr int kMostIndexes = 32;  // that are read to tell what an index offers

std::string KeyOf(const std::string& repository, const Digest& digest) {
  return repository + "@" + digest.ToString();
}

bool IsKnownIn(Store& store, const std::string& repository, const Digest& digest) {
  const auto images = store.Images(repository);
  return images && std::find(images->begin(), images->end(), digest) != images->end();
}

// What this repository is known to hold needs no asking. A child of a known index is known with it.
std::optional<Document> StoredManifest(Store& store, const std::string& repository,
                                       const Digest& digest) {
  if (!IsKnownIn(store, repository, digest)) return std::nullopt;
  auto stored = store.GetDocument(digest);
  if (!stored || !stored->has_value()) return std::nullopt;
  return Document{digest, "", std::move((*stored)->bytes)};
}

// What the first of the sources that can says; of the errors "not found" says least. Each may use
// an equal share of the time that is left.
template <typename T, typename Ask>
Result<T> FromAnyOf(const std::vector<std::shared_ptr<RepositorySource>>& sources,
                    const std::string& name, const Deadline& deadline, const Ask& ask) {
  Error last{Code::kNotFound, fmt::format("no source has {}", name)};
  for (size_t i = 0; i < sources.size(); ++i) {
    Result<T> answer = ask(*sources[i], deadline.Share(sources.size() - i));
    if (answer) return answer;
    if (answer.error().code != Code::kNotFound) last = answer.error();
  }
  return last;
}

std::string TypeOf(const ManifestDocument& document) {
  return std::visit([](const auto& kind) { return kind.media_type; }, document);
}

}  // namespace

std::shared_ptr<Image> Catalog::OpenedImage(const std::string& repository,
                                            const Digest& digest) const {
  return images_.Find(KeyOf(repository, digest));
}

Result<std::shared_ptr<Image>> Catalog::OpenImage(const std::string& repository,
                                                  const Digest& digest) {
  if (auto image = OpenedImage(repository, digest)) {
    image->NoteUse();
    return image;
  }
  return image_flights_.Do(KeyOf(repository, digest), [&]() -> Result<std::shared_ptr<Image>> {
    if (auto image = OpenedImage(repository, digest)) return image;
    ASSIGN_OR_RETURN(auto image, LoadImage(repository, digest));
    if (Status known = store_.RecordImage(repository, digest, clock_.NowNs()); !known)
      LogWarning(fmt::format("{}: {}", KeyOf(repository, digest), known.error().message));
    LearnRepository(repository);
    images_.Put(KeyOf(repository, digest), image);
    MutexLock lock(mutex_);
    std::erase_if(live_images_, [](const auto& known) { return known.expired(); });
    live_images_.push_back(image);
    return image;
  });
}

// Documents are kept without the media type that one source gave them: what another one says of the
// same bytes is not its business. Those that are wrong by what came with them are not kept.
void Catalog::Keep(const Document& document, const std::string& name) {
  const auto parsed = ParseManifestDocument(document.bytes, document.media_type, name);
  if (!parsed) return;
  if (Status kept = store_.PutDocument(document.digest, TypeOf(*parsed), document.bytes); !kept)
    LogWarning(fmt::format("{}: {}", name, kept.error().message));
  LearnPins(document.digest);
}

Result<Document> Catalog::Manifest(const std::string& repository, const Digest& digest,
                                   const Sources& sources) {
  if (auto stored = StoredManifest(store_, repository, digest)) return *std::move(stored);
  return FetchManifest(repository, digest, sources);
}

Result<Document> Catalog::FetchManifest(const std::string& repository, const Digest& digest,
                                        const Sources& sources) {
  const std::string name = KeyOf(repository, digest);
  ASSIGN_OR_RETURN(Document document,
                   FromAnyOf<Document>(sources, name, NameBound(),
                                       [&](RepositorySource& source, const Deadline& deadline) {
                                         return source.FetchManifest(digest, deadline);
                                       }));
  Keep(document, name);
  return document;
}

Result<ManifestDocument> Catalog::KnownManifest(const std::string& repository,
                                                const Digest& digest) {
  const Leases::Lease lease = LeaseOn(digest);
  // To find out who else may have it reads the host's configuration: only where it has to be asked.
  std::optional<Document> document = StoredManifest(store_, repository, digest);
  if (!document) {
    ASSIGN_OR_RETURN(document,
                     FetchManifest(repository, digest, sources_.SourcesOf(repository, digest)));
  }
  ASSIGN_OR_RETURN(
      ManifestDocument parsed,
      ParseManifestDocument(document->bytes, document->media_type, KeyOf(repository, digest)));
  if (Status known = store_.RecordImage(repository, digest, clock_.NowNs()); !known)
    LogWarning(fmt::format("{}: {}", KeyOf(repository, digest), known.error().message));
  return parsed;
}

Result<Digest> Catalog::DigestForPlatform(const std::string& repository, const Digest& digest,
                                          const Platform& platform) {
  const std::string name = KeyOf(repository, digest);
  Digest chosen = digest;
  for (int depth = 0; depth <= DocumentLimits().index_nesting; ++depth) {
    ASSIGN_OR_RETURN(const ManifestDocument parsed, KnownManifest(repository, chosen));
    if (!std::holds_alternative<ImageIndex>(parsed)) return chosen;
    const auto next = ChoosePlatform(std::get<ImageIndex>(parsed), platform, name);
    // The index is there: this says more than that there is none.
    if (!next) return Error{Code::kUnsupported, next.error().message};
    chosen = next->digest;
  }
  return Error{Code::kLimit, fmt::format("{}: indexes nest more than {} deep", name,
                                         DocumentLimits().index_nesting)};
}

Result<std::vector<Catalog::Offer>> Catalog::Offers(const std::string& repository,
                                                    const Digest& digest) {
  std::vector<Offer> offers;
  std::deque<std::pair<Digest, int>> indexes{{digest, 0}};  // to be read, with their depth
  for (int read = 0; !indexes.empty() && read < kMostIndexes; ++read) {
    const auto [from, depth] = indexes.front();
    indexes.pop_front();
    auto parsed = KnownManifest(repository, from);
    if (!parsed && depth == 0) return std::move(parsed).error();
    const auto* const index = parsed ? std::get_if<ImageIndex>(&*parsed) : nullptr;
    if (index == nullptr) continue;
    for (const Descriptor& entry : index->manifests) {
      if (!IsOffered(entry)) continue;
      if (!IsIndexMediaType(entry.media_type))
        offers.push_back({entry.platform, entry.digest});
      else if (depth < DocumentLimits().index_nesting)
        indexes.emplace_back(entry.digest, depth + 1);
    }
  }
  return offers;
}

Result<std::string> Catalog::Config(const Descriptor& descriptor, const Sources& sources) {
  auto stored = store_.GetDocument(descriptor.digest);
  if (stored && stored->has_value()) return std::move((*stored)->bytes);
  const std::string name = "config " + descriptor.digest.ToString();
  ASSIGN_OR_RETURN(
      std::string bytes,
      FromAnyOf<std::string>(
          sources, name, NameBound(), [&](RepositorySource& source, const Deadline& deadline) {
            return source.FetchSmallBlob(descriptor, DocumentLimits().config_bytes, deadline);
          }));
  if (Status kept = store_.PutDocument(descriptor.digest, descriptor.media_type, bytes); !kept)
    LogWarning(fmt::format("{}: {}", name, kept.error().message));
  LearnPins(descriptor.digest);
  return bytes;
}

// What is known of its tags; a failing store knows none.
std::vector<std::string> Catalog::TagsNaming(const std::string& repository, const Digest& digest) {
  std::vector<std::string> tags;
  if (const auto rows = store_.CurrentTags(repository))
    for (const TagRow& row : *rows)
      if (row.digest == digest) tags.push_back(row.tag);
  return tags;
}

Result<std::shared_ptr<Image>> Catalog::LoadImage(const std::string& repository,
                                                  const Digest& digest) {
  const Sources sources = sources_.SourcesOf(repository, digest);
  const std::string name = KeyOf(repository, digest);
  std::vector<Leases::Lease> leases;  // until the image has its own
  leases.push_back(LeaseOn(digest));
  ASSIGN_OR_RETURN(Document document, Manifest(repository, digest, sources));
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
    leases.push_back(LeaseOn(chosen.digest));
    ASSIGN_OR_RETURN(document, Manifest(repository, chosen.digest, sources));
    RETURN_IF_ERROR(CheckDocument(document.bytes, chosen.digest, chosen.size, name));
    if (Status known = store_.RecordImage(repository, chosen.digest, clock_.NowNs()); !known)
      LogWarning(fmt::format("{}: {}", name, known.error().message));
    const std::string& type = chosen.media_type.empty() ? document.media_type : chosen.media_type;
    ASSIGN_OR_RETURN(parsed, ParseManifestDocument(document.bytes, type, name));
  }
  ImageManifest manifest = std::get<ImageManifest>(std::move(parsed));
  RETURN_IF_ERROR(CheckIsImage(manifest, name));
  for (const Descriptor& layer : manifest.layers) RETURN_IF_ERROR(CheckLayerMediaType(layer, name));
  leases.push_back(LeaseOn(manifest.config.digest));
  ASSIGN_OR_RETURN(std::string config, Config(manifest.config, sources));
  ASSIGN_OR_RETURN(ImageConfig parsed_config, ParseImageConfig(config, manifest, name));
  const bool has_tables = std::ranges::any_of(manifest.layers, HasStargzFiles);
  ImageDocuments documents{
      .repository = repository,
      .digest = digest,
      .index = std::move(index_bytes),
      .parsed_index = std::move(index),
      .manifest_digest = document.digest,
      .manifest = std::move(document.bytes),
      .config = std::move(config),
      .parsed_manifest = std::move(manifest),
      .parsed_config = std::move(parsed_config),
      .origin = sources.empty() ? "" : sources.front()->origin(),
      .local = !sources.empty() && sources.front()->pool_key() == "local",
      .tags = has_tables ? TagsNaming(repository, digest) : std::vector<std::string>()};
  return std::make_shared<Image>(std::move(documents), sources, layers_, paths_,
                                 options_.IsStrict(repository));
}

}  // namespace lamina
