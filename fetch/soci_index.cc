#include "fetch/soci_index.h"

#include <utility>
#include <variant>

#include "base/text.h"

namespace lamina {
namespace {

constexpr std::string_view kLayerDigest = "com.amazon.soci.image-layer-digest";
constexpr std::string_view kIndexDigest = "com.amazon.soci.index-digest";

std::optional<Digest> DigestIn(const std::map<std::string, std::string>& annotations,
                               std::string_view key) {
  const auto found = annotations.find(std::string(key));
  if (found == annotations.end()) return std::nullopt;
  const auto digest = Digest::Parse(found->second);
  return digest ? std::optional<Digest>(*digest) : std::nullopt;
}

}  // namespace

Result<SociIndex> ParseSociIndex(std::string_view bytes, std::string_view name) {
  ASSIGN_OR_RETURN(ManifestDocument document, ParseManifestDocument(bytes, "", name));
  auto* manifest = std::get_if<ImageManifest>(&document);
  // The config says what it is, as in SOCI's own reader.
  if (manifest == nullptr ||
      (manifest->config.media_type != kSociIndexV1 && manifest->config.media_type != kSociIndexV2))
    return Error{
        Code::kInvalid,
        std::string(name) + ": it is no SOCI index" +
            (manifest == nullptr ? std::string() : ", but " + Quote(ArtifactType(*manifest), 100))};
  SociIndex index;
  index.kind = manifest->config.media_type;
  if (manifest->subject.has_value()) index.subject = manifest->subject->digest;
  for (Descriptor& ztoc : manifest->layers)
    if (const auto layer = DigestIn(ztoc.annotations, kLayerDigest); layer.has_value())
      index.ztocs.emplace(*layer, std::move(ztoc));
  return index;
}

std::optional<Digest> SociIndexNamedBy(const ImageManifest& manifest) {
  return DigestIn(manifest.annotations, kIndexDigest);
}

}  // namespace lamina
