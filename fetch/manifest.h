#pragma once

// Manifests, indexes and configs as parsed values: OCI image-spec v1 and Docker schema 2. Parsing
// never trusts: size and digest are checked by CheckDocument() before anything here is called with
// bytes that came from elsewhere. Limits are those of docs/semantics.md. Pure functions; any
// thread.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/platform.h"

namespace lamina {

struct DocumentLimits {
  uint64_t manifest_bytes = 4u << 20;
  uint64_t config_bytes = 4u << 20;
  int json_depth = 64;
  size_t index_manifests = 1000;
  int index_nesting = 3;  // kept by who follows indexes into indexes
  size_t layers = 512;
};

struct Descriptor {
  std::string media_type;
  Digest digest;
  uint64_t size = 0;  // bytes, below 2^63
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;  // on entries of an index; well-formed (platform.h)
  std::string artifact_type;         // on entries of an index that are no images; mostly empty
};

struct ImageManifest {
  std::string media_type;  // of the document; inferred where absent and unambiguous
  Descriptor config;
  std::vector<Descriptor> layers;  // bottom first
  std::map<std::string, std::string> annotations;
  // Of artifacts that refer to an image. Absent, too, where what stands there is none: it means
  // nothing to the image that a manifest is.
  std::optional<Descriptor> subject = {};
  std::string artifact_type = {};  // as written; for what an artifact is, ArtifactType()
};

struct ImageIndex {
  std::string media_type;
  std::vector<Descriptor> manifests;  // unknown media types included
  std::map<std::string, std::string> annotations;
};

using ManifestDocument = std::variant<ImageManifest, ImageIndex>;

struct ImageConfig {
  Platform platform;                  // well-formed; fields that the config lacks are empty
  std::optional<int64_t> created_ns;  // since 1970
  std::vector<Digest> diff_ids;       // bottom first; one per layer
};

// The media types to send in Accept for a manifest, most wanted first. Schema 1 is the last of
// them: a registry that has nothing else then sends it, and the user reads why it is refused
// instead of a 404.
const std::vector<std::string>& ManifestMediaTypes();
bool IsIndexMediaType(std::string_view media_type);     // OCI index, Docker manifest list
bool IsManifestMediaType(std::string_view media_type);  // OCI manifest, Docker schema 2

// kCorrupt unless `bytes` have exactly `size` bytes (where known) and the digest.
Status CheckDocument(std::string_view bytes, const Digest& digest, std::optional<uint64_t> size,
                     std::string_view name);

// `content_type` is what the registry or descriptor said, empty where nothing did; a `mediaType`
// inside must equal it. Parameters after ';' do not count, and types that say nothing of a manifest
// (application/json, text/plain, application/octet-stream) are as good as none. Schema 1 is
// kUnsupported in words. `name` is for messages. The manifest of an artifact (a chart, a signature)
// is read as well: CheckIsImage() tells.
Result<ManifestDocument> ParseManifestDocument(std::string_view bytes,
                                               std::string_view content_type, std::string_view name,
                                               const DocumentLimits& limits = {});
// What an artifact is: by its artifactType, or by its config where that is absent.
const std::string& ArtifactType(const ImageManifest& manifest);
// kUnsupported, naming what it is, unless the config of the manifest is an image's.
Status CheckIsImage(const ImageManifest& manifest, std::string_view name);
// Calls CheckIsImage() first. The config has one diff id for each layer of the manifest.
Result<ImageConfig> ParseImageConfig(std::string_view bytes, const ImageManifest& manifest,
                                     std::string_view name, const DocumentLimits& limits = {});

// Could this entry of an index be an image, or an index of them? Attestations (unknown/unknown) and
// other companions are none.
bool IsOffered(const Descriptor& entry);

// The best entry for `wanted`; attestation entries (unknown/unknown), artifacts and unknown media
// types are never chosen. kNotFound lists the platforms that there are. Entries without a platform
// match only where nothing else does. What is chosen may be an index again (IsIndexMediaType).
Result<Descriptor> ChoosePlatform(const ImageIndex& index, const Platform& wanted,
                                  std::string_view name);

// Is this a layer that lamina can read? Its packing is not told: lamina sniffs the magic anyway.
// kUnsupported names foreign formats (nydus RAFS, overlaybd, encrypted layers, artifacts).
Status CheckLayerMediaType(const Descriptor& layer, std::string_view name);

}  // namespace lamina
