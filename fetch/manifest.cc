#include "fetch/manifest.h"

#include <nlohmann/json.hpp>

#include <array>

#include "base/text.h"
#include "fetch/json.h"
#include "fetch/media_types.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Error Invalid(std::string_view name, const std::string& reason) {
  return Error{Code::kInvalid, std::string(name) + ": " + reason};
}

Error TooMany(std::string_view name, const std::string& what, uint64_t value, uint64_t limit) {
  return Error{Code::kLimit, std::string(name) + ": it has " + std::to_string(value) + " " + what +
                                 ", more than the limit of " + std::to_string(limit)};
}

Error Schema1(std::string_view name) {
  return Error{
      Code::kUnsupported,
      std::string(name) +
          ": it is a Docker schema 1 manifest, an obsolete format that lamina does not read; "
          "push the image again with a current tool (skopeo copy --format oci does it)"};
}

Result<Digest> ParseDigest(const JsonObject& object, std::string_view key, std::string_view text) {
  auto digest = Digest::Parse(text);
  if (digest) return digest;
  return object.Bad(
      key,
      Quote(text) + " is not a digest (sha256: and 64 lower-case hex digits, or sha512: and 128)");
}

// A platform that could not be the name of one counts as unknown, which is never chosen: an odd
// entry must not make the others of its index unreadable.
Platform OrUnknown(Platform platform) {
  if (IsWellFormed(platform)) return platform;
  return Platform{"unknown", "unknown", "", "", {}};
}

Result<Platform> ReadPlatform(const JsonObject& object) {
  Platform out;
  ASSIGN_OR_RETURN(auto os, object.FindString("os"));
  ASSIGN_OR_RETURN(auto architecture, object.FindString("architecture"));
  ASSIGN_OR_RETURN(auto variant, object.FindString("variant"));
  ASSIGN_OR_RETURN(auto os_version, object.FindString("os.version"));
  ASSIGN_OR_RETURN(out.os_features, object.FindStrings("os.features"));
  out.os = os.value_or("");
  out.architecture = architecture.value_or("");
  out.variant = variant.value_or("");
  out.os_version = os_version.value_or("");
  return OrUnknown(std::move(out));
}

Result<std::optional<Platform>> FindPlatform(const JsonObject& descriptor) {
  const Json* value = descriptor.Find("platform");
  if (value == nullptr) return std::optional<Platform>();
  ASSIGN_OR_RETURN(
      const JsonObject object,
      JsonObject::Of(*value, {"os", "architecture", "variant", "os.version", "os.features"},
                     descriptor.where() + ": platform"));
  ASSIGN_OR_RETURN(Platform platform, ReadPlatform(object));
  // Some tools write an empty platform for "none".
  if (platform.os.empty() && platform.architecture.empty()) return std::optional<Platform>();
  return std::optional<Platform>(std::move(platform));
}

Result<Descriptor> ReadDescriptor(const Json& value, std::string where) {
  ASSIGN_OR_RETURN(
      const JsonObject object,
      JsonObject::Of(value,
                     {"mediaType", "digest", "size", "annotations", "platform", "artifactType"},
                     std::move(where)));
  ASSIGN_OR_RETURN(std::string type, object.String("mediaType"));
  ASSIGN_OR_RETURN(const std::string digest_text, object.String("digest"));
  ASSIGN_OR_RETURN(const Digest digest, ParseDigest(object, "digest", digest_text));
  ASSIGN_OR_RETURN(const uint64_t size, object.Size("size"));
  ASSIGN_OR_RETURN(auto annotations, object.FindStringMap("annotations"));
  ASSIGN_OR_RETURN(auto platform, FindPlatform(object));
  ASSIGN_OR_RETURN(auto artifact_type, object.FindString("artifactType"));
  return Descriptor{
      std::move(type),           digest, size, std::move(annotations), std::move(platform),
      artifact_type.value_or("")};
}

