#include "fetch/oci_layout.h"

#include <sys/stat.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/unit/fetch/oci_tools.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kOciIndex[] = "application/vnd.oci.image.index.v1+json";
constexpr char kOciManifest[] = "application/vnd.oci.image.manifest.v1+json";
constexpr char kLayer[] = "application/vnd.oci.image.layer.v1.tar";

Deadline Soon() { return Deadline::After(std::chrono::seconds(10)); }

std::shared_ptr<OciLayout> OpenLayout(const std::string& path) {
  auto layout = OciLayout::Open(path);
  EXPECT_TRUE(layout.has_value()) << layout.error().message;
  return layout ? *layout : nullptr;
}

std::string Ref(const std::string& name) {
  return R"(,"annotations":{"org.opencontainers.image.ref.name":")" + name + "\"}";
}
std::string Named(const std::string& ref_name, const std::string& image_name) {
  return R"(,"annotations":{"org.opencontainers.image.ref.name":")" + ref_name +
         R"(","io.containerd.image.name":")" + image_name + "\"}";
}

std::vector<std::string> Tags(RepositorySource& source) {
  const auto tags = source.ListTags(Soon());
  EXPECT_TRUE(tags.has_value()) << tags.error().message;
  return tags ? *tags : std::vector<std::string>{"error"};
}

template <typename T>
void ExpectError(const Result<T>& result, Code code, const std::string& words) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, code) << result.error().message;
  EXPECT_THAT(result.error().message, HasSubstr(words));
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// A layout that umoci makes: an image of two layers under the tags `one` (its first layer alone)
// and `two`.
class UmociLayoutTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-umoci");
    ASSERT_TRUE(folder.has_value());
    folder_.emplace(*std::move(folder));
    const std::string unpack = "umoci unpack --rootless --image l:base b";
    RunTool(In() + "umoci init --layout l && umoci new --image l:base && " + unpack +
            " && mkdir b/rootfs/etc && echo first > b/rootfs/etc/first"
            " && umoci repack --refresh-bundle --image l:one b"
            " && echo second > b/rootfs/etc/second && umoci repack --image l:two b && umoci rm "
            "--image l:base");
  }
  std::string In() const { return "cd " + folder_->path() + " && "; }
  std::string path() const { return folder_->path() + "/l"; }

  std::optional<TemporaryFolder> folder_;
};

TEST_F(UmociLayoutTest, ReadsTheManifestThatSkopeoReads) {
  const auto layout = OpenLayout(path());
  const auto document = layout->FetchTag("two", Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  EXPECT_EQ(document->bytes, RunTool(In() + "skopeo inspect --raw oci:l:two"));
  EXPECT_EQ(document->digest.ToString(),
            FirstLine(RunTool(In() + "skopeo inspect --format '{{.Digest}}' oci:l:two")));
  EXPECT_EQ(document->media_type, kOciManifest);
  EXPECT_THAT(Tags(*layout), ElementsAre("one", "two"));
}

TEST_F(UmociLayoutTest, ReadsConfigAndLayersOfARealImage) {
  const auto layout = OpenLayout(path());
  const auto document = layout->FetchTag("two", Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "two");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& manifest = std::get<ImageManifest>(*parsed);
  ASSERT_EQ(manifest.layers.size(), 2u);

  const auto config_bytes = layout->FetchSmallBlob(manifest.config, 1 << 20, Soon());
  ASSERT_TRUE(config_bytes.has_value()) << config_bytes.error().message;
  const auto config = ParseImageConfig(*config_bytes, manifest, "two");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->platform.os, "linux");
  EXPECT_TRUE(config->created_ns.has_value());

  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(CheckLayerMediaType(manifest.layers[i], "two").has_value());
    auto blob = layout->OpenBlob(manifest.layers[i]);
    ASSERT_TRUE(blob.has_value()) << blob.error().message;
    Hasher hasher;
    const auto streamed = (*blob)->Stream(0, [&](ByteSpan bytes) {
      hasher.Update(bytes);
      return Status();
    });
    ASSERT_TRUE(streamed.has_value()) << streamed.error().message;
    EXPECT_EQ(hasher.Finish(), manifest.layers[i].digest);
    const std::string unpacked = RunTool("gunzip -c < " + path() + "/blobs/sha256/" +
                                         manifest.layers[i].digest.hex() + " | sha256sum");
    EXPECT_EQ("sha256:" + unpacked.substr(0, 64), config->diff_ids[i].ToString());
  }
}

