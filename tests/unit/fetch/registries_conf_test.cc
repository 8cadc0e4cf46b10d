#include "fetch/registries_conf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

RegistriesConf Parsed(std::string_view text) {
  RegistriesConf conf;
  const Status added = conf.Add(text, "test.conf");
  EXPECT_TRUE(added.has_value()) << (added ? "" : added.error().message);
  return conf;
}

std::string ErrorOf(std::string_view text) {
  RegistriesConf conf;
  const Status added = conf.Add(text, "test.conf");
  return added ? "no error" : added.error().message;
}

std::string PrefixFor(const RegistriesConf& conf, std::string_view reference) {
  const auto match = conf.Find(reference);
  return match ? match->rule.prefix : "none";
}

TEST(RegistriesConfTest, APrefixEndsWhereAPartOfTheNameEnds) {
  const RegistriesConf conf = Parsed(R"(
    [[registry]]
    location = "quay.io"
    [[registry]]
    prefix = "quay.io/team"
    location = "mirror.example/team"
    [[registry]]
    prefix = "*.corp.example"
    location = "hub.corp.example:5000")");
  EXPECT_EQ(PrefixFor(conf, "quay.io"), "quay.io");
  EXPECT_EQ(PrefixFor(conf, "quay.io/other/app"), "quay.io");
  EXPECT_EQ(PrefixFor(conf, "quay.io/team/app:1"), "quay.io/team");
  EXPECT_EQ(PrefixFor(conf, "quay.io/team@sha256:00"), "quay.io/team");
  EXPECT_EQ(PrefixFor(conf, "quay.io/teams/app"), "quay.io");
  EXPECT_EQ(PrefixFor(conf, "quay.iot/team"), "none");
  EXPECT_EQ(PrefixFor(conf, "quay.io:5000/team"), "quay.io");
  EXPECT_EQ(PrefixFor(conf, "a.b.corp.example/x/y"), "*.corp.example");
  EXPECT_EQ(PrefixFor(conf, "corp.example/x"), "none");
  EXPECT_EQ(PrefixFor(conf, "docker.io/a.corp.example/x"), "none");
}

TEST(RegistriesConfTest, TellsLocationsMirrorsAndWhatTheyAreFor) {
  const RegistriesConf conf = Parsed(R"(
    [[registry]]
    prefix = "docker.io"
    location = "registry-1.docker.io"
    [[registry.mirror]]
    location = "first.example:5000/hub"
    insecure = true
    pull-from-mirror = "digest-only"
    [[registry.mirror]]
    location = "second.example"
    pull-from-mirror = "tag-only")");
  const auto match = conf.Find("docker.io/library/debian:12");
  ASSERT_TRUE(match.has_value());
  ASSERT_EQ(match->rule.mirrors.size(), 2u);
  const RegistryLocation& first = match->rule.mirrors[0];
  EXPECT_TRUE(first.insecure);
  EXPECT_FALSE(first.by_tag);
  EXPECT_TRUE(first.by_digest);
  EXPECT_TRUE(match->rule.mirrors[1].by_tag);
  // The bytes of what a tag of it names have to come from somewhere.
  EXPECT_TRUE(match->rule.mirrors[1].by_digest);
  EXPECT_EQ(match->rule.file, "test.conf");
  EXPECT_FALSE(match->rule.blocked);
  EXPECT_EQ(Relocated("docker.io/library/debian:12", match->length, first.location),
            "first.example:5000/hub/library/debian:12");
  EXPECT_EQ(Relocated("docker.io/library/debian:12", match->length, ""),
            "docker.io/library/debian:12");
}

TEST(RegistriesConfTest, AllMirrorsOfARegistryMayBeForDigestsOnly) {
  const RegistriesConf conf = Parsed(R"(
    [[registry]]
    location = "quay.io"
    mirror-by-digest-only = true
    mirror = [{ location = "mirror.example" }])");
  EXPECT_FALSE(conf.Find("quay.io/a")->rule.mirrors.at(0).by_tag);
}

TEST(RegistriesConfTest, ASlashAtTheEndSaysNothing) {
  const RegistriesConf conf = Parsed(R"(
    [[registry]]
    prefix = "quay.io/team/"
    location = "mirror/team/"
    blocked = true)");
  const auto match = conf.Find("quay.io/team/app");
  ASSERT_TRUE(match.has_value());
  EXPECT_TRUE(match->rule.blocked);
  EXPECT_EQ(Relocated("quay.io/team/app", match->length, match->rule.origin.location),
            "mirror/team/app");
}

TEST(RegistriesConfTest, ALaterFileWinsForItsPrefix) {
  RegistriesConf conf = Parsed("[[registry]]\nlocation = \"quay.io\"\nblocked = true");
  ASSERT_TRUE(conf.Add("[[registry]]\nlocation = \"quay.io\"", "later.conf").has_value());
  EXPECT_FALSE(conf.Find("quay.io/a")->rule.blocked);
  EXPECT_EQ(conf.Find("quay.io/a")->rule.file, "later.conf");
}

TEST(RegistriesConfTest, WhatIsWrongIsNamedWithItsLine) {
  EXPECT_THAT(ErrorOf("a = ["), HasSubstr("test.conf: line 1"));
  EXPECT_THAT(ErrorOf("registry = 1"), HasSubstr("test.conf: registry is no list"));
  EXPECT_THAT(ErrorOf("\n[[registry]]\nlocation = 5"), HasSubstr("line 2: location is no text"));
  EXPECT_THAT(ErrorOf("[[registry]]"), HasSubstr("has no registry"));
  EXPECT_THAT(ErrorOf("[[registry]]\nlocation = \"quay.io\"\nblocked = \"yes\""),
              HasSubstr("blocked is neither true nor false"));
  EXPECT_THAT(ErrorOf("[[registry]]\nprefix = \"quay.io\"\nlocation = \"https://x.example\""),
              HasSubstr("is no registry with or without a path"));
  EXPECT_THAT(ErrorOf("[[registry]]\nlocation = \"quay.io\"\n[[registry.mirror]]\n"),
              HasSubstr("mirror"));
  EXPECT_THAT(ErrorOf("[[registry]]\nlocation = \"quay.io\"\n[[registry.mirror]]\nlocation = "
                      "\"m.example\"\npull-from-mirror = \"never\""),
              HasSubstr("pull-from-mirror"));
  EXPECT_THAT(ErrorOf("[[registry]]\nlocation = \"quay.io\"\nmirror-by-digest-only = true\n"
                      "[[registry.mirror]]\nlocation = \"m.example\"\n"
                      "pull-from-mirror = \"tag-only\""),
              HasSubstr("cannot stand together"));
}

TEST(RegistriesConfTest, TheLastListOfHelpersCounts) {
  RegistriesConf conf = Parsed("");
  EXPECT_THAT(conf.credential_helpers().names, ElementsAre("containers-auth.json"));
  ASSERT_TRUE(conf.Add(R"(credential-helpers = ["pass", "containers-auth.json"])", "a.conf"));
  ASSERT_TRUE(conf.Add(R"([[registry]]
    location = "quay.io")",
                       "b.conf"));
  EXPECT_THAT(conf.credential_helpers().names, ElementsAre("pass", "containers-auth.json"));
  EXPECT_EQ(conf.credential_helpers().file, "a.conf");
  EXPECT_THAT(ErrorOf("credential-helpers = \"pass\""), HasSubstr("no list"));
  EXPECT_THAT(ErrorOf("credential-helpers = [1]"), HasSubstr("something else than names"));
}

}  // namespace
}  // namespace lamina