// `what` is "layer" or "entry"; the array may be null, which Go writes for an empty one.
Result<std::vector<Descriptor>> ReadDescriptors(const JsonObject& document, std::string_view key,
                                                std::string_view what, size_t limit) {
  std::vector<Descriptor> out;
  ASSIGN_OR_RETURN(const Json* array, document.FindArray(key));
  if (array == nullptr) return out;
  if (array->size() > limit)
    return TooMany(document.where(), std::string(key), array->size(), limit);
  out.reserve(array->size());
  for (const Json& value : *array) {
    const std::string where =
        document.where() + ": " + std::string(what) + " " + std::to_string(out.size());
    ASSIGN_OR_RETURN(Descriptor descriptor, ReadDescriptor(value, where));
    out.push_back(std::move(descriptor));
  }
  return out;
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// What a Content-Type says about a manifest; empty where that is nothing.
std::string_view Said(std::string_view content_type) {
  static constexpr std::array<std::string_view, 4> kSayNothing = {
      "application/json", "text/plain", "application/octet-stream", "binary/octet-stream"};
  const std::string_view type = Trimmed(content_type.substr(0, content_type.find(';')));
  for (const std::string_view nothing : kSayNothing)
    if (type == nothing) return {};
  return type;
}

Status CheckSchemaVersion(const JsonObject& document) {
  const Json* version = document.Find("schemaVersion");
  if (version == nullptr) return {};
  if (*version == 1) return Schema1(document.where());
  if (!version->is_number_integer() || *version != 2)
    return document.Bad("schemaVersion", "is not 2");
  return {};
}

// Which of the two kinds of document it is by its members. One that has those of both could be read
// as either, so that two readers would see two images under one digest.
Result<bool> IsIndexByShape(const JsonObject& document) {
  const bool index = document.Has("manifests");
  const bool image = document.Has("layers") || document.Has("config");
  const bool schema1 = document.Has("fsLayers");
  if (index && (image || schema1))
    return Invalid(document.where(),
                   "it has 'manifests' and 'layers' or 'config', so that it could be "
                   "read as an index or as an image");
  if (schema1 && image)
    return Invalid(document.where(),
                   "it has members of schema 1 ('fsLayers') and of a newer manifest");
  if (schema1) return Schema1(document.where());
  if (!index && !image)
    return Invalid(document.where(),
                   "it has neither 'manifests' nor 'layers' and 'config', so it is no "
                   "image manifest or index");
  return index;
}

// The media type of the document, from what it says itself and what was said about it.
Result<std::string> AgreedType(const JsonObject& document, std::string_view content_type) {
  ASSIGN_OR_RETURN(const auto inside, document.FindString("mediaType"));
  const std::string_view said = Said(content_type);
  if (media_type::IsSchema1(said) || (inside && media_type::IsSchema1(*inside)))
    return Schema1(document.where());
  if (inside && !said.empty() && *inside != said)
    return Invalid(document.where(),
                   "it calls itself " + Quote(*inside) + " but was delivered as " + Quote(said));
  const std::string type = inside.value_or(std::string(said));
  if (type.empty() || IsIndexMediaType(type) || IsManifestMediaType(type)) return type;
  return Error{Code::kUnsupported, document.where() + ": its media type is " + Quote(type) +
                                       ", which is no image or index"};
}

Result<ManifestDocument> ReadIndex(const JsonObject& document, std::string type,
                                   const DocumentLimits& limits) {
  ImageIndex out;
  out.media_type = type.empty() ? std::string(media_type::kOciIndex) : std::move(type);
  ASSIGN_OR_RETURN(out.manifests,
                   ReadDescriptors(document, "manifests", "entry", limits.index_manifests));
  ASSIGN_OR_RETURN(out.annotations, document.FindStringMap("annotations"));
  return ManifestDocument(std::move(out));
}

// What makes an artifact of a manifest. A fault in it is no fault of the image.
void ReadArtifactMembers(const Json& json, const std::string& where, ImageManifest* manifest) {
  const auto object = JsonObject::Of(json, {"subject", "artifactType"}, where);
  if (!object) return;
  if (const auto type = object->FindString("artifactType"); type)
    manifest->artifact_type = type->value_or("");
  const Json* subject = object->Find("subject");
  if (subject == nullptr) return;
  if (auto descriptor = ReadDescriptor(*subject, where + ": subject"); descriptor)
    manifest->subject = *std::move(descriptor);
}

Result<ManifestDocument> ReadManifest(const Json& json, const JsonObject& document,
                                      std::string type, const DocumentLimits& limits) {
  const Json* config = document.Find("config");
  if (config == nullptr) return document.Bad("config", "is missing");
  if (!document.Has("layers")) return document.Bad("layers", "is missing");
  ASSIGN_OR_RETURN(Descriptor config_descriptor,
                   ReadDescriptor(*config, document.where() + ": config"));
  if (type.empty())
    type = config_descriptor.media_type == media_type::kDockerConfig ? media_type::kDockerManifest
                                                                     : media_type::kOciManifest;
  ASSIGN_OR_RETURN(auto layers, ReadDescriptors(document, "layers", "layer", limits.layers));
  ASSIGN_OR_RETURN(auto annotations, document.FindStringMap("annotations"));
  ImageManifest manifest{std::move(type),   std::move(config_descriptor),
                         std::move(layers), std::move(annotations),
                         /*subject=*/{},    /*artifact_type=*/{}};
  ReadArtifactMembers(json, document.where(), &manifest);
  return ManifestDocument(std::move(manifest));
}

Result<std::vector<Digest>> ReadDiffIds(const JsonObject& config, size_t layers) {
  std::vector<Digest> out;
  const Json* value = config.Find("rootfs");
  if (value == nullptr) return config.Bad("rootfs", "is missing");
  ASSIGN_OR_RETURN(const JsonObject rootfs,
                   JsonObject::Of(*value, {"type", "diff_ids"}, config.where() + ": rootfs"));
  ASSIGN_OR_RETURN(const auto type, rootfs.FindString("type"));
  if (type && *type != "layers") return rootfs.Bad("type", Quote(*type) + " is not 'layers'");
  ASSIGN_OR_RETURN(const auto texts, rootfs.FindStrings("diff_ids"));
  if (texts.size() != layers)
    return Invalid(config.where(), "it has " + std::to_string(texts.size()) + " diff_ids for " +
                                       std::to_string(layers) + " layers of the manifest");
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(const Digest digest, ParseDigest(rootfs, "diff_ids", text));
    out.push_back(digest);
  }
  return out;
}

}  // namespace

