#include "fetch/docker_archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/file.h"
#include "fetch/archive_files.h"
#include "fetch/docker_manifest.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class BytesBlob : public BlobSource {
 public:
  explicit BytesBlob(std::string bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) override {
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    return sink(AsBytes(bytes_).subspan(offset));
  }
  std::string origin() const override { return "memory"; }

 private:
  const std::string bytes_;
};

// An archive in memory, and the file on disk that stands for it.
class MemoryArchive : public Archive {
 public:
  const std::vector<ArchiveMember>& members() const override { return members_; }
  Result<std::shared_ptr<BlobSource>> Open(const ArchiveMember& member) const override {
    return std::shared_ptr<BlobSource>(std::make_shared<BytesBlob>(contents_[member.offset]));
  }
  MemoryArchive& File(const std::string& path, const std::string& content) {
    members_.push_back({.path = path, .offset = contents_.size(), .size = content.size()});
    contents_.push_back(content);
    return *this;
  }
  MemoryArchive& Link(ArchiveMember::Kind kind, const std::string& path,
                      const std::string& target) {
    members_.push_back({.kind = kind, .path = path, .target = target});
    return *this;
  }

 private:
  std::vector<ArchiveMember> members_;
  std::vector<std::string> contents_;
};

std::string DiffId(std::string_view content) { return Digest::Sha256(AsBytes(content)).ToString(); }

std::string ConfigOf(const std::vector<std::string>& layers) {
  std::string ids;
  for (const std::string& layer : layers)
    ids += (ids.empty() ? "\"" : ",\"") + DiffId(layer) + "\"";
  return R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[)" + ids +
         "]}}";
}

class ArchiveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-archive");
    ASSERT_TRUE(folder.has_value());
    folder_.emplace(*std::move(folder));
    path_ = folder_->path() + "/a.tar";
    Write("1");
    Use(std::make_shared<MemoryArchive>());
  }
  void Write(const std::string& content) const {
    ASSERT_TRUE(WriteFileAtomically(path_, AsBytes(content)).has_value());
  }
  void Use(std::shared_ptr<MemoryArchive> archive) {
    archive_ = std::move(archive);
    files_ = std::make_shared<ArchiveFiles>(
        path_, "docker-archive:" + path_, [this](const std::string&, const FileIdentity&) {
          ++opened_;
          return Result<std::shared_ptr<const Archive>>(archive_);
        });
    docker_ = std::make_shared<DockerArchive>(files_);
  }
  std::string ErrorOf(const std::string& member) const {
    const auto read = files_->Read(member, 100);
    return read ? "no error" : read.error().message;
  }
  static Deadline Soon() { return Deadline::After(std::chrono::seconds(10)); }

  std::optional<TemporaryFolder> folder_;
  std::string path_;
  std::shared_ptr<MemoryArchive> archive_;
  std::shared_ptr<ArchiveFiles> files_;
  std::shared_ptr<DockerArchive> docker_;
  int opened_ = 0;
};

using Kind = ArchiveMember::Kind;

TEST_F(ArchiveTest, NamesAreCleanedInsideTheArchive) {
  EXPECT_EQ(CleanMemberName("./a//b/../c/"), "a/c");
  EXPECT_EQ(CleanMemberName("/a"), "a");
  EXPECT_EQ(CleanMemberName("a/../../b"), std::nullopt);
  EXPECT_EQ(CleanMemberName(".."), std::nullopt);
  EXPECT_EQ(CleanMemberName("./"), std::nullopt);
  EXPECT_EQ(CleanMemberName(""), std::nullopt);
}

TEST_F(ArchiveTest, LinksLeadToFilesOfTheArchive) {
  archive_->File("d/file", "content")
      .Link(Kind::kSymlink, "e/relative", "../d/file")
      .Link(Kind::kSymlink, "absolute", "/e/relative")
      .Link(Kind::kHardlink, "e/hard", "absolute")
      .Link(Kind::kSymlink, "e/out", "../../d/file")
      .Link(Kind::kSymlink, "self", "self")
      .Link(Kind::kHardlink, "lost", "nowhere");
  for (const std::string name : {"d/file", "e/relative", "absolute", "e/hard", "./e/../e/hard"})
    EXPECT_EQ(*files_->Read(name, 100), "content") << name;
  EXPECT_THAT(ErrorOf("e/out"), HasSubstr("leads out of the archive"));
  EXPECT_THAT(ErrorOf("self"), HasSubstr("in a circle"));
  EXPECT_THAT(ErrorOf("lost"), HasSubstr("no member 'nowhere', to which 'lost' leads"));
  EXPECT_THAT(ErrorOf("../x"), HasSubstr("leads out of the archive"));
  EXPECT_FALSE(files_->Has("e/out"));
  EXPECT_EQ(files_->Read("d/file", 6).error().code, Code::kLimit);
  EXPECT_EQ(files_->Open("d/file", 8).error().code, Code::kCorrupt);
}

