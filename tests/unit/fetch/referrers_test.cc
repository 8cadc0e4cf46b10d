// Referrers from a fake registry, a real one and layouts; the SOCI indexes among them.

#include "fetch/referrers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fetch/oci_layout.h"
#include "fetch/soci_index.h"
#include "tests/support/docker_registry.h"
#include "tests/unit/fetch/oci_tools.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";
constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
const std::string kType(kSociIndexV1);

Digest Named(char digit) { return *Digest::Parse("sha256:" + std::string(64, digit)); }

std::string Entry(const Digest& digest, const std::string& type) {
  return R"({"mediaType":")" + std::string(kManifestType) + R"(","digest":")" + digest.ToString() +
         R"(","size":7)" + (type.empty() ? "" : R"(,"artifactType":")" + type + "\"") + "}";
}

FakeResponse Index(const std::string& entries) {
  FakeResponse response = Bytes(R"({"schemaVersion":2,"mediaType":")" + std::string(kIndexType) +
                                R"(","manifests":[)" + entries + "]}");
  response.headers = {{"Content-Type", std::string(kIndexType)}};
  return response;
}

std::vector<std::string> DigestsOf(const Result<std::vector<Descriptor>>& found) {
  if (!found) return {found.error().message};
  std::vector<std::string> digests;
  for (const Descriptor& descriptor : *found) digests.push_back(descriptor.digest.ToString());
  return digests;
}

Result<std::vector<Descriptor>> Ask(FakeRegistry& fake) {
  return fake.repository()->FetchReferrers(Named('1'), kType, Soon());
}

TEST(ReferrersTest, TagsStandInForLists) {
  EXPECT_EQ(ReferrersTag(Named('a')), "sha256-" + std::string(64, 'a'));
  const auto long_one = *Digest::Parse("sha512:" + std::string(127, 'b') + "c");
  EXPECT_EQ(ReferrersTag(long_one), "sha512-" + std::string(64, 'b'));
  EXPECT_EQ(EncodeQuery("application/vnd.a-b_c~d.v1+json e\xff"),
            "application%2Fvnd.a-b_c~d.v1%2Bjson%20e%FF");
}

TEST(ReferrersTest, AllPagesAreReadAndFiltered) {
  FakeRegistry fake([&](const FakeRequest& request) {
    if (request.query() == "artifactType=application%2Fvnd.amazon.soci.index.v1%2Bjson") {
      FakeResponse page = Index(Entry(Named('2'), kType) + "," + Entry(Named('3'), "other/type") +
                                "," + Entry(Named('4'), ""));
      page.headers.emplace_back("Link", "</v2/team/app/referrers/next?page=2>; rel=\"next\"");
      return page;
    }
    return Index(Entry(Named('5'), kType) + "," + Entry(Named('2'), kType));
  });
  EXPECT_THAT(DigestsOf(Ask(fake)), ElementsAre(Named('2').ToString(), Named('5').ToString()));
  const auto requests = fake.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].path(), "/v2/team/app/referrers/" + Named('1').ToString());
  EXPECT_EQ(requests[0].Header("accept"), kIndexType);
}

// A registry that has applied the filter need not repeat the type; others are not believed.
TEST(ReferrersTest, FiltersThatTheRegistryAppliedAreRespected) {
  for (const char* filters : {"artifactType", "other, artifactType"}) {
    FakeRegistry fake([&](const FakeRequest&) {
      FakeResponse page = Index(Entry(Named('2'), "") + "," + Entry(Named('3'), "other/type"));
      page.headers.emplace_back("OCI-Filters-Applied", filters);
      return page;
    });
    EXPECT_THAT(DigestsOf(Ask(fake)), ElementsAre(Named('2').ToString())) << filters;
  }
}

TEST(ReferrersTest, RegistriesWithoutTheApiAreAskedForTheTag) {
  const std::string tag = "/v2/team/app/manifests/" + ReferrersTag(Named('1'));
  for (const int status : {404, 405, 400, 501}) {
    FakeRegistry fake([&](const FakeRequest& request) {
      if (request.path() != tag) return Failing(status, "UNSUPPORTED");
      return Index(Entry(Named('6'), kType) + "," + Entry(Named('7'), "other/type"));
    });
    EXPECT_THAT(DigestsOf(Ask(fake)), ElementsAre(Named('6').ToString())) << status;
    EXPECT_EQ(fake.server.CountOf(tag), 1);
  }
}

TEST(ReferrersTest, AnswersThatAreNoListsLeadToTheTag) {
  const std::string tag = "/v2/team/app/manifests/" + ReferrersTag(Named('1'));
  for (const char* body : {"<html>welcome</html>", "", "[]", "{}", R"({"manifests":7})"}) {
    FakeRegistry fake([&](const FakeRequest& request) {
      return request.path() == tag ? Index(Entry(Named('6'), kType)) : Bytes(body);
    });
    EXPECT_THAT(DigestsOf(Ask(fake)), ElementsAre(Named('6').ToString())) << body;
  }
}

