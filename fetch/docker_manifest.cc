#include "fetch/docker_manifest.h"

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "fetch/json.h"
#include "fetch/local_source.h"
#include "fetch/manifest.h"
#include "fetch/reference.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostTags = 65'536;  // of all images together

// Docker writes them with a tag; without one, nobody knows which is meant.
Status CheckTag(const std::string& text, const JsonObject& image) {
  const auto reference = Reference::Parse(text);
  if (!reference) return image.Bad("RepoTags", reference.error().message);
  if (!reference->tag || reference->digest)
    return image.Bad("RepoTags", Quote(text) + " has no tag; every name in it needs one");
  return {};
}

Result<DockerArchiveImage> ReadImage(const Json& value, const std::string& where) {
  ASSIGN_OR_RETURN(const JsonObject object,
                   JsonObject::Of(value, {"Config", "RepoTags", "Layers"}, where));
  DockerArchiveImage image;
  ASSIGN_OR_RETURN(image.tags, object.FindStrings("RepoTags"));
  ASSIGN_OR_RETURN(image.config_name, object.String("Config"));
  ASSIGN_OR_RETURN(image.layers, object.FindStrings("Layers"));
  if (image.config_name.empty()) return object.Bad("Config", "is empty");
  if (image.layers.size() > DocumentLimits().layers)
    return Error{Code::kLimit, where + ": it has " + std::to_string(image.layers.size()) +
                                   " layers, more than the limit of " +
                                   std::to_string(DocumentLimits().layers)};
  for (const std::string& tag : image.tags) RETURN_IF_ERROR(CheckTag(tag, object));
  return image;
}

}  // namespace

Result<std::vector<DockerArchiveImage>> ParseDockerManifest(std::string_view bytes,
                                                            const std::string& name) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(bytes, DocumentLimits().json_depth, name));
  if (!json.is_array())
    return Error{Code::kInvalid, name + ": it is " + (json.is_null() ? "null" : "no array") +
                                     " and not the list of images that docker-archive has there"};
  if (json.size() > kMostLocalImages)
    return Error{Code::kLimit, name + ": it lists " + std::to_string(json.size()) +
                                   " images, more than the limit of " +
                                   std::to_string(kMostLocalImages)};
  std::vector<DockerArchiveImage> images;
  size_t layers = 0;
  size_t tags = 0;
  for (const Json& value : json) {
    auto image = ReadImage(value, name + ": image " + std::to_string(images.size()));
    images.push_back(image ? *std::move(image) : DockerArchiveImage());
    if (!image) images.back().problem = std::move(image).error();
    layers += images.back().layers.size();
    tags += images.back().tags.size();
  }
  if (layers > kMostLocalLayers || tags > kMostTags)
    return Error{Code::kLimit, name + ": it lists " + std::to_string(layers) + " layers and " +
                                   std::to_string(tags) + " tags, the limits are " +
                                   std::to_string(kMostLocalLayers) + " and " +
                                   std::to_string(kMostTags)};
  return images;
}

}  // namespace lamina