TEST_F(UmociLayoutTest, SeesATagThatUmociAddsAndOneThatItMoves) {
  const auto layout = OpenLayout(path());
  const auto one = layout->FetchTag("one", Soon());
  const auto two = layout->FetchTag("two", Soon());
  ASSERT_TRUE(one.has_value() && two.has_value());
  ExpectError(layout->FetchTag("stable", Soon()), Code::kNotFound,
              "has no tag 'stable'; it has one, two");
  RunTool(In() + "umoci tag --image l:one stable");
  EXPECT_EQ(layout->FetchTag("stable", Soon())->digest, one->digest);
  RunTool(In() + "umoci tag --image l:two stable");
  EXPECT_EQ(layout->FetchTag("stable", Soon())->digest, two->digest);
  RunTool(In() + "umoci rm --image l:stable");
  EXPECT_THAT(Tags(*layout), ElementsAre("one", "two"));
}

TEST_F(UmociLayoutTest, ReadsFullReferencesThatSkopeoWrites) {
  RunTool(In() +
          "skopeo copy -q oci:l:one oci:m:localhost:5000/team/app:1"
          " && skopeo copy -q oci:l:two oci:m:docker.io/library/app:2"
          " && skopeo copy -q oci:l:two oci:m:localhost:5000/team/app:2");
  const auto layout = OpenLayout(folder_->path() + "/m");
  EXPECT_THAT(Tags(*layout), ElementsAre("1", "2"));
  EXPECT_TRUE(layout->FetchTag("1", Soon()).has_value());
  EXPECT_TRUE(layout->FetchTag("localhost:5000/team/app:1", Soon()).has_value());
  const auto part = layout->Repository({"localhost:5000", "team/app"});
  EXPECT_THAT(Tags(*part), ElementsAre("1", "2"));
  EXPECT_THAT(Tags(*layout->Repository({"docker.io", "library/app"})), ElementsAre("2"));
  EXPECT_EQ(part->FetchTag("2", Soon())->bytes, RunTool(In() + "skopeo inspect --raw oci:l:two"));
  ExpectError(part->FetchTag("3", Soon()), Code::kNotFound, "has no tag '3'; it has 1, 2");
}

