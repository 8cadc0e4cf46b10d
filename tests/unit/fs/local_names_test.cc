#include "fs/local_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "fetch/oci_layout.h"
#include "fs/source_spec.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Digest DigestOf(const std::string& text) { return Digest::Sha256(AsBytes(text)); }

LocalImage ImageOf(const std::string& content, std::vector<std::string> names) {
  return {.names = std::move(names),
          .descriptor = Descriptor{"", DigestOf(content), 1, {}, {}, ""},
          .image_id = DigestOf("id of " + content)};
}

NameTable TableOf(LocalImages images, const std::string& selected = "",
                  const std::string& as_name = "", const std::string& kind = "docker-archive",
                  const std::string& location = "/srv/My App.tar.gz") {
  const SourceRow row{.kind = kind, .location = location, .selected = selected, .as_name = as_name};
  return NamesOf(row, OciLayout::At("/nowhere"),
                 std::make_shared<const LocalImages>(std::move(images)));
}

std::vector<std::string> Texts(const NameTable& table) {
  std::vector<std::string> texts;
  for (const LocalName& name : table.names) texts.push_back(name.repository + ":" + name.tag);
  return texts;
}

TEST(LocalNames, ImagesAppearUnderTheirNamesAndNamelessOnesBelowLocalhost) {
  const auto table = TableOf({ImageOf("1", {"docker.io/library/app:1", "quay.io/a/b"}),
                              ImageOf("2", {}), ImageOf("3", {"v3"})});
  EXPECT_THAT(Texts(table),
              ElementsAre("docker.io/library/app:1", "localhost/my-app:", "localhost/my-app:@1",
                          "localhost/my-app:@2", "localhost/my-app:v3", "quay.io/a/b:latest"));
  EXPECT_EQ(table.Find("localhost/my-app", "v3")->digest, DigestOf("3"));
  EXPECT_EQ(table.Find("localhost/my-app", "v4"), nullptr);
  EXPECT_EQ(table.Find("quay.io/a/b", "latest")->registry_name, (RepositoryName{"quay.io", "a/b"}));
  EXPECT_EQ(table.by_image_id.at(DigestOf("id of 2")), DigestOf("2"));
}

TEST(LocalNames, AnAsNameTakesAllAndKeepsTags) {
  const LocalImages images{ImageOf("1", {"docker.io/library/app:1"}), ImageOf("2", {"v2"})};
  EXPECT_THAT(Texts(TableOf(images, "", "team/x")),
              ElementsAre("localhost/team/x:1", "localhost/team/x:@0", "localhost/team/x:@1",
                          "localhost/team/x:v2"));
  EXPECT_THAT(Texts(TableOf(images, "", "host:5000/x")),
              ElementsAre("host:5000/x:1", "host:5000/x:@0", "host:5000/x:@1", "host:5000/x:v2"));
  const auto wrong = TableOf(images, "", "x:tag");
  EXPECT_THAT(wrong.names, IsEmpty());
  EXPECT_THAT(wrong.problems.front().message, HasSubstr("tags come from the source"));
}

TEST(LocalNames, AReferenceChoosesByTextThenByMeaningThenByTag) {
  const LocalImages images{ImageOf("1", {"docker.io/library/v1:latest", "docker.io/library/x:v1"}),
                           ImageOf("2", {"v1"})};
  EXPECT_THAT(Texts(TableOf(images, "v1")),
              ElementsAre("localhost/my-app:@1", "localhost/my-app:v1"));
  EXPECT_THAT(Texts(TableOf({images[0]}, "v1")), ElementsAre("docker.io/library/v1:latest"));
  EXPECT_THAT(Texts(TableOf({images[0]}, "x:v1")), ElementsAre("docker.io/library/x:v1"));
  EXPECT_THAT(Texts(TableOf({ImageOf("3", {"quay.io/a/b:v7"})}, "v7")),
              ElementsAre("quay.io/a/b:v7"));
  EXPECT_THAT(Texts(TableOf(images, "v9")), IsEmpty());
}

