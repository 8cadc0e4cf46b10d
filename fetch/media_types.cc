#include "fetch/media_types.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "fetch/manifest.h"

namespace lamina {
namespace {

// Tar layers, plain or packed with gzip or zstd. Non-distributable ones are layers like others.
constexpr std::array<std::string_view, 11> kLayerTypes = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
};

// What a prefix of a media type or of an annotation's key tells about the layer that bears it.
struct Foreign {
  std::string_view prefix;
  std::string_view words;
};

constexpr std::string_view kNydus = "a nydus (RAFS) layer; use the OCI variant of the image";
constexpr std::string_view kOverlaybd = "an overlaybd layer; use the OCI variant of the image";

constexpr std::array<Foreign, 3> kForeignAnnotations = {{
    {"containerd.io/snapshot/nydus-blob", kNydus},
    {"containerd.io/snapshot/nydus-bootstrap", kNydus},
    {"containerd.io/snapshot/overlaybd/", kOverlaybd},
}};

constexpr std::array<Foreign, 6> kForeignTypes = {{
    {"application/vnd.oci.image.layer.nydus.", kNydus},
    {"application/vnd.puzzlefs.", "a PuzzleFS layer; use the tar variant of the image"},
    {"application/vnd.sylabs.sif.", "an Apptainer (SIF) image and not a layer"},
    {"application/vnd.stacker.image.layer.squashfs",
     "a squashfs layer; use the tar variant of the image"},
    {"application/vnd.oci.empty.", "the placeholder of an artifact and not a layer"},
    {"application/vnd.cncf.helm.", "part of a Helm chart and not a layer"},
}};

Error NotALayer(const Descriptor& layer, std::string_view name, std::string_view words) {
  return Error{Code::kUnsupported, std::string(name) + ": " + layer.digest.ToString() + " (" +
                                       Quote(layer.media_type) + ") is " + std::string(words)};
}

}  // namespace

const std::vector<std::string>& ManifestMediaTypes() {
  static const std::vector<std::string> types = {
      std::string(media_type::kOciIndex),      std::string(media_type::kDockerList),
      std::string(media_type::kOciManifest),   std::string(media_type::kDockerManifest),
      std::string(media_type::kSignedSchema1),
  };
  return types;
}

bool IsIndexMediaType(std::string_view media_type) {
  return media_type == media_type::kOciIndex || media_type == media_type::kDockerList;
}

bool IsManifestMediaType(std::string_view media_type) {
  return media_type == media_type::kOciManifest || media_type == media_type::kDockerManifest;
}

Status CheckLayerMediaType(const Descriptor& layer, std::string_view name) {
  for (const Foreign& foreign : kForeignAnnotations) {
    // Keys are sorted, so the first that is not below the prefix tells.
    const auto at = layer.annotations.lower_bound(std::string(foreign.prefix));
    if (at != layer.annotations.end() && at->first.starts_with(foreign.prefix))
      return NotALayer(layer, name, foreign.words);
  }
  const std::string& type = layer.media_type;
  if (std::find(kLayerTypes.begin(), kLayerTypes.end(), type) != kLayerTypes.end()) return {};
  if (type.ends_with("+encrypted"))
    return NotALayer(layer, name,
                     "an encrypted layer; decrypt the image with a tool that has the key");
  for (const Foreign& foreign : kForeignTypes)
    if (type.starts_with(foreign.prefix)) return NotALayer(layer, name, foreign.words);
  return NotALayer(layer, name, "no tar layer, plain or packed with gzip or zstd");
}

}  // namespace lamina