TEST_F(UmociLayoutTest, ReadsADockerSchema2ManifestByDigest) {
  RunTool(In() + "skopeo copy -q --format v2s2 oci:l:two dir:d && mkdir -p m/blobs/sha256");
  const std::string digest = RunTool(In() + "sha256sum d/manifest.json").substr(0, 64);
  RunTool(In() + "cp l/oci-layout m && cp d/manifest.json m/blobs/sha256/" + digest +
          " && echo '{\"schemaVersion\":2,\"manifests\":[]}' > m/index.json");
  const auto document =
      OpenLayout(folder_->path() + "/m")->FetchManifest(*Digest::Parse("sha256:" + digest), Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  const auto parsed = ParseManifestDocument(document->bytes, document->media_type, "d");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& manifest = std::get<ImageManifest>(*parsed);
  EXPECT_EQ(manifest.media_type, "application/vnd.docker.distribution.manifest.v2+json");
  for (const Descriptor& layer : manifest.layers)
    EXPECT_TRUE(CheckLayerMediaType(layer, "d").has_value()) << layer.media_type;
}

TEST(OciLayoutTest, AnEmptyLayoutHasNothing) {
  auto folder = TemporaryFolder::Create("lamina-empty");
  ASSERT_TRUE(folder.has_value());
  RunTool("umoci init --layout " + folder->path() + "/l");
  const auto layout = OpenLayout(folder->path() + "/l/");
  EXPECT_EQ(layout->origin(), "oci:" + folder->path() + "/l");
  EXPECT_THAT(Tags(*layout), IsEmpty());
  EXPECT_THAT(*layout->Entries(), IsEmpty());
  ExpectError(layout->FetchTag("latest", Soon()), Code::kNotFound, "has no tag 'latest'");
}

TEST(OciLayoutTest, RefusesFoldersThatAreNoLayout) {
  const HandLayout hand;
  ExpectError(OciLayout::Open(hand.path() + "/missing"), Code::kNotFound, "is not an OCI layout");
  ExpectError(OciLayout::Open(hand.path() + "/blobs"), Code::kNotFound, "is not an OCI layout");
  EXPECT_FALSE(OciLayout::Open("").has_value());
  WriteText(hand.path() + "/oci-layout", R"({"imageLayoutVersion":"2.0.0"})");
  ExpectError(OciLayout::Open(hand.path()), Code::kUnsupported, "'2.0.0'");
  WriteText(hand.path() + "/oci-layout", "not json");
  ExpectError(OciLayout::Open(hand.path()), Code::kInvalid, "oci-layout: it is not JSON");
  WriteText(hand.path() + "/oci-layout", std::string(5000, ' '));
  ExpectError(OciLayout::Open(hand.path()), Code::kLimit, "limit of 4096");
}

TEST(OciLayoutTest, RefusesABrokenIndex) {
  HandLayout hand;
  const std::string index = hand.path() + "/index.json";
  WriteText(index, R"({"schemaVersion":2,)");
  ExpectError(OciLayout::Open(hand.path()), Code::kInvalid, "index.json: it is not JSON");
  WriteText(index, R"({"layers":[],"config":)" +
                       hand.Add("{}", "application/vnd.oci.image.config.v1+json") + "}");
  ExpectError(OciLayout::Open(hand.path()), Code::kInvalid, "not an index");
  WriteText(index, std::string((8 << 20) + 1, ' '));
  ExpectError(OciLayout::Open(hand.path()), Code::kLimit, "more than the limit of 8388608");
  ASSERT_EQ(::unlink(index.c_str()), 0);
  ExpectError(OciLayout::Open(hand.path()), Code::kNotFound, "index.json");
}

TEST(OciLayoutTest, OpensRegularFilesOnly) {
  HandLayout hand;
  const std::string manifest = hand.Add(R"({"x":1})", kOciManifest, Ref("a"));
  hand.WriteIndex(manifest);
  const auto layout = OpenLayout(hand.path());
  const auto entries = layout->Entries();
  ASSERT_TRUE(entries.has_value());
  const Descriptor descriptor = entries->at(0).descriptor;
  const std::string blob = hand.BlobPath(descriptor.digest);
  ASSERT_TRUE(layout->OpenBlob(descriptor).has_value());

  ASSERT_EQ(::rename(blob.c_str(), (hand.path() + "/elsewhere").c_str()), 0);
  ASSERT_EQ(::symlink((hand.path() + "/elsewhere").c_str(), blob.c_str()), 0);
  ExpectError(layout->OpenBlob(descriptor), Code::kInvalid, "is a symbolic link");
  ExpectError(layout->FetchTag("a", Soon()), Code::kInvalid, "is a symbolic link");
  ASSERT_EQ(::unlink(blob.c_str()), 0);
  ASSERT_EQ(::mkfifo(blob.c_str(), 0600), 0);
  ExpectError(layout->OpenBlob(descriptor), Code::kInvalid, "is not a regular file");
  ASSERT_EQ(::unlink(blob.c_str()), 0);
  ASSERT_EQ(::mkdir(blob.c_str(), 0700), 0);
  ExpectError(layout->OpenBlob(descriptor), Code::kInvalid, "is not a regular file");
  const std::string index = hand.path() + "/index.json";
  ASSERT_EQ(::unlink(index.c_str()), 0);
  ASSERT_EQ(::symlink("elsewhere", index.c_str()), 0);
  ExpectError(layout->Entries(), Code::kInvalid, "is a symbolic link");
}

TEST(OciLayoutTest, NamesTheBlobThatIsMissing) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("{}", kOciManifest, Ref("a")));
  const auto layout = OpenLayout(hand.path());
  const Descriptor descriptor = layout->Entries()->at(0).descriptor;
  const std::string blob = hand.BlobPath(descriptor.digest);
  ASSERT_EQ(::unlink(blob.c_str()), 0);
  ExpectError(layout->FetchTag("a", Soon()), Code::kNotFound, blob);
  ExpectError(layout->OpenBlob(descriptor), Code::kNotFound, blob);
  ExpectError(layout->FetchManifest(descriptor.digest, Soon()), Code::kNotFound, blob);
  ExpectError(layout->FetchSmallBlob(descriptor, 100, Soon()), Code::kNotFound,
              "lacks the blob sha256:");
}

