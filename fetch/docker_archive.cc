#include "fetch/docker_archive.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "base/text.h"
#include "fetch/docker_manifest.h"
#include "fetch/media_types.h"

namespace lamina {
namespace {

constexpr std::string_view kLayerType = "application/vnd.docker.image.rootfs.diff.tar.gzip";
constexpr uint64_t kMostConfigBytes = 256u << 20;  // of all images together
constexpr std::chrono::minutes kReadBound(2);

// The packing of a member by its first bytes; empty where it is plain, or nothing that is known
// here (who indexes the layer then says what it is).
std::string_view PackingOf(ByteSpan head) {
  if (head.size() < 4) return {};
  if (head[0] == 0x1f && head[1] == 0x8b) return "gzip";
  if (head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f && head[3] == 0xfd) return "zstd";
  if ((head[0] & 0xf0) == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18)
    return "zstd";
  return {};
}

// A blob under a name that its source has given it.
class NamedBlob : public BlobSource {
 public:
  explicit NamedBlob(std::shared_ptr<BlobSource> blob) : blob_(std::move(blob)) {}
  uint64_t size() const override { return blob_->size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override {
    return blob_->ReadAt(offset, out, deadline);
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return blob_->Stream(offset, sink);
  }
  std::string origin() const override { return blob_->origin(); }
  bool digest_is_name() const override { return true; }

 private:
  const std::shared_ptr<BlobSource> blob_;
};

// The bytes that skopeo makes: members in this order, nothing between them.
std::string ManifestBytes(const Descriptor& config, const std::vector<Descriptor>& layers) {
  const auto text = [](const Descriptor& descriptor) {
    return "{\"mediaType\":\"" + descriptor.media_type +
           "\",\"size\":" + std::to_string(descriptor.size) + ",\"digest\":\"" +
           descriptor.digest.ToString() + "\"}";
  };
  std::string out = "{\"schemaVersion\":2,\"mediaType\":\"" +
                    std::string(media_type::kDockerManifest) + "\",\"config\":" + text(config) +
                    ",\"layers\":[";
  for (size_t i = 0; i < layers.size(); ++i) out += (i > 0 ? "," : "") + text(layers[i]);
  return out + "]}";
}

bool HasTag(const LocalImage& image, const std::string& tag) {
  return std::any_of(image.names.begin(), image.names.end(),
                     [&](const std::string& name) { return TagOfRefName(name) == tag; });
}

}  // namespace

Digest PackedLayerName(const Digest& diff_id, std::string_view packing, uint64_t size) {
  const std::string line = "docker-archive layer " + diff_id.ToString() + " " +
                           std::string(packing) + " " + std::to_string(size) + "\n";
  return Digest::Sha256(AsBytes(line));
}

// Reads the headers of all images into a snapshot. One thread.
class DockerArchive::Reader {
 public:
  Reader(SourceFiles& files, Snapshot& snapshot) : files_(files), snapshot_(snapshot) {}

  LocalImage Read(DockerArchiveImage image, size_t number) {
    LocalImage out{.names = std::move(image.tags), .descriptor = Error{}};
    if (image.problem) {
      out.descriptor = *std::move(image.problem);
      return out;
    }
    auto config = Config(image);
    if (!config) {
      out.descriptor = config.error().Within("image " + std::to_string(number));
      return out;
    }
    out.image_id = config->digest;
    auto manifest = Manifest(*config, image);
    out.descriptor =
        manifest ? std::move(manifest)
                 : Result<Descriptor>(manifest.error().Within("image " + std::to_string(number)));
    return out;
  }

 private:
  struct ConfigFacts {
    Digest digest;
    uint64_t size;
    std::vector<Digest> diff_ids;
  };
  struct LayerFacts {
    uint64_t size;
    std::string packing;
  };