TEST_F(ArchiveTest, IsOpenedAgainWhenItsFileHasChangedAndIsAwayWithIt) {
  archive_->File("a", "1");
  ASSERT_TRUE(files_->Read("a", 10).has_value());
  ASSERT_TRUE(files_->Read("a", 10).has_value());
  EXPECT_EQ(opened_, 1);
  Write("22");
  ASSERT_TRUE(files_->Read("a", 10).has_value());
  EXPECT_EQ(opened_, 2);
  ASSERT_TRUE(RemoveTree(path_));
  EXPECT_EQ(files_->Read("a", 10).error().code, Code::kUnavailable);
  EXPECT_EQ(docker_->Images().error().code, Code::kUnavailable);
}

TEST_F(ArchiveTest, MakesTheManifestOfAnImage) {
  archive_->File("c.json", ConfigOf({"low", "high"}))
      .File("low.tar", "low")
      .File("high.tar", "high")
      .File("manifest.json", R"([{"Config":"c.json","RepoTags":["app:1","quay.io/a/b:2"],
                                  "Layers":["low.tar","high.tar"]}])");
  const auto images = docker_->Images();
  ASSERT_TRUE(images.has_value()) << images.error().message;
  ASSERT_EQ((*images)->size(), 1u);
  const LocalImage& image = (*images)->front();
  ASSERT_TRUE(image.descriptor.has_value()) << image.descriptor.error().message;
  EXPECT_THAT(image.names, ElementsAre("app:1", "quay.io/a/b:2"));
  const std::string config = ConfigOf({"low", "high"});
  EXPECT_EQ(image.image_id->ToString(), DiffId(config));
  const auto document = docker_->FetchManifest(image.descriptor->digest, Soon());
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(
      document->bytes,
      R"({"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",)"
      R"("config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":)" +
          std::to_string(config.size()) + R"(,"digest":")" + DiffId(config) +
          R"("},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip",)"
          R"("size":3,"digest":")" +
          DiffId("low") +
          R"("},{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":4,)"
          R"("digest":")" +
          DiffId("high") + R"("}]})");
  EXPECT_EQ(Digest::Sha256(AsBytes(document->bytes)), image.descriptor->digest);
  EXPECT_EQ(docker_->FetchTag("2", Soon())->digest, image.descriptor->digest);
  EXPECT_THAT(*docker_->ListTags(Soon()), ElementsAre("1", "2"));
  EXPECT_THAT(docker_->FetchTag("3", Soon()).error().message, HasSubstr("it has 1, 2"));
  const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "test");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& manifest = std::get<ImageManifest>(*parsed);
  EXPECT_EQ(*docker_->FetchSmallBlob(manifest.config, 1000, Soon()), config);
  const auto layer = docker_->OpenBlob(manifest.layers[1]);
  ASSERT_TRUE(layer.has_value()) << layer.error().message;
  EXPECT_EQ((*layer)->size(), 4u);
  EXPECT_FALSE((*layer)->digest_is_name());
  EXPECT_TRUE(docker_->MayHold(manifest.layers[0].digest));
  EXPECT_FALSE(docker_->MayHold(Digest::Sha256({})));
  // The same object for as long as nothing changes, once the file has been still for a moment.
  EXPECT_EQ((*docker_->Images())->size(), 1u);
}

