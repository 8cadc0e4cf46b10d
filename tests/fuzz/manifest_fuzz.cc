// Any bytes as a manifest, an index and a config, delivered under any of the known media types:
// what is accepted keeps the limits and the promises of fetch/manifest.h.

#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "fetch/manifest.h"

namespace {

constexpr lamina::DocumentLimits kLimits = {.manifest_bytes = 1u << 16,
                                            .config_bytes = 1u << 16,
                                            .json_depth = 8,
                                            .index_manifests = 10,
                                            .layers = 10};

constexpr std::array<std::string_view, 6> kContentTypes = {
    "",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
    "application/json"};

void Require(bool condition) {
  if (!condition) std::abort();
}

void CheckDescriptor(const lamina::Descriptor& descriptor) {
  Require(descriptor.size <= uint64_t{INT64_MAX});
  const auto digest = lamina::Digest::Parse(descriptor.digest.ToString());
  Require(digest.has_value() && *digest == descriptor.digest);
  Require(!descriptor.platform || lamina::IsWellFormed(*descriptor.platform));
}

void CheckIndex(const lamina::ImageIndex& index) {
  Require(lamina::IsIndexMediaType(index.media_type));
  Require(index.manifests.size() <= kLimits.index_manifests);
  for (const auto& entry : index.manifests) CheckDescriptor(entry);
  for (const char* wanted : {"linux/amd64/v3", "linux/arm64/v9", "linux/arm/v7"}) {
    const auto chosen = lamina::ChoosePlatform(index, *lamina::Platform::Parse(wanted), "fuzz");
    Require(!chosen || lamina::IsManifestMediaType(chosen->media_type) ||
            lamina::IsIndexMediaType(chosen->media_type));
    Require(!chosen || !chosen->platform || chosen->platform->os != "unknown");
  }
}

void CheckImage(const lamina::ImageManifest& image, std::string_view bytes) {
  Require(lamina::IsManifestMediaType(image.media_type));
  Require(image.layers.size() <= kLimits.layers);
  CheckDescriptor(image.config);
  for (const auto& layer : image.layers) {
    CheckDescriptor(layer);
    (void)lamina::CheckLayerMediaType(layer, "fuzz").has_value();
  }
  const auto config = lamina::ParseImageConfig(bytes, image, "fuzz", kLimits);
  Require(!config || config->diff_ids.size() == image.layers.size());
}

// An image for whose config any bytes may be given.
lamina::ImageManifest ImageOf(size_t layers) {
  const lamina::Descriptor descriptor{"application/vnd.oci.image.config.v1+json",
                                      lamina::Digest::Sha256({}),
                                      0,
                                      {},
                                      std::nullopt,
                                      ""};
  return {"application/vnd.oci.image.manifest.v1+json",
          descriptor,
          std::vector<lamina::Descriptor>(layers, descriptor),
          {}};
}

}  // namespace

// The first byte chooses the Content-Type and the number of layers; the others are the document.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes = lamina::AsText({data + 1, size - 1});
  const auto document = lamina::ParseManifestDocument(
      bytes, kContentTypes[data[0] % kContentTypes.size()], "fuzz", kLimits);
  if (!document) {
    Require(document.error().message.starts_with("fuzz: "));
  } else if (const auto* index = std::get_if<lamina::ImageIndex>(&*document)) {
    CheckIndex(*index);
  } else {
    CheckImage(std::get<lamina::ImageManifest>(*document), bytes);
  }
  const auto config = lamina::ParseImageConfig(bytes, ImageOf(data[0] % 3), "fuzz", kLimits);
  Require(!config || lamina::IsWellFormed(config->platform));
  return 0;
}