  Result<ConfigFacts> Config(const DockerArchiveImage& image) {
    const auto key = std::make_pair(image.config_name, image.layers.size());
    const auto known = configs_.find(key);
    if (known != configs_.end() && !image.config_name.empty()) return known->second;
    std::string bytes = image.config_bytes;
    if (!image.config_name.empty()) {
      ASSIGN_OR_RETURN(bytes, files_.Read(image.config_name, DocumentLimits().config_bytes));
    }
    config_bytes_ += bytes.size();
    if (config_bytes_ > kMostConfigBytes)
      return Error{Code::kLimit, files_.origin() + ": the configs of its images have more than " +
                                     HumanSize(kMostConfigBytes)};
    const Digest digest = Digest::Sha256(AsBytes(bytes));
    // For its number of layers alone.
    const Descriptor any{std::string(media_type::kDockerConfig), digest, 0, {}, {}, ""};
    const ImageManifest shape{"", any, std::vector<Descriptor>(image.layers.size(), any), {}};
    ASSIGN_OR_RETURN(ImageConfig config,
                     ParseImageConfig(bytes, shape, "config " + Quote(image.config_name)));
    ConfigFacts facts{digest, bytes.size(), std::move(config.diff_ids)};
    snapshot_.blobs.try_emplace(
        digest, Blob{image.config_name, image.config_name.empty() ? std::move(bytes) : "", false});
    configs_.insert_or_assign(key, facts);
    return facts;
  }

  Result<LayerFacts> Layer(const std::string& name) {
    const auto known = layers_.find(name);
    if (known != layers_.end()) return known->second;
    ASSIGN_OR_RETURN(const auto blob, files_.Open(name, std::nullopt));
    std::array<uint8_t, 4> head{};
    const MutableByteSpan wanted(head.data(), std::min<uint64_t>(head.size(), blob->size()));
    RETURN_IF_ERROR(blob->ReadAt(0, wanted, Deadline::After(kReadBound)));
    LayerFacts facts{blob->size(), std::string(PackingOf(wanted))};
    layers_.emplace(name, facts);
    return facts;
  }

  Result<Descriptor> Manifest(const ConfigFacts& config, const DockerArchiveImage& image) {
    std::vector<Descriptor> layers;
    for (size_t i = 0; i < image.layers.size(); ++i) {
      auto facts = Layer(image.layers[i]);
      if (!facts) return facts.error().Within("layer " + std::to_string(i));
      const bool packed = !facts->packing.empty();
      const Digest& diff_id = config.diff_ids[i];
      const Digest digest =
          packed ? PackedLayerName(diff_id, facts->packing, facts->size) : diff_id;
      snapshot_.blobs.try_emplace(digest, Blob{image.layers[i], "", packed});
      layers.push_back({std::string(kLayerType), digest, facts->size, {}, {}, ""});
    }
    std::string bytes = ManifestBytes(
        {std::string(media_type::kDockerConfig), config.digest, config.size, {}, {}, ""}, layers);
    Descriptor descriptor{std::string(media_type::kDockerManifest),
                          Digest::Sha256(AsBytes(bytes)),
                          bytes.size(),
                          {},
                          {},
                          ""};
    snapshot_.manifests.insert_or_assign(descriptor.digest, std::move(bytes));
    return descriptor;
  }

