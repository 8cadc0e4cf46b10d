#include "fetch/short_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lamina {
namespace {

using ::testing::HasSubstr;

std::string Candidates(const ShortNames& names, const std::string& text) {
  const auto found = names.Candidates(text);
  if (!found) return "error: " + found.error().message;
  std::string all;
  for (const Reference& reference : *found) all += (all.empty() ? "" : " ") + reference.ToString();
  return all;
}

TEST(ShortNamesTest, WithoutFilesDockersRuleHolds) {
  const ShortNames names;
  EXPECT_EQ(Candidates(names, "debian"), "docker.io/library/debian");
  EXPECT_EQ(Candidates(names, "debian:12"), "docker.io/library/debian:12");
  EXPECT_EQ(Candidates(names, "team/app"), "docker.io/team/app");
  EXPECT_EQ(Candidates(names, "localhost:5000/app:1"), "localhost:5000/app:1");
}

TEST(ShortNamesTest, TellsShortNamesFromFullOnes) {
  for (const char* text : {"debian", "debian:12", "team/app", "team/app:1", "debian@sha256:00"})
    EXPECT_TRUE(ShortNames::IsShort(text)) << text;
  for (const char* text :
       {"docker.io/debian", "localhost/app", "localhost:5000/app:1", "[::1]:5000/app", "UPPER/app"})
    EXPECT_FALSE(ShortNames::IsShort(text)) << text;
}

TEST(ShortNamesTest, AnAliasStandsForOneNameAndKeepsTagAndDigest) {
  ShortNames names;
  ASSERT_TRUE(
      names.Add("unqualified-search-registries = ['one.example']\n[aliases]\n"
                "fedora = 'registry.fedoraproject.org/fedora'\n"
                "'team/app' = 'quay.io/team/app'\nother = 'short'\n",
                "file"));
  EXPECT_EQ(Candidates(names, "fedora"), "registry.fedoraproject.org/fedora");
  EXPECT_EQ(Candidates(names, "fedora:39"), "registry.fedoraproject.org/fedora:39");
  const std::string digest = "@sha256:" + std::string(64, 'a');
  EXPECT_EQ(Candidates(names, "fedora" + digest), "registry.fedoraproject.org/fedora" + digest);
  EXPECT_EQ(Candidates(names, "team/app:1"), "quay.io/team/app:1");
  EXPECT_EQ(Candidates(names, "app:1"), "one.example/app:1");
  EXPECT_THAT(Candidates(names, "other"), HasSubstr("no name with a registry"));
}

TEST(ShortNamesTest, TheSearchListIsAskedInItsOrder) {
  ShortNames names;
  ASSERT_TRUE(names.Add("unqualified-search-registries = ['one.example:5000', 'docker.io']", "f"));
  EXPECT_EQ(Candidates(names, "app:1"), "one.example:5000/app:1 docker.io/library/app:1");
  EXPECT_EQ(Candidates(names, "two.example/app:1"), "two.example/app:1");
  EXPECT_THAT(Candidates(names, "UPPER:1"), HasSubstr("lower case"));
}

TEST(ShortNamesTest, ALaterFileWins) {
  ShortNames names;
  ASSERT_TRUE(
      names.Add("unqualified-search-registries = ['one.example']\n"
                "[aliases]\na = 'x.example/a'\nb = 'x.example/b'\nc = 'x.example/c'",
                "first"));
  ASSERT_TRUE(names.Add("[aliases]\nb = 'y.example/b'\nc = ''", "second"));
  EXPECT_EQ(Candidates(names, "a"), "x.example/a");
  EXPECT_EQ(Candidates(names, "b"), "y.example/b");
  EXPECT_EQ(Candidates(names, "c"), "one.example/c");
  ASSERT_TRUE(names.Add("unqualified-search-registries = []", "third"));
  EXPECT_EQ(Candidates(names, "c"), "docker.io/library/c");
}

TEST(ShortNamesTest, AFileThatIsWrongIsNamed) {
  for (const char* text :
       {"this is none", "unqualified-search-registries = 'one.example'",
        "unqualified-search-registries = [1]", "unqualified-search-registries = ['no host']"}) {
    ShortNames names;
    const Status added = names.Add(text, "/the/file");
    ASSERT_FALSE(added) << text;
    EXPECT_EQ(added.error().code, Code::kInvalid);
    EXPECT_THAT(added.error().message, HasSubstr("/the/file"));
  }
  EXPECT_TRUE(ShortNames::Read({"/nowhere/registries.conf"}));
}

}  // namespace
}  // namespace lamina