TEST_F(ArchiveTest, NamesPackedLayersByTheirDiffIds) {
  const std::string packed = "\x1f\x8b\x08\x01 not really gzip";
  archive_->File("c", ConfigOf({"plain"}))
      .File("l", packed)
      .File("manifest.json", R"([{"Config":"c","RepoTags":null,"Layers":["l"]}])");
  const LocalImage image = (*docker_->Images())->front();
  ASSERT_TRUE(image.descriptor.has_value()) << image.descriptor.error().message;
  EXPECT_THAT(image.names, IsEmpty());
  const auto document = docker_->FetchManifest(image.descriptor->digest, Soon());
  const auto manifest =
      std::get<ImageManifest>(*ParseManifestDocument(document->bytes, "", "test"));
  const std::string line =
      "docker-archive layer " + DiffId("plain") + " gzip " + std::to_string(packed.size()) + "\n";
  EXPECT_EQ(manifest.layers[0].digest.ToString(), DiffId(line));
  EXPECT_TRUE((*docker_->OpenBlob(manifest.layers[0]))->digest_is_name());
}

TEST_F(ArchiveTest, ABadImageLeavesTheOthers) {
  archive_->File("c", ConfigOf({"l"}))
      .File("l", "l")
      .File("manifest.json", R"([{"Config":"c","RepoTags":["a:1"],"Layers":["m"]},
                                 {"Config":"c","RepoTags":["b"],"Layers":["l"]},
                                 {"Config":7},
                                 {"Config":"c","RepoTags":["c:1"],"Layers":["l"]}])");
  const auto images = docker_->Images();
  ASSERT_TRUE(images.has_value());
  ASSERT_EQ((*images)->size(), 4u);
  EXPECT_THAT((**images)[0].descriptor.error().message, HasSubstr("image 0: layer 0"));
  EXPECT_THAT((**images)[1].descriptor.error().message, HasSubstr("'b' has no tag"));
  EXPECT_THAT((**images)[2].descriptor.error().message, HasSubstr("Config"));
  EXPECT_TRUE((**images)[3].descriptor.has_value());
}

TEST(DockerManifest, KeepsItsLimits) {
  std::string many = "[";
  for (int i = 0; i < 10'001; ++i) many += std::string(i > 0 ? "," : "") + "{}";
  const auto images = ParseDockerManifest(many + "]", "m");
  ASSERT_FALSE(images.has_value());
  EXPECT_EQ(images.error().code, Code::kLimit);
  std::string layers = R"([{"Config":"c","Layers":["l")";
  for (int i = 0; i < 512; ++i) layers += R"(,"l")";
  const auto image = ParseDockerManifest(layers + "]}]", "m");
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->at(0).problem->code, Code::kLimit);
}

TEST_F(ArchiveTest, MakesConfigsForTheLegacyForm) {
  archive_
      ->File("top/json", R"({"id":"top","parent":"base","created":"2014-01-02T03:04:05Z",
                                 "config":{"Cmd":["/x"]}})")
      .File("top/layer.tar", "high")
      .File("base/json", "{}")
      .File("base/layer.tar", "low")
      .File("turn/json", R"({"parent":"turn"})")
      .File("turn/layer.tar", "x")
      .File("repositories", R"({"app":{"1":"top","2":"top"},"base":{"x":"base"},"none":{"z":""},)"
                            R"("turn":{"y":"turn"}})");
  const auto images = docker_->Images();
  ASSERT_TRUE(images.has_value()) << images.error().message;
  ASSERT_EQ((*images)->size(), 4u);
  const LocalImage& app = (**images)[0];
  ASSERT_TRUE(app.descriptor.has_value()) << app.descriptor.error().message;
  EXPECT_THAT(app.names, ElementsAre("app:1", "app:2"));
  const auto manifest = std::get<ImageManifest>(*ParseManifestDocument(
      docker_->FetchManifest(app.descriptor->digest, Soon())->bytes, "", "test"));
  EXPECT_EQ(manifest.layers.size(), 2u);
  EXPECT_EQ(*docker_->FetchSmallBlob(manifest.config, 10'000, Soon()),
            R"({"architecture":"amd64","config":{"Cmd":["/x"]},"created":"2014-01-02T03:04:05Z",)"
            R"("os":"linux","rootfs":{"diff_ids":[")" +
                DiffId("low") + R"(",")" + DiffId("high") + R"("],"type":"layers"}})");
  EXPECT_TRUE((**images)[1].descriptor.has_value());
  EXPECT_THAT((**images)[2].descriptor.error().message, HasSubstr("names no layer"));
  EXPECT_THAT((**images)[3].descriptor.error().message, HasSubstr("in a circle"));
}

}  // namespace
}  // namespace lamina