  SourceFiles& files_;
  Snapshot& snapshot_;
  uint64_t config_bytes_ = 0;
  std::map<std::pair<std::string, size_t>, ConfigFacts> configs_;  // by member and layers
  std::map<std::string, LayerFacts> layers_;
};

Result<DockerArchive::SnapshotPtr> DockerArchive::ReadArchive() {
  auto snapshot = std::make_shared<Snapshot>();
  ASSIGN_OR_RETURN(snapshot->identity, files_->Identify("manifest.json"));
  // Judged before the reading: a change after this moment gives another identity.
  snapshot->settled = IsSettled(snapshot->identity);
  files_->Refresh();
  std::vector<DockerArchiveImage> listed;
  const auto bytes = files_->Read("manifest.json", kMostListBytes);
  if (bytes) {
    ASSIGN_OR_RETURN(listed, ParseDockerManifest(*bytes, files_->NameOf("manifest.json")));
  } else {
    if (bytes.error().code != Code::kNotFound) return bytes.error();
    auto legacy = ReadLegacyImages(*files_);
    if (!legacy && legacy.error().code == Code::kNotFound)
      return Error{
          Code::kInvalid,
          origin() +
              " is no docker-archive: it has neither manifest.json nor "
              "repositories" +
              (files_->Has("index.json") ? "; it has an index.json: add it as oci-archive:" : "")};
    ASSIGN_OR_RETURN(listed, std::move(legacy));
  }
  auto images = std::make_shared<LocalImages>();
  Reader reader(*files_, *snapshot);
  for (DockerArchiveImage& image : listed)
    images->push_back(reader.Read(std::move(image), images->size()));
  snapshot->images = std::move(images);
  return SnapshotPtr(std::move(snapshot));
}

Result<DockerArchive::SnapshotPtr> DockerArchive::Current() {
  const auto known = [this]() -> Result<SnapshotPtr> {
    ASSIGN_OR_RETURN(const FileIdentity now, files_->Identify("manifest.json"));
    const MutexLock lock(mutex_);
    const bool holds = snapshot_ != nullptr && snapshot_->settled && now == snapshot_->identity;
    return holds ? snapshot_ : SnapshotPtr();
  };
  ASSIGN_OR_RETURN(SnapshotPtr current, known());
  if (current != nullptr) return current;
  return reading_.Do(0, [&]() -> Result<SnapshotPtr> {
    ASSIGN_OR_RETURN(SnapshotPtr fresh, known());
    if (fresh != nullptr) return fresh;
    ASSIGN_OR_RETURN(fresh, ReadArchive());
    const MutexLock lock(mutex_);
    snapshot_ = fresh;
    return fresh;
  });
}

Status DockerArchive::Check() {
  RETURN_IF_ERROR(Current());
  return {};
}

Result<std::shared_ptr<const LocalImages>> DockerArchive::Images() {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  return snapshot->images;
}

Result<std::vector<std::string>> DockerArchive::ListTags(const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  std::set<std::string> tags;
  for (const LocalImage& image : *snapshot->images)
    for (const std::string& name : image.names) tags.insert(TagOfRefName(name));
  return std::vector<std::string>(tags.begin(), tags.end());
}

Result<Document> DockerArchive::FetchTag(const std::string& tag, const Deadline& deadline) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  std::optional<Digest> found;
  for (const LocalImage& image : *snapshot->images) {
    if (!HasTag(image, tag)) continue;
    if (!image.descriptor) return image.descriptor.error();
    if (found && *found != image.descriptor->digest)
      return AmbiguousName(origin(), tag, *found, image.descriptor->digest);
    found = image.descriptor->digest;
  }
  if (found) return FetchManifest(*found, deadline);
  ASSIGN_OR_RETURN(const auto tags, ListTags(deadline));
  return NoSuchTag(origin(), tag, tags);
}

Result<Document> DockerArchive::FetchManifest(const Digest& digest, const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  const auto at = snapshot->manifests.find(digest);
  if (at == snapshot->manifests.end())
    return Error{Code::kNotFound, origin() + " has no image " + digest.ToString()};
  return Document{digest, std::string(media_type::kDockerManifest), at->second};
}

Result<const DockerArchive::Blob*> DockerArchive::FindBlob(const Snapshot& snapshot,
                                                           const Digest& digest) const {
  const auto at = snapshot.blobs.find(digest);
  if (at != snapshot.blobs.end()) return &at->second;
  return Error{Code::kNotFound, origin() + " has no layer or config " + digest.ToString()};
}

Result<std::string> DockerArchive::FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                                  const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  ASSIGN_OR_RETURN(const Blob* blob, FindBlob(*snapshot, descriptor.digest));
  std::string bytes = blob->bytes;
  if (!blob->name.empty()) {
    ASSIGN_OR_RETURN(bytes, files_->Read(blob->name, limit));
  }
  RETURN_IF_ERROR(CheckDocument(bytes, descriptor.digest, descriptor.size,
                                origin() + ": " + Quote(blob->name)));
  return bytes;
}

bool DockerArchive::MayHold(const Digest& digest) {
  const auto snapshot = Current();
  return snapshot &&
         ((*snapshot)->manifests.contains(digest) || (*snapshot)->blobs.contains(digest));
}

Result<std::shared_ptr<BlobSource>> DockerArchive::OpenBlob(const Descriptor& descriptor) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  ASSIGN_OR_RETURN(const Blob* found, FindBlob(*snapshot, descriptor.digest));
  ASSIGN_OR_RETURN(auto blob, files_->Open(found->name, descriptor.size));
  if (found->digest_is_name) return std::shared_ptr<BlobSource>(std::make_shared<NamedBlob>(blob));
  return blob;
}

}  // namespace lamina