TEST(OciLayoutTest, ChecksSizeAndDigestOfWhatItReads) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("0123456789", kOciManifest, Ref("a")));
  const auto layout = OpenLayout(hand.path());
  const Descriptor descriptor = layout->Entries()->at(0).descriptor;
  EXPECT_EQ(*layout->FetchSmallBlob(descriptor, 10, Soon()), "0123456789");
  ExpectError(layout->FetchSmallBlob(descriptor, 9, Soon()), Code::kLimit,
              "more than the limit of 9");

  WriteText(hand.BlobPath(descriptor.digest), "0123456780");
  ExpectError(layout->FetchTag("a", Soon()), Code::kCorrupt, "its digest is");
  ExpectError(layout->FetchManifest(descriptor.digest, Soon()), Code::kCorrupt, "its digest is");
  ExpectError(layout->FetchSmallBlob(descriptor, 10, Soon()), Code::kCorrupt, "its digest is");
  WriteText(hand.BlobPath(descriptor.digest), "012345678");
  ExpectError(layout->FetchTag("a", Soon()), Code::kCorrupt, "9 bytes instead of 10");
  ExpectError(layout->OpenBlob(descriptor), Code::kCorrupt, "9 bytes instead of 10");
  WriteText(hand.BlobPath(descriptor.digest), std::string(5 << 20, 'x'));
  ExpectError(layout->FetchManifest(descriptor.digest, Soon()), Code::kLimit, "limit of 4194304");
}

TEST(OciLayoutTest, SeesAnIndexOfTheSameSizeWrittenAtOnce) {
  HandLayout hand;
  const std::string a = hand.Add("1", kOciManifest, Ref("a"));
  const std::string b = hand.Add("1", kOciManifest, Ref("b"));
  ASSERT_EQ(a.size(), b.size());
  hand.WriteIndex(a);
  const auto layout = OpenLayout(hand.path());
  for (int i = 0; i < 50; ++i) {
    hand.WriteIndex(b);
    EXPECT_THAT(Tags(*layout), ElementsAre("b"));
    hand.WriteIndex(a);
    EXPECT_THAT(Tags(*layout), ElementsAre("a"));
  }
}

TEST(OciLayoutTest, SeesAChangeOfAnIndexThatHasBeenStillForLong) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("1", kOciManifest, Ref("a")));
  const auto layout = OpenLayout(hand.path());
  EXPECT_THAT(Tags(*layout), ElementsAre("a"));
  // Past the time in which a file is read again in any case.
  std::this_thread::sleep_for(std::chrono::milliseconds(2200));
  EXPECT_THAT(Tags(*layout), ElementsAre("a"));
  EXPECT_THAT(Tags(*layout), ElementsAre("a"));
  hand.WriteIndex(hand.Add("1", kOciManifest, Ref("b")));
  EXPECT_THAT(Tags(*layout), ElementsAre("b"));
}

TEST(OciLayoutTest, ToleratesAnIndexThatIsBeingWritten) {
  HandLayout hand;
  const std::string entry = hand.Add("1", kOciManifest, Ref("a"));
  hand.WriteIndex(entry);
  const auto layout = OpenLayout(hand.path());
  WriteText(hand.path() + "/index.json", R"({"schemaVersion":2,"mani)");
  std::thread writer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    hand.WriteIndex(entry);
  });
  EXPECT_THAT(Tags(*layout), ElementsAre("a"));
  writer.join();
}

TEST(OciLayoutTest, AnIndexThatBreaksIsAnErrorUntilItIsWhole) {
  HandLayout hand;
  const std::string entry = hand.Add("1", kOciManifest, Ref("a"));
  hand.WriteIndex(entry);
  const auto layout = OpenLayout(hand.path());
  WriteText(hand.path() + "/index.json", "{");
  ExpectError(layout->ListTags(Soon()), Code::kInvalid, "not JSON");
  hand.WriteIndex(entry);
  EXPECT_THAT(Tags(*layout), ElementsAre("a"));
}