TEST(ReferrersTest, NoneIsNoError) {
  FakeRegistry nothing([](const FakeRequest&) { return Failing(404, "MANIFEST_UNKNOWN"); });
  EXPECT_THAT(DigestsOf(Ask(nothing)), IsEmpty());
  EXPECT_EQ(nothing.server.requests().size(), 2u);
  FakeRegistry empty([](const FakeRequest&) { return Index(""); });
  EXPECT_THAT(DigestsOf(Ask(empty)), IsEmpty());
  EXPECT_EQ(empty.server.requests().size(), 1u);
  // An image may have that tag by chance.
  FakeRegistry image([](const FakeRequest& request) {
    if (request.path().find("/referrers/") != std::string::npos) return Failing(404, "UNSUPPORTED");
    return Bytes(R"({"schemaVersion":2,"config":)" + Entry(Named('8'), "") + R"(,"layers":[]})");
  });
  EXPECT_THAT(DigestsOf(Ask(image)), IsEmpty());
}

TEST(ReferrersTest, FailuresAreErrorsAndAskNothingMore) {
  for (const auto& [status, code] :
       {std::pair(401, Code::kDenied), {403, Code::kDenied}, {429, Code::kUnavailable}}) {
    RegistryOptions options = ShortTimeouts();
    FakeRegistry fake([&](const FakeRequest&) { return Failing(status, "X"); }, options);
    const auto found = fake.repository()->FetchReferrers(Named('1'), kType,
                                                         Deadline::After(std::chrono::seconds(1)));
    ASSERT_FALSE(found) << status;
    EXPECT_EQ(fake.server.CountOf("/v2/team/app/manifests/"), 0) << status;
  }
}

TEST(ReferrersTest, ListsAreBounded) {
  std::string entries = Entry(Named('2'), kType);
  for (int i = 0; i < 4'000; ++i) entries += "," + Entry(Named('2'), kType);
  std::atomic<int> pages = 0;
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse page = Index(entries);
    page.headers.emplace_back(
        "Link", "</v2/team/app/referrers/x?p=" + std::to_string(++pages) + ">; rel=\"next\"");
    return page;
  });
  const auto found = Ask(fake);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, Code::kLimit);
  EXPECT_THAT(found.error().message, HasSubstr("10000"));
  EXPECT_EQ(pages, 3);
}

// A SOCI index as a layout or a registry holds it.
std::string SociManifest(const std::string& kind, const Digest& subject,
                         const std::string& layers) {
  const std::string about = R"("subject":{"mediaType":")" + std::string(kManifestType) +
                            R"(","digest":")" + subject.ToString() + R"(","size":5},)";
  return R"({"schemaVersion":2,"mediaType":")" + std::string(kManifestType) + "\"," + about +
         R"("config":{"mediaType":")" + kind +
         R"(","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")" +
         R"(,"size":2},"layers":[)" + layers + "]}";
}

std::string ZtocEntry(const Digest& digest, const std::string& layer) {
  return R"({"mediaType":"application/octet-stream","digest":")" + digest.ToString() +
         R"(","size":100,"annotations":{"com.amazon.soci.image-layer-digest":")" + layer + "\"}}";
}

TEST(ReferrersTest, LayoutsListWhatIsInThem) {
  HandLayout hand;
  const std::string right = SociManifest(kType, Named('1'), "");
  const std::string other_subject = SociManifest(kType, Named('9'), "");
  const std::string other_type = SociManifest("other/type", Named('1'), "");
  const std::string listed = SociManifest(kType, Named('1'), ZtocEntry(Named('4'), "x"));
  const std::string list = R"({"schemaVersion":2,"manifests":[)" +
                           hand.Add(listed, kManifestType, R"(,"artifactType":")" + kType + "\"") +
                           "]}";
  const std::string name =
      R"(,"annotations":{"org.opencontainers.image.ref.name":")" + ReferrersTag(Named('1')) + "\"}";
  hand.WriteIndex(hand.Add(right, kManifestType) + "," +
                  hand.Add(other_subject, kManifestType, R"(,"artifactType":")" + kType + "\"") +
                  "," + hand.Add(other_type, kManifestType) + "," +
                  hand.Add(list, kIndexType, name));
  const auto layout = *OciLayout::Open(hand.path());
  const std::vector<std::string> expected = {Digest::Sha256(AsBytes(right)).ToString(),
                                             Digest::Sha256(AsBytes(listed)).ToString()};
  EXPECT_EQ(DigestsOf(layout->FetchReferrers(Named('1'), kType, Soon())), expected);
  EXPECT_THAT(DigestsOf(layout->FetchReferrers(Named('2'), kType, Soon())), IsEmpty());
  const auto part = layout->Repository(Reference::Parse("docker.io/library/x")->repository);
  EXPECT_EQ(DigestsOf(part->FetchReferrers(Named('1'), kType, Soon())), expected);
}

