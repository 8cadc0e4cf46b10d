// What aliases lead to, as text and as links; the document that moves them; following them.

#include <gmock/gmock.h>

#include "fs/alias_document.h"
#include "fs/alias_target.h"
#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char* const kDigest =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

AliasRow In(const std::string& repository) {
  return {.repository = repository,
          .name = "x",
          .target_repository = {},
          .target_tag = {},
          .target_digest = std::nullopt,
          .platform = {}};
}

std::string AsTarget(const std::string& repository, const std::string& text) {
  AliasRow row = In(repository);
  const Status set = SetAliasTarget(text, &row);
  return set ? AliasTargetText(row, true) : "error: " + set.error().message;
}

std::string AsLink(const std::string& repository, const std::string& text) {
  AliasRow row = In(repository);
  const Status set = SetAliasLink(text, &row);
  return set ? AliasTargetText(row, true) : "error: " + set.error().message;
}

TEST(AliasTargetTest, ReadsWhatACommandSays) {
  const std::string here = "localhost:5000/team/app";
  const std::string digest = kDigest;
  EXPECT_EQ(AsTarget(here, "1.27"), here + ":1.27");
  EXPECT_EQ(AsTarget(here, "Rootfs"), here + ":Rootfs");
  EXPECT_EQ(AsTarget(here, digest), here + "@" + digest);
  EXPECT_EQ(AsTarget(here, Digest::Parse(digest)->PathName()), here + "@" + digest);
  EXPECT_EQ(AsTarget(here, "nginx:1.27"), "docker.io/library/nginx:1.27");
  EXPECT_EQ(AsTarget(here, "team/nginx"), "docker.io/team/nginx:latest");
  EXPECT_EQ(AsTarget(here, "nginx:1.27@" + digest), "docker.io/library/nginx@" + digest);
  EXPECT_THAT(AsTarget(here, "sha256:12"), HasSubstr("is none"));
  for (const char* bad : {"", "localhost/UPPER", "no target", "../x", "http://x/y"})
    EXPECT_THAT(AsTarget(here, bad), HasSubstr("error: ")) << bad;
}

TEST(AliasTargetTest, ReadsWhatALinkSays) {
  const std::string here = "docker.io/library/debian";
  const std::string digest = kDigest;
  EXPECT_EQ(AsLink(here, "12"), here + ":12");
  EXPECT_EQ(AsLink(here, "./12"), here + ":12");
  EXPECT_EQ(AsLink(here, digest), here + "@" + digest);
  EXPECT_EQ(AsLink(here, "../nginx/1"), "docker.io/library/nginx:1");
  EXPECT_EQ(AsLink(here, "../nginx:1"), "docker.io/library/nginx:1");
  EXPECT_EQ(AsLink(here, "../nginx@" + digest), "docker.io/library/nginx@" + digest);
  EXPECT_EQ(AsLink(here, "deeper/1"), here + "/deeper:1");
  for (const char* registry : {"localhost_5000_", "localhost:5000"})
    EXPECT_EQ(AsLink(here, std::string("../../../") + registry + "/a/b/1"), "localhost:5000/a/b:1");
  EXPECT_EQ(AsLink(here, "../../../___1__5000_/a/1"), "[::1]:5000/a:1");
  for (const char* bad : {"", "/mnt/images/docker.io/library/debian/12", "..", "../..", "../../..",
                          "../../../..", "../../../../x/y/z", "../../single", "12/rootfs/etc",
                          "no target", "UPPER/x", "../../../.lamina/log"})
    EXPECT_THAT(AsLink(here, bad), HasSubstr("error: ")) << bad;
}

TEST(AliasTargetTest, ALinkReadsBackAsTheSameTarget) {
  const std::vector<std::string> repositories = {"docker.io/library/debian",
                                                 "docker.io/library/x",
                                                 "docker.io/team/x/y",
                                                 "[::1]:5000/a",
                                                 "localhost/app",
                                                 "localhost/app/deeper"};
  for (const std::string& from : repositories) {
    for (const std::string& to : repositories) {
      const std::string link = AliasLinkText(from, to, "v1");
      EXPECT_EQ(AsLink(from, link), to + ":v1") << from << " " << link;
      EXPECT_EQ(link.find(':'), std::string::npos) << link;
    }
  }
  EXPECT_EQ(AliasLinkText("docker.io/library/debian", "docker.io/library/debian", "v1"), "v1");
  EXPECT_EQ(AliasLinkText("docker.io/library/debian", "docker.io/library/nginx", "v1"),
            "../nginx/v1");
}

TEST(AliasDocumentTest, ReadsBackWhatItWrites) {
  AliasDocument document;
  AliasRow tag = In("docker.io/library/debian");
  ASSERT_TRUE(SetAliasTarget("12", &tag));
  AliasRow pin = In("localhost/app");
  pin.platform = "linux/arm/v7";
  ASSERT_TRUE(SetAliasTarget(std::string("nginx@") + kDigest, &pin));
  document.aliases = {tag, pin};
  document.tags = {{"docker.io/library/debian", "12", *Digest::Parse(kDigest)}};
  const auto again = AliasDocument::Parse(document.ToString());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->aliases, document.aliases);
  EXPECT_EQ(again->tags, document.tags);
  EXPECT_EQ(again->ToString(), document.ToString());
}