TEST(OciLayoutTest, AnAmbiguousNameIsAnErrorThatListsBoth) {
  HandLayout hand;
  const std::string one = hand.Add("1", kOciManifest, Ref("a"));
  const std::string two = hand.Add("2", kOciManifest, Ref("a"));
  const std::string other = hand.Add("3", kOciManifest, Ref("b"));
  hand.WriteIndex(one + "," + two + "," + other);
  const auto layout = OpenLayout(hand.path());
  for (const std::string content : {"1", "2"}) {
    const std::string digest = Digest::Sha256(AsBytes(content)).ToString();
    ExpectError(layout->Entries(), Code::kInvalid, digest);
    ExpectError(layout->FetchTag("a", Soon()), Code::kInvalid, digest);
  }
  EXPECT_TRUE(layout->FetchTag("b", Soon()).has_value());
  // Twice the same image is one.
  hand.WriteIndex(one + "," + one);
  EXPECT_EQ(layout->Entries()->size(), 2u);
  EXPECT_TRUE(layout->FetchTag("a", Soon()).has_value());
}

TEST(OciLayoutTest, ImageNamesTellEqualRefNamesApart) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("1", kOciManifest, Named("latest", "docker.io/library/one:latest")) +
                  "," +
                  hand.Add("2", kOciManifest, Named("latest", "docker.io/library/two:latest")));
  const auto layout = OpenLayout(hand.path());
  ASSERT_TRUE(layout->Entries().has_value());
  EXPECT_EQ(layout->Entries()->at(1).image_name, "docker.io/library/two:latest");
  EXPECT_EQ(layout->Repository({"docker.io", "library/one"})->FetchTag("latest", Soon())->bytes,
            "1");
  EXPECT_EQ(layout->Repository({"docker.io", "library/two"})->FetchTag("latest", Soon())->bytes,
            "2");
  ExpectError(layout->FetchTag("latest", Soon()), Code::kInvalid, "stands for both");
}

TEST(OciLayoutTest, APlainTagWinsOverAFullReference) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("1", kOciManifest, Ref("docker.io/library/app:v1")) + "," +
                  hand.Add("2", kOciManifest, Ref("v1")));
  EXPECT_EQ(OpenLayout(hand.path())->FetchTag("v1", Soon())->bytes, "2");
}

TEST(OciLayoutTest, RefNamesThatAreNeitherTagNorReferenceAreNoTags) {
  HandLayout hand;
  hand.WriteIndex(hand.Add("1", kOciManifest, Ref("../../etc/passwd")) + "," +
                  hand.Add("2", kOciManifest) + "," + hand.Add("3", kOciManifest, Ref("a b")) +
                  "," + hand.Add("4", kOciManifest, Ref("x\\u0000y")) + "," +
                  hand.Add("5", kOciManifest, Ref("ok")));
  const auto layout = OpenLayout(hand.path());
  EXPECT_THAT(Tags(*layout), ElementsAre("ok"));
  EXPECT_EQ(layout->Entries()->size(), 5u);
  ExpectError(layout->FetchTag("", Soon()), Code::kNotFound, "has no tag ''");
  EXPECT_EQ(TagOfRefName("localhost:5000/a/b"), "latest");
  EXPECT_EQ(TagOfRefName("a/b:1"), "1");
  EXPECT_EQ(TagOfRefName("1"), "1");
}

TEST(OciLayoutTest, GivesNestedIndexesAsDocuments) {
  HandLayout hand;
  const std::string inner = hand.Add(R"({"schemaVersion":2,"manifests":[]})", kOciIndex, Ref("a"));
  hand.WriteIndex(inner);
  const auto document = OpenLayout(hand.path())->FetchTag("a", Soon());
  ASSERT_TRUE(document.has_value());
  EXPECT_TRUE(IsIndexMediaType(document->media_type));
}