Status CheckDocument(std::string_view bytes, const Digest& digest, std::optional<uint64_t> size,
                     std::string_view name) {
  if (size && bytes.size() != *size)
    return Error{Code::kCorrupt, std::string(name) + ": it has " + std::to_string(bytes.size()) +
                                     " bytes instead of " + std::to_string(*size)};
  const Digest actual = Digest::Of(AsBytes(bytes), digest.algorithm());
  if (actual == digest) return {};
  return Error{Code::kCorrupt, std::string(name) + ": its digest is " + actual.ToString() +
                                   " instead of " + digest.ToString()};
}

Result<ManifestDocument> ParseManifestDocument(std::string_view bytes,
                                               std::string_view content_type, std::string_view name,
                                               const DocumentLimits& limits) {
  if (bytes.size() > limits.manifest_bytes)
    return TooMany(name, "bytes", bytes.size(), limits.manifest_bytes);
  ASSIGN_OR_RETURN(const Json json, ParseJson(bytes, limits.json_depth, name));
  ASSIGN_OR_RETURN(const JsonObject document,
                   JsonObject::Of(json,
                                  {"schemaVersion", "mediaType", "config", "layers", "manifests",
                                   "annotations", "fsLayers"},
                                  std::string(name)));
  ASSIGN_OR_RETURN(std::string type, AgreedType(document, content_type));
  RETURN_IF_ERROR(CheckSchemaVersion(document));
  ASSIGN_OR_RETURN(const bool index, IsIndexByShape(document));
  if (!type.empty() && IsIndexMediaType(type) != index)
    return Invalid(name, std::string("it has the members of an ") +
                             (index ? "index" : "image manifest") + " but the media type " +
                             Quote(type));
  return index ? ReadIndex(document, std::move(type), limits)
               : ReadManifest(json, document, std::move(type), limits);
}

const std::string& ArtifactType(const ImageManifest& manifest) {
  return manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
}

Status CheckIsImage(const ImageManifest& manifest, std::string_view name) {
  const std::string& type = manifest.config.media_type;
  if (media_type::IsImageConfig(type)) return {};
  return Error{
      Code::kUnsupported,
      std::string(name) + ": it is an artifact and not an image: its config is " + Quote(type)};
}

Result<ImageConfig> ParseImageConfig(std::string_view bytes, const ImageManifest& manifest,
                                     std::string_view name, const DocumentLimits& limits) {
  RETURN_IF_ERROR(CheckIsImage(manifest, name));
  if (bytes.size() > limits.config_bytes)
    return TooMany(name, "bytes", bytes.size(), limits.config_bytes);
  ASSIGN_OR_RETURN(const Json json, ParseJson(bytes, limits.json_depth, name));
  ASSIGN_OR_RETURN(
      const JsonObject config,
      JsonObject::Of(
          json, {"os", "architecture", "variant", "os.version", "os.features", "created", "rootfs"},
          std::string(name)));
  ImageConfig out;
  ASSIGN_OR_RETURN(out.platform, ReadPlatform(config));
  ASSIGN_OR_RETURN(const auto created, config.FindString("created"));
  // A time that cannot be read is no reason to refuse an image: it dates the root folder only.
  if (int64_t ns = 0; created && ParseRfc3339(*created, &ns)) out.created_ns = ns;
  ASSIGN_OR_RETURN(out.diff_ids, ReadDiffIds(config, manifest.layers.size()));
  return out;
}

}  // namespace lamina