TEST(AliasDocumentTest, RefusesWhatItDoesNotKnow) {
  const auto parse = [](const std::string& text) {
    const auto document = AliasDocument::Parse(text);
    return document ? "ok" : document.error().message;
  };
  EXPECT_EQ(parse(R"({"version":1,"repositories":{}})"), "ok");
  for (const char* bad :
       {"", "[]", "{}", R"({"version":1})", R"({"version":"1","repositories":{}})",
        R"({"version":2,"repositories":{}})", R"({"version":1,"repositories":[]})",
        R"({"version":1,"repositories":{},"more":1})",
        R"({"version":1,"repositories":{"localhost/a":1}})",
        R"({"version":1,"repositories":{"localhost/a":{"other":{}}}})",
        R"({"version":1,"repositories":{"localhost/a":{"aliases":[]}}})",
        R"({"version":1,"repositories":{"localhost/a":{"aliases":{"x":{}}}}})",
        R"({"version":1,"repositories":{"localhost/a":{"aliases":{"x":{"target":1}}}}})",
        R"({"version":1,"repositories":{"localhost/a":{"aliases":{"x":{"target":"a","b":1}}}}})",
        R"({"version":1,"repositories":{"localhost/a":{"tags":{"x":"y"}}}})",
        R"({"version":1,"repositories":{"localhost/a":{"tags":{"x":"y","x":"y"}}}})",
        R"({"version":1,"repositories":{"a":{"aliases":{}}}})"})
    EXPECT_NE(parse(bad), "ok") << bad;
}

class AliasTest : public FsFixture {
 protected:
  Status Set(const std::string& name, const std::string& target) {
    AliasRow row = In(Repository());
    row.name = name;
    RETURN_IF_ERROR(SetAliasTarget(target, &row));
    return catalog_->SetAliases({row});
  }
  std::vector<std::string> Known() {
    std::vector<std::string> names;
    for (const AliasRow& alias : catalog_->Aliases("")) names.push_back(alias.name);
    return names;
  }
};

TEST_F(AliasTest, IsKnownInMemoryOnceItsTagIs) {
  ASSERT_TRUE(Set("stable", "base"));
  EXPECT_FALSE(catalog_->KnownTag(Repository(), "stable").has_value());
  EXPECT_EQ(catalog_->ResolveTag(Repository(), "stable")->digest, base_);
  const auto known = catalog_->KnownTag(Repository(), "stable");
  ASSERT_TRUE(known && *known);
  EXPECT_EQ((*known)->digest, base_);
  EXPECT_EQ((*known)->alias_of, Repository() + ":base");
  EXPECT_THAT(catalog_->AliasesTo(Repository(), base_), ElementsAre(Repository() + ":stable"));
}

TEST_F(AliasTest, APinNeedsNoAskingAndIsMarked) {
  ASSERT_TRUE(Set("pin", base_.ToString()));
  const auto known = catalog_->KnownTag(Repository(), "pin");
  ASSERT_TRUE(known && *known);
  EXPECT_EQ((*known)->digest, base_);
  ASSERT_TRUE(Set("other", "base"));
  const auto pinned = store_->PinnedImages();
  ASSERT_TRUE(pinned);
  ASSERT_EQ(pinned->size(), 1u);
  EXPECT_EQ(pinned->front().repository, Repository());
  EXPECT_EQ(pinned->front().digest, base_);
}

TEST_F(AliasTest, ManyAreSetTogetherOrNotAtAll) {
  AliasRow good = In(Repository());
  ASSERT_TRUE(SetAliasTarget("base", &good));
  AliasRow circle = good;
  circle.name = circle.target_tag = "circle";
  EXPECT_EQ(catalog_->SetAliases({good, circle}).error().code, Code::kLimit);
  AliasRow bad = good;
  bad.name = "no name";
  EXPECT_EQ(catalog_->SetAliases({good, bad}).error().code, Code::kInvalid);
  EXPECT_THAT(Known(), ElementsAre());
  Restart();
  EXPECT_THAT(Known(), ElementsAre());
  ASSERT_TRUE(catalog_->SetAliases({good}));
  EXPECT_THAT(Known(), ElementsAre("x"));
}

TEST_F(AliasTest, ARenamedOneTakesThePlaceOfAnother) {
  ASSERT_TRUE(Set("a", "base"));
  ASSERT_TRUE(Set("b", "multi"));
  ASSERT_TRUE(catalog_->RenameAlias(Repository(), "a", "b"));
  EXPECT_THAT(Known(), ElementsAre("b"));
  EXPECT_EQ(catalog_->ResolveTag(Repository(), "b")->digest, base_);
  ASSERT_TRUE(Set("c", "b"));
  EXPECT_EQ(catalog_->RenameAlias(Repository(), "b", "base").error().code, Code::kLimit);
  EXPECT_EQ(catalog_->RenameAlias(Repository(), "a", "z").error().code, Code::kNotFound);
  EXPECT_EQ(catalog_->RemoveAlias(Repository(), "a").error().code, Code::kNotFound);
  Restart();
  EXPECT_THAT(Known(), ElementsAre("b", "c"));
}

}  // namespace
}  // namespace lamina
