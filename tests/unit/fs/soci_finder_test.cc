// Which SOCI index counts, and how often anybody is asked.

#include "fs/soci_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace lamina {
namespace {

using ::testing::HasSubstr;

const std::string kManifestType = "application/vnd.oci.image.manifest.v1+json";
const std::string kLayerType = "application/vnd.oci.image.layer.v1.tar+gzip";

Digest Named(char digit) { return *Digest::Parse("sha256:" + std::string(64, digit)); }

Descriptor Of(const Digest& digest, const std::string& type = kLayerType, uint64_t size = 100) {
  return {.media_type = type,
          .digest = digest,
          .size = size,
          .annotations = {},
          .platform = {},
          .artifact_type = ""};
}

// A repository in memory.
class FakeSource : public RepositorySource {
 public:
  explicit FakeSource(std::string origin) : origin_(std::move(origin)) {}

  // A SOCI index whose zTOC of each layer has the digest of the layer's digest's text.
  Digest AddIndex(const std::string& kind, const std::vector<Digest>& layers, const Digest& subject,
                  bool referring) {
    std::string entries;
    for (const Digest& layer : layers)
      entries += std::string(entries.empty() ? "" : ",") +
                 R"({"mediaType":"application/octet-stream","digest":")" +
                 ZtocOf(layer).ToString() +
                 R"(","size":71,"annotations":{"com.amazon.soci.image-layer-digest":")" +
                 layer.ToString() + "\"}}";
    const std::string bytes = R"({"schemaVersion":2,"subject":{"mediaType":")" + kManifestType +
                              R"(","digest":")" + subject.ToString() +
                              R"(","size":5},"config":{"mediaType":")" + kind + R"(","digest":")" +
                              Named('4').ToString() + R"(","size":2},"layers":[)" + entries + "]}";
    const Digest digest = Digest::Sha256(AsBytes(bytes));
    manifests_[digest] = bytes;
    if (referring) referrers_.push_back(Of(digest, kManifestType));
    return digest;
  }
  static Digest ZtocOf(const Digest& layer) { return Digest::Sha256(AsBytes(layer.ToString())); }
  void Refer(const Digest& digest) { referrers_.push_back(Of(digest, kManifestType)); }
  void Fail(Code code) { fails_ = code; }
  void Mend() { fails_.reset(); }
  int referrers_asked() const { return referrers_asked_; }
  int manifests_asked() const { return manifests_asked_; }
  std::atomic<int> slow_ms{0};

  Result<Document> FetchTag(const std::string&, const Deadline&) override { return Missing(); }
  Result<Document> FetchManifest(const Digest& digest, const Deadline&) override {
    ++manifests_asked_;
    if (fails_) return Error{*fails_, "it fails"};
    const auto found = manifests_.find(digest);
    if (found == manifests_.end()) return Missing();
    return Document{digest, kManifestType, found->second};
  }
  Result<std::vector<Descriptor>> FetchReferrers(const Digest&, const std::string& type,
                                                 const Deadline&) override {
    ++referrers_asked_;
    EXPECT_EQ(type, kSociIndexV1);
    std::this_thread::sleep_for(std::chrono::milliseconds(slow_ms));
    if (fails_) return Error{*fails_, "it fails"};
    return referrers_;
  }
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline&) override {
    if (fails_) return Error{*fails_, "it fails"};
    if (descriptor.size > limit) return Error{Code::kLimit, "too large"};
    return "ztoc of " + origin_;
  }
  bool MayHold(const Digest& digest) override {
    return origin_ != "oci:local" || manifests_.contains(digest);
  }
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor&) override { return Missing(); }
  Result<std::vector<std::string>> ListTags(const Deadline&) override { return Missing(); }
  std::string origin() const override { return origin_; }
  std::string pool_key() const override { return origin_; }

 private:
  static Error Missing() { return {Code::kNotFound, "not here"}; }

  const std::string origin_;
  std::map<Digest, std::string> manifests_;
  std::vector<Descriptor> referrers_;
  std::optional<Code> fails_;
  std::atomic<int> referrers_asked_{0};
  std::atomic<int> manifests_asked_{0};
};

class SociFinderTest : public ::testing::Test {
 protected:
  ImageManifest Manifest() const {
    ImageManifest manifest{.media_type = kManifestType,
                           .config = Of(Named('c'), ""),
                           .layers = {Of(small_, kLayerType, 10), Of(large_, kLayerType, 1000),
                                      Of(zstd_, "application/vnd.oci.image.layer.v1.tar+zstd")},
                           .annotations = {},
                           .subject = {},
                           .artifact_type = ""};
    if (named_) manifest.annotations["com.amazon.soci.index-digest"] = named_->ToString();
    return manifest;
  }
  std::unique_ptr<SociFinder> Finder() const {
    return std::make_unique<SociFinder>("image", image_, Manifest(),
                                        std::vector<std::shared_ptr<RepositorySource>>{one_, two_});
  }
  std::string OriginOf(SociFinder& finder, const Digest& layer) const {
    const auto found = finder.ZtocOf(Of(layer), Soon());
    if (!found) return "none";
    EXPECT_EQ(found->ztoc.digest, FakeSource::ZtocOf(layer));
    return found->origin;
  }
  static Deadline Soon() { return Deadline::After(std::chrono::seconds(10)); }

  const Digest image_ = Named('1');
  const Digest small_ = Named('2');
  const Digest large_ = Named('3');
  const Digest zstd_ = Named('5');
  const std::string v1_{kSociIndexV1};
  const std::string v2_{kSociIndexV2};
  std::optional<Digest> named_;
  const std::shared_ptr<FakeSource> one_ = std::make_shared<FakeSource>("https://one");
  const std::shared_ptr<FakeSource> two_ = std::make_shared<FakeSource>("https://two");
};