TEST(OciLayoutTest, ReadersAndAWriterDoNotDisturbEachOther) {
  HandLayout hand;
  const std::string a = hand.Add("1", kOciManifest, Ref("a"));
  hand.WriteIndex(a);
  const auto layout = OpenLayout(hand.path());
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&] {
      for (int n = 0; n < 100; ++n)
        if (const auto document = layout->FetchTag("a", Soon());
            !document || document->bytes != "1")
          ++wrong;
    });
  for (int n = 0; n < 50; ++n) {
    const auto written =
        WriteFileAtomically(hand.path() + "/index.json", AsBytes(R"({"manifests":[)" + a + "]}"));
    EXPECT_TRUE(written.has_value());
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

// A blob of three pieces and a bit, so that streaming has seams.
class LayoutBlobTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (size_t i = 0; content_.size() < (3u << 20) + 17; ++i) content_ += std::to_string(i * 7919);
    hand_.WriteIndex(hand_.Add(content_, kLayer));
    const auto layout = OpenLayout(hand_.path());
    const auto entries = layout->Entries();
    ASSERT_TRUE(entries.has_value());
    path_ = hand_.BlobPath(entries->at(0).descriptor.digest);
    auto blob = layout->OpenBlob(entries->at(0).descriptor);
    ASSERT_TRUE(blob.has_value()) << blob.error().message;
    blob_ = *blob;
  }
  Status ReadAt(uint64_t offset, size_t size, std::string* out) {
    out->resize(size);
    return blob_->ReadAt(offset, {reinterpret_cast<uint8_t*>(out->data()), size}, Soon());
  }
  Status Stream(uint64_t offset, std::string* out) {
    return blob_->Stream(offset, [out](ByteSpan bytes) {
      *out += AsText(bytes);
      return Status();
    });
  }

  HandLayout hand_;
  std::string content_;
  std::string path_;
  std::shared_ptr<BlobSource> blob_;
};

TEST_F(LayoutBlobTest, ReadsAnyRange) {
  EXPECT_EQ(blob_->size(), content_.size());
  EXPECT_EQ(blob_->origin(), "oci:" + hand_.path());
  std::string out;
  for (const auto& [offset, size] :
       std::vector<std::pair<uint64_t, size_t>>{{0, 1},
                                                {0, content_.size()},
                                                {1048575, 3},
                                                {content_.size() - 5, 5},
                                                {content_.size(), 0}}) {
    ASSERT_TRUE(ReadAt(offset, size, &out).has_value());
    EXPECT_EQ(out, content_.substr(offset, size));
  }
}

TEST_F(LayoutBlobTest, RefusesARangeBeyondTheEnd) {
  std::string out;
  EXPECT_FALSE(ReadAt(content_.size(), 1, &out).has_value());
  EXPECT_FALSE(ReadAt(~uint64_t{0}, 2, &out).has_value());
  EXPECT_FALSE(Stream(content_.size() + 1, &out).has_value());
}

TEST_F(LayoutBlobTest, StreamsFromAnyOffset) {
  for (const uint64_t offset :
       {uint64_t{0}, uint64_t{1}, uint64_t{1} << 20, uint64_t{content_.size()}}) {
    std::string out;
    ASSERT_TRUE(Stream(offset, &out).has_value());
    EXPECT_EQ(out, content_.substr(offset));
  }
}

TEST_F(LayoutBlobTest, TheErrorOfTheSinkEndsTheStream) {
  int calls = 0;
  const auto status = blob_->Stream(0, [&](ByteSpan) -> Status {
    ++calls;
    return Error{Code::kCancelled, "enough"};
  });
  ExpectError(status, Code::kCancelled, "enough");
  EXPECT_EQ(calls, 1);
}

TEST_F(LayoutBlobTest, ABlobThatChangesSizeIsAnError) {
  ASSERT_EQ(::truncate(path_.c_str(), 1000), 0);
  std::string out;
  EXPECT_FALSE(Stream(0, &out).has_value());
  EXPECT_FALSE(ReadAt(999, 2, &out).has_value());
  ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(content_.size() + 1)), 0);
  out.clear();
  ExpectError(Stream(0, &out), Code::kCorrupt, "instead of");
}

TEST_F(LayoutBlobTest, ABlobThatIsRemovedStaysReadable) {
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  std::string out;
  ASSERT_TRUE(Stream(0, &out).has_value());
  EXPECT_EQ(out, content_);
}

}  // namespace
}  // namespace lamina