TEST(LocalNames, ANumberOrADigestChoosesOneImageWithAllItsNames) {
  const LocalImages images{ImageOf("1", {"a:1", "b:2"}), ImageOf("2", {})};
  const std::vector<std::string> first{"docker.io/library/a:1", "docker.io/library/b:2"};
  EXPECT_EQ(Texts(TableOf(images, "@0")), first);
  EXPECT_EQ(Texts(TableOf(images, "@" + DigestOf("1").ToString())), first);
  EXPECT_EQ(Texts(TableOf(images, DigestOf("id of 1").ToString())), first);
  EXPECT_THAT(Texts(TableOf(images, "@1")),
              ElementsAre("localhost/my-app:", "localhost/my-app:@1"));
  EXPECT_THAT(Texts(TableOf(images, "@2")), IsEmpty());
}

TEST(LocalNames, ANameForTwoImagesIsBrokenAndListsBoth) {
  const auto table = TableOf({ImageOf("1", {"same"}), ImageOf("2", {"same"}),
                              ImageOf("3", {"other"}), ImageOf("3", {"other"})});
  EXPECT_EQ(table.Find("localhost/my-app", "same"), nullptr);
  ASSERT_EQ(table.problems.size(), 1u);
  EXPECT_THAT(table.problems[0].message, HasSubstr(DigestOf("1").ToString()));
  EXPECT_THAT(table.problems[0].message, HasSubstr(DigestOf("2").ToString()));
  EXPECT_EQ(table.broken.count({"localhost/my-app", "same"}), 1u);
  EXPECT_EQ(table.Find("localhost/my-app", "@0")->digest, DigestOf("1"));
  EXPECT_EQ(table.Find("localhost/my-app", "@1")->digest, DigestOf("2"));
  EXPECT_NE(table.Find("localhost/my-app", "other"), nullptr);
}

TEST(LocalNames, WhatTheGrammarRefusesIsReachableByNumber) {
  const auto table = TableOf({ImageOf("1", {"../../etc"})});
  EXPECT_THAT(Texts(table), ElementsAre("localhost/my-app:", "localhost/my-app:@0"));
  EXPECT_EQ(table.problems.size(), 1u);
}

TEST(LocalNames, AnImageThatCannotBeReadBreaksItsNamesAlone) {
  LocalImages images{ImageOf("1", {"good:1"}), ImageOf("2", {"bad:1"})};
  images[1].descriptor = Error{Code::kInvalid, "it has no layers"};
  const auto table = TableOf(images);
  EXPECT_THAT(Texts(table), ElementsAre("docker.io/library/good:1"));
  EXPECT_EQ(table.broken.at({"docker.io/library/bad", "1"}).message, "it has no layers");
}

TEST(LocalNames, NumbersOfImagesHaveOneForm) {
  for (const char* number : {"@0", "@7", "@10", "@9999"}) EXPECT_TRUE(IsImageNumber(number));
  for (const char* other : {"@", "@00", "@01", "0", "@a", "@1a", "@-1", "@1234567", ""})
    EXPECT_FALSE(IsImageNumber(other)) << other;
}

TEST(SourceSpec, TheLongestPathThatIsThereCounts) {
  auto folder = TemporaryFolder::Create("lamina-spec");
  ASSERT_TRUE(folder.has_value());
  const std::string path = folder->path() + "/a.tar";
  const auto parse = [&](const std::string& rest) {
    const auto spec = ParseSourceSpec("docker-archive:" + path + rest);
    EXPECT_TRUE(spec.has_value());
    EXPECT_EQ(spec->kind, "docker-archive");
    return spec->location.substr(folder->path().size()) + "|" + spec->selected;
  };
  EXPECT_EQ(parse(":x:1"), "/a.tar|x:1");  // nothing is there
  ASSERT_TRUE(WriteFileAtomically(path, {}));
  EXPECT_EQ(parse(""), "/a.tar|");
  EXPECT_EQ(parse(":host:5000/x:1"), "/a.tar|host:5000/x:1");
  EXPECT_EQ(parse(":@sha256:00"), "/a.tar|@sha256:00");
  ASSERT_TRUE(WriteFileAtomically(path + ":x", {}));
  EXPECT_EQ(parse(":x:1"), "/a.tar:x|1");
  EXPECT_EQ(parse(":x"), "/a.tar:x|");
  EXPECT_EQ(ParseSourceSpec("tar:/x").error().code, Code::kInvalid);
  EXPECT_EQ(ParseSourceSpec("oci:").error().code, Code::kInvalid);
}

}  // namespace
}  // namespace lamina