TEST_F(SociFinderTest, TheIndexThatTheManifestNamesWins) {
  named_ = one_->AddIndex(v2_, {large_}, Named('9'), false);
  one_->AddIndex(v1_, {small_, large_}, image_, true);
  const auto finder = Finder();
  EXPECT_EQ(OriginOf(*finder, large_),
            "SOCI index " + named_->ToString() + " named by the manifest");
  // It has none of the other layer, and that is an answer.
  EXPECT_EQ(OriginOf(*finder, small_), "none");
  EXPECT_EQ(one_->referrers_asked() + two_->referrers_asked(), 0);
  EXPECT_EQ(one_->manifests_asked(), 1);
}

TEST_F(SociFinderTest, ANamedIndexThatIsNotThereLeavesTheReferrers) {
  named_ = Named('7');
  const Digest index = two_->AddIndex(v1_, {large_}, image_, true);
  const auto finder = Finder();
  EXPECT_EQ(OriginOf(*finder, large_),
            "SOCI index " + index.ToString() + " among the referrers in https://two");
}

TEST_F(SociFinderTest, ReferrersAreAskedOnceForAnImage) {
  one_->AddIndex(v1_, {small_}, image_, true);
  one_->slow_ms = 100;
  const auto finder = Finder();
  std::vector<std::thread> askers;
  for (int i = 0; i < 8; ++i)
    askers.emplace_back([&] { EXPECT_NE(OriginOf(*finder, small_), "none"); });
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(OriginOf(*finder, large_), "none");
  EXPECT_EQ(one_->referrers_asked(), 1);
  EXPECT_EQ(two_->referrers_asked(), 0);
}

TEST_F(SociFinderTest, NoneIsRemembered) {
  const auto finder = Finder();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(OriginOf(*finder, large_), "none");
  EXPECT_EQ(one_->referrers_asked(), 1);
  EXPECT_EQ(two_->referrers_asked(), 1);
}

TEST_F(SociFinderTest, FailuresCountAsNoneForAWhile) {
  one_->Fail(Code::kUnavailable);
  one_->AddIndex(v1_, {large_}, image_, true);
  const auto finder = Finder();
  EXPECT_EQ(OriginOf(*finder, large_), "none");
  one_->Mend();
  EXPECT_EQ(OriginOf(*finder, large_), "none");
  EXPECT_EQ(one_->referrers_asked(), 1);
  const auto later = Finder();
  EXPECT_NE(OriginOf(*later, large_), "none");
}

TEST_F(SociFinderTest, NobodyIsAskedForZstdLayers) {
  const auto finder = Finder();
  EXPECT_FALSE(
      finder->ZtocOf(Of(zstd_, "application/vnd.oci.image.layer.v1.tar+zstd"), Soon()).has_value());
  EXPECT_FALSE(
      finder->ZtocOf(Of(zstd_, "application/vnd.docker.image.rootfs.diff.tar.zstd"), Soon())
          .has_value());
  EXPECT_EQ(one_->referrers_asked(), 0);
}

TEST_F(SociFinderTest, OfSeveralTheOneWithTheMostBytesCounts) {
  one_->AddIndex(v1_, {small_}, image_, true);
  const Digest better = one_->AddIndex(v1_, {large_}, image_, true);
  one_->AddIndex(v1_, {small_, large_}, Named('9'), true);  // about another image
  one_->AddIndex(v2_, {small_, large_}, image_, true);      // of a kind that is not found so
  one_->Refer(Named('8'));                                  // not there
  const auto finder = Finder();
  EXPECT_THAT(OriginOf(*finder, large_), HasSubstr(better.ToString()));
  EXPECT_EQ(OriginOf(*finder, small_), "none");
}

TEST_F(SociFinderTest, OfEqualOnesTheFirstByDigestCounts) {
  const Digest other = Named('6');
  const Digest first = one_->AddIndex(v1_, {large_, other}, image_, true);
  const Digest second = one_->AddIndex(v1_, {other, large_}, image_, true);
  const auto finder = Finder();
  EXPECT_THAT(OriginOf(*finder, large_), HasSubstr(std::min(first, second).ToString()));
}

TEST_F(SociFinderTest, FewOfManyAreRead) {
  for (int i = 0; i < 100; ++i) one_->Refer(Digest::Sha256(AsBytes("index " + std::to_string(i))));
  const auto finder = Finder();
  EXPECT_EQ(OriginOf(*finder, large_), "none");
  EXPECT_EQ(one_->manifests_asked(), 8);
}

TEST_F(SociFinderTest, ZtocsComeFromWhereTheIndexIsOrFromElsewhere) {
  two_->AddIndex(v1_, {large_}, image_, true);
  const auto finder = Finder();
  const auto found = finder->ZtocOf(Of(large_), Soon());
  ASSERT_TRUE(found);
  EXPECT_EQ(*finder->Fetch(*found, 1000, Soon()), "ztoc of https://two");
  two_->Fail(Code::kUnavailable);
  EXPECT_EQ(*finder->Fetch(*found, 1000, Soon()), "ztoc of https://one");
  one_->Fail(Code::kUnavailable);
  EXPECT_EQ(finder->Fetch(*found, 1000, Soon()).error().code, Code::kUnavailable);
  two_->Mend();
  EXPECT_EQ(finder->Fetch(*found, 70, Soon()).error().code, Code::kLimit);
}

}  // namespace
}  // namespace lamina