TEST(ReferrersTest, ARealRegistryWithoutTheApiAnswersByTheTag) {
  HandLayout hand;
  const std::string manifest = SociManifest(kType, Named('1'), "");
  hand.Add("{}", "");
  const std::string list =
      R"({"schemaVersion":2,"mediaType":")" + std::string(kIndexType) + R"(","manifests":[)" +
      hand.Add(manifest, kManifestType, R"(,"artifactType":")" + kType + "\"") + "]}";
  const std::string tag = ReferrersTag(Named('1'));
  hand.WriteIndex(hand.Add(
      list, kIndexType, R"(,"annotations":{"org.opencontainers.image.ref.name":")" + tag + "\"}"));
  auto started = DockerRegistry::Start({});
  ASSERT_TRUE(started) << started.error().message;
  const std::unique_ptr<DockerRegistry> server = *std::move(started);
  const std::string source = "oci:" + hand.path() + ":" + tag;
  RunTool("skopeo copy --insecure-policy --all --dest-tls-verify=false '" + source + "' docker://" +
          server->host() + "/team/app:" + tag);
  const auto registry = Registry::Create(server->host(), {});
  const auto repository = registry->Repository("team/app");
  EXPECT_THAT(DigestsOf(repository->FetchReferrers(Named('1'), kType, Soon())),
              ElementsAre(Digest::Sha256(AsBytes(manifest)).ToString()));
  EXPECT_THAT(DigestsOf(repository->FetchReferrers(Named('2'), kType, Soon())), IsEmpty());
  EXPECT_THAT(DigestsOf(registry->Repository("no/such")->FetchReferrers(Named('1'), kType, Soon())),
              IsEmpty());
}

TEST(SociIndexTest, TellsTheLayersOfItsTablesOfContents) {
  const std::string bytes = SociManifest(kType, Named('1'),
                                         ZtocEntry(Named('a'), Named('2').ToString()) + "," +
                                             ZtocEntry(Named('b'), "no digest") + "," +
                                             ZtocEntry(Named('c'), Named('3').ToString()) + "," +
                                             ZtocEntry(Named('d'), Named('2').ToString()));
  const auto index = ParseSociIndex(bytes, "test");
  ASSERT_TRUE(index) << index.error().message;
  EXPECT_EQ(index->kind, kSociIndexV1);
  EXPECT_EQ(index->subject, Named('1'));
  ASSERT_EQ(index->ztocs.size(), 2u);
  EXPECT_EQ(index->ztocs.at(Named('2')).digest, Named('a'));
  EXPECT_EQ(index->ztocs.at(Named('3')).digest, Named('c'));
  EXPECT_EQ(ParseSociIndex(SociManifest(std::string(kSociIndexV2), Named('1'), ""), "test")->kind,
            kSociIndexV2);
}

TEST(SociIndexTest, WhatIsNoIndexIsRefused) {
  for (const std::string& bytes :
       {SociManifest("application/vnd.oci.image.config.v1+json", Named('1'), ""), std::string("{}"),
        std::string(), std::string(R"({"schemaVersion":2,"manifests":[]})")}) {
    const auto index = ParseSociIndex(bytes, "test");
    ASSERT_FALSE(index) << bytes;
    EXPECT_EQ(index.error().code, Code::kInvalid);
    EXPECT_THAT(index.error().message, HasSubstr("test"));
  }
}

// What stands where the subject should is no fault of an image that has it.
TEST(SociIndexTest, OddSubjectsLeaveImagesReadable) {
  for (const char* subject : {"7", "null", "{}", R"({"mediaType":"a","digest":"b","size":1})"}) {
    const std::string bytes = R"({"schemaVersion":2,"subject":)" + std::string(subject) +
                              R"(,"artifactType":5,"config":)" + Entry(Named('8'), "") +
                              R"(,"layers":[]})";
    const auto document = ParseManifestDocument(bytes, "", "test");
    ASSERT_TRUE(document) << document.error().message;
    EXPECT_FALSE(std::get<ImageManifest>(*document).subject.has_value());
  }
}

TEST(SociIndexTest, ManifestsNameTheirIndex) {
  ImageManifest manifest{.media_type = "",
                         .config = DescriptorOf(""),
                         .layers = {},
                         .annotations = {},
                         .subject = {},
                         .artifact_type = ""};
  EXPECT_FALSE(SociIndexNamedBy(manifest).has_value());
  manifest.annotations["com.amazon.soci.index-digest"] = "no digest";
  EXPECT_FALSE(SociIndexNamedBy(manifest).has_value());
  manifest.annotations["com.amazon.soci.index-digest"] = Named('7').ToString();
  EXPECT_EQ(SociIndexNamedBy(manifest), Named('7'));
}

}  // namespace
}  // namespace lamina
