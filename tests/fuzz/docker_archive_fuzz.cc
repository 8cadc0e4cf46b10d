// Any bytes as the manifest.json of a docker-archive, and as the `repositories` and the layer
// descriptions of the legacy form, over an archive that has a few members: what comes out keeps the
// promises of fetch/docker_manifest.h, and nothing of it is believed without a member.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/bytes.h"
#include "fetch/docker_archive.h"
#include "fetch/docker_manifest.h"
#include "fetch/reference.h"

namespace {

using namespace lamina;

void Require(bool holds) {
  if (!holds) std::abort();
}

class BytesBlob : public BlobSource {
 public:
  explicit BytesBlob(std::string bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    Require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    bytes_.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return sink(AsBytes(bytes_).subspan(offset));
  }
  std::string origin() const override { return "fuzzer"; }

 private:
  const std::string bytes_;
};

// Every short name is a member: the list, a description of a layer, or a layer.
class Files : public SourceFiles {
 public:
  Files(std::string list_name, std::string list) : list_name_(std::move(list_name)), list_(list) {}
  Result<FileIdentity> Identify(const std::string&) override { return FileIdentity{}; }
  Result<std::string> Read(const std::string& name, uint64_t limit) override {
    if (name == list_name_ || name.ends_with("/json") || name == "c") {
      if (list_.size() > limit) return Error{Code::kLimit, "too long"};
      return list_;
    }
    return Error{Code::kNotFound, "no member"};
  }
  Result<std::shared_ptr<BlobSource>> Open(const std::string& name,
                                           std::optional<uint64_t>) override {
    if (name.size() > 20) return Error{Code::kNotFound, "no member"};
    return std::shared_ptr<BlobSource>(std::make_shared<BytesBlob>(name));
  }
  Result<uint64_t> SizeOf(const std::string& name) override { return name.size(); }
  bool Has(const std::string&) override { return false; }
  bool MayBeTorn() const override { return false; }
  const std::string& origin() const override { return origin_; }
  std::string NameOf(const std::string& name) const override { return name; }

 private:
  const std::string list_name_;
  const std::string list_;
  const std::string origin_ = "fuzz";
};

void CheckImage(const DockerArchiveImage& image) {
  if (image.problem) return;
  Require(image.layers.size() <= DocumentLimits().layers);
  for (const std::string& tag : image.tags) Require(Reference::Parse(tag).has_value());
}

void CheckArchive(DockerArchive& archive) {
  const auto images = archive.Images();
  if (!images) return;
  Require((*images)->size() <= kMostLocalImages);
  for (const LocalImage& image : **images) {
    if (!image.descriptor) continue;
    const auto document =
        archive.FetchManifest(image.descriptor->digest, Deadline::After(std::chrono::seconds(9)));
    Require(document.has_value());
    const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "fuzz");
    Require(parsed.has_value() && std::holds_alternative<ImageManifest>(*parsed));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  if (const auto images = ParseDockerManifest(bytes, "fuzz"))
    for (const DockerArchiveImage& image : *images) CheckImage(image);
  for (const char* list : {"manifest.json", "repositories"}) {
    DockerArchive archive(std::make_shared<Files>(list, bytes));
    CheckArchive(archive);
  }
  return 0;
}
