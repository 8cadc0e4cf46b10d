// The form of before Docker 1.10: `repositories` names top layers, and each layer is a folder with
// a `json` that names its parent, and a `layer.tar`.

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/digest.h"
#include "base/text.h"
#include "fetch/docker_manifest.h"
#include "fetch/json.h"
#include "fetch/local_source.h"
#include "fetch/manifest.h"
#include "fetch/reference.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostLayerJson = 1u << 20;

struct LegacyLayer {
  std::string parent;  // empty: it is the lowest
  Json description;    // its `json`
  Digest diff_id;
};

class LegacyReader {
 public:
  explicit LegacyReader(SourceFiles& files) : files_(files) {}

  // By the id of the top layer; layers that images share are read once.
  Status Read(const std::string& top, DockerArchiveImage* image) {
    if (top.empty()) return Error{Code::kInvalid, "it names no layer"};
    std::vector<const LegacyLayer*> chain;
    for (std::string id = top; !id.empty(); id = chain.back()->parent) {
      if (chain.size() == DocumentLimits().layers)
        return Error{Code::kLimit, "its layers are more than " +
                                       std::to_string(DocumentLimits().layers) +
                                       ", or name each other in a circle"};
      ASSIGN_OR_RETURN(const LegacyLayer* layer, Layer(id));
      chain.push_back(layer);
      image->layers.push_back(LayerName(id));
    }
    std::reverse(image->layers.begin(), image->layers.end());
    image->config_bytes = ConfigOf(chain);
    return {};
  }

 private:
  static std::string LayerName(const std::string& id) { return id + "/layer.tar"; }

  Result<const LegacyLayer*> Layer(const std::string& id) {
    const auto known = layers_.find(id);
    if (known != layers_.end()) return &known->second;
    if (layers_.size() == kMostLocalLayers)
      return Error{Code::kLimit, "the archive has too many layers"};
    const std::string name = id + "/json";
    ASSIGN_OR_RETURN(const std::string bytes, files_.Read(name, kMostLayerJson));
    ASSIGN_OR_RETURN(Json json, ParseJson(bytes, DocumentLimits().json_depth, files_.NameOf(name)));
    ASSIGN_OR_RETURN(const JsonObject object,
                     JsonObject::Of(json, {"parent"}, files_.NameOf(name)));
    ASSIGN_OR_RETURN(const auto parent, object.FindString("parent"));
    ASSIGN_OR_RETURN(const Digest diff_id, DigestOf(LayerName(id)));
    const auto added =
        layers_.emplace(id, LegacyLayer{parent.value_or(""), std::move(json), diff_id});
    return &added.first->second;
  }

  Result<Digest> DigestOf(const std::string& name) {
    ASSIGN_OR_RETURN(const auto blob, files_.Open(name, std::nullopt));
    Hasher hasher;
    RETURN_IF_ERROR(blob->Stream(0, [&](ByteSpan bytes) -> Status {
      hasher.Update(bytes);
      return {};
    }));
    return hasher.Finish();
  }

  // What the top layer says of the image, with the diff ids. The members are sorted by name, so
  // that the same archive gives the same bytes everywhere.
  static std::string ConfigOf(const std::vector<const LegacyLayer*>& chain) {
    const Json& top = chain.front()->description;
    Json config{{"architecture", "amd64"}, {"os", "linux"}};
    for (const char* key : {"architecture", "author", "config", "created", "os"})
      if (const auto at = top.find(key); at != top.end() && !at->is_null()) config[key] = *at;
    Json diff_ids = Json::array();
    for (auto layer = chain.rbegin(); layer != chain.rend(); ++layer)
      diff_ids.push_back((*layer)->diff_id.ToString());
    config["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
    return config.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  SourceFiles& files_;
  std::map<std::string, LegacyLayer> layers_;
};

// Tags by the id of the top layer, in the order of the names.
Result<std::vector<std::pair<std::string, std::vector<std::string>>>> ReadRepositories(
    SourceFiles& files) {
  ASSIGN_OR_RETURN(const std::string bytes, files.Read("repositories", kMostListBytes));
  const std::string name = files.NameOf("repositories");
  ASSIGN_OR_RETURN(const Json json, ParseJson(bytes, DocumentLimits().json_depth, name));
  if (!json.is_object()) return Error{Code::kInvalid, name + ": it is no object"};
  std::vector<std::pair<std::string, std::vector<std::string>>> found;
  std::map<std::string, size_t> place;
  for (const auto& [repository, tags] : json.items()) {
    if (!tags.is_object())
      return Error{Code::kInvalid, name + ": " + Quote(repository) + " is no object"};
    for (const auto& [tag, id] : tags.items()) {
      if (!id.is_string())
        return Error{Code::kInvalid, name + ": " + Quote(repository + ":" + tag) + " is no text"};
      const auto [at, is_new] = place.try_emplace(id.get<std::string>(), found.size());
      if (is_new) found.emplace_back(at->first, std::vector<std::string>());
      found[at->second].second.push_back(repository + ":" + tag);
    }
  }
  if (found.size() > kMostLocalImages)
    return Error{Code::kLimit, name + ": it lists " + std::to_string(found.size()) +
                                   " images, more than the limit of " +
                                   std::to_string(kMostLocalImages)};
  return found;
}

}  // namespace

Result<std::vector<DockerArchiveImage>> ReadLegacyImages(SourceFiles& files) {
  ASSIGN_OR_RETURN(const auto repositories, ReadRepositories(files));
  LegacyReader reader(files);
  std::vector<DockerArchiveImage> images;
  for (const auto& [top, tags] : repositories) {
    DockerArchiveImage image;
    image.tags = tags;
    Status read = reader.Read(top, &image);
    for (const std::string& tag : tags)
      if (const auto reference = Reference::Parse(tag); read && !reference)
        read = reference.error();
    if (!read) image.problem = read.error().Within("image " + std::to_string(images.size()));
    images.push_back(std::move(image));
  }
  return images;
}

}  // namespace lamina
