#include "fetch/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fetch/oci_tools.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;

const std::string kHex(64, 'a');

std::string Normal(std::string_view text) {
  const auto reference = Reference::Parse(text);
  return reference ? reference->ToString() : "error: " + reference.error().message;
}

std::string ErrorOf(std::string_view text) {
  const auto reference = Reference::Parse(text);
  if (reference) return "no error: " + reference->ToString();
  EXPECT_EQ(reference.error().code, Code::kInvalid);
  return reference.error().message;
}

TEST(ReferenceTest, NormalisesAsDockerDoes) {
  EXPECT_EQ(Normal("debian"), "docker.io/library/debian");
  EXPECT_EQ(Normal("debian:bookworm"), "docker.io/library/debian:bookworm");
  EXPECT_EQ(Normal("team/app"), "docker.io/team/app");
  EXPECT_EQ(Normal("docker.io/debian"), "docker.io/library/debian");
  EXPECT_EQ(Normal("index.docker.io/debian"), "docker.io/library/debian");
  EXPECT_EQ(Normal("index.docker.io/team/app"), "docker.io/team/app");
  EXPECT_EQ(Normal("localhost/app"), "localhost/app");
  EXPECT_EQ(Normal("localhost:5000"), "docker.io/library/localhost:5000");
  EXPECT_EQ(Normal("localhost:5000/team/app"), "localhost:5000/team/app");
  EXPECT_EQ(Normal("Example.COM/app"), "Example.COM/app");
  EXPECT_EQ(Normal("REGISTRY/app"), "REGISTRY/app");
  EXPECT_EQ(Normal("127.0.0.1:5000/a/b:c"), "127.0.0.1:5000/a/b:c");
  EXPECT_EQ(Normal("[::1]:5000/app:1"), "[::1]:5000/app:1");
  EXPECT_EQ(Normal("[2001:db8::1]/app"), "[2001:db8::1]/app");
}

TEST(ReferenceTest, KeepsTagAndDigestTogether) {
  const auto reference = Reference::Parse("localhost:5000/team/app:1@sha256:" + kHex);
  ASSERT_TRUE(reference.has_value());
  EXPECT_EQ(reference->repository, (RepositoryName{"localhost:5000", "team/app"}));
  EXPECT_EQ(reference->tag, "1");
  ASSERT_TRUE(reference->digest.has_value());
  EXPECT_EQ(reference->digest->ToString(), "sha256:" + kHex);
  EXPECT_EQ(Normal("app@sha512:" + kHex + kHex), "docker.io/library/app@sha512:" + kHex + kHex);
}

TEST(ReferenceTest, MeansLatestWithoutATag) {
  EXPECT_EQ(Reference::Parse("debian")->tag, std::nullopt);
  EXPECT_EQ(Reference::Parse("debian")->tag_or_latest(), "latest");
  EXPECT_EQ(Reference::Parse("debian:sid")->tag_or_latest(), "sid");
}

// skopeo parses the name of a docker-archive's image with Docker's own grammar, and writes its
// normal form into the archive.
TEST(ReferenceTest, AgreesWithSkopeoOnNormalForms) {
  auto folder = TemporaryFolder::Create("lamina-reference");
  ASSERT_TRUE(folder.has_value());
  const std::string in = "cd " + folder->path() + " && ";
  RunTool(in + "umoci init --layout l && umoci new --image l:a");
  for (const std::string text :
       {"debian:1", "team/app:1", "localhost/app:1", "localhost:5000/app:1",
        "index.docker.io/app:1", "index.docker.io/t/app:1", "docker.io/app:1", "docker.io:1",
        "a.b:1", "a--b:1", "a__b:1", "a.b:443/c:d", "a:_x", "127.0.0.1/x:1",
        "EXAMPLE.com:80/x/y:1"}) {
    const std::string printed =
        RunTool(in + "rm -f o.tar && skopeo copy -q oci:l:a 'docker-archive:o.tar:" + text +
                "' && tar xOf o.tar manifest.json");
    EXPECT_THAT(printed, HasSubstr("\"RepoTags\":[\"" + Normal(text) + "\"]")) << text;
  }
}

TEST(ReferenceTest, AgreesWithSkopeoOnWhatIsNoReference) {
  auto folder = TemporaryFolder::Create("lamina-reference");
  ASSERT_TRUE(folder.has_value());
  const std::string in = "cd " + folder->path() + " && ";
  RunTool(in + "umoci init --layout l && umoci new --image l:a");
  for (const std::string text : {"Debian:1", "foo/Bar:1", "a-/b:1", "a___b:1", "a..b:1", "a._b:1",
                                 "x//y:1", "x/:1", "/x:1", ":1", "x: ", "x:-y", "x:.y", "[zz]/x:1",
                                 "[::1%eth0]/x:1", "x.y:/z:1", "-x.y/z:1", "_a:1", "a_:1"}) {
    const std::string printed =
        RunTool(in + "if skopeo copy -q oci:l:a 'docker-archive:o.tar:" + text +
                "'; then false; else true; fi");
    EXPECT_THAT(printed, HasSubstr("parsing reference")) << text;
    EXPECT_THAT(ErrorOf(text), HasSubstr("is not an image reference")) << text;
  }
}

TEST(ReferenceTest, RefusesHostileText) {
  for (const std::string_view text : {"",
                                      ".",
                                      "..",
                                      "../etc/passwd",
                                      "a/../b",
                                      "localhost/../x",
                                      "./a",
                                      "a/./b",
                                      "..:5/x",
                                      "...:1/x",
                                      "@",
                                      ":",
                                      "/",
                                      "a@",
                                      "a:",
                                      "a:b:c",
                                      "a@b@c",
                                      "a\nb",
                                      "a\tb",
                                      "a b",
                                      "a\\b",
                                      "a%2fb",
                                      "a?b",
                                      "a#b",
                                      "user:password@host.example/app",
                                      "host.example:0/a",
                                      "host.example:65536/a",
                                      "host.example:/a",
                                      "host.example:5x/a",
                                      "-host.example/a",
                                      "host-.example/a",
                                      "host..example/a",
                                      "host.example./a",
                                      ".host/a",
                                      "ho_st.example/a",
                                      "[::1/a",
                                      "::1]/a",
                                      "[]/a",
                                      "[:::]/a",
                                      "[::1]x/a",
                                      "[::1]:/a",
                                      "[::ffff:1.2.3.4]/a",
                                      "[::1]",
                                      "[::1]:5000",
                                      "\xc3\xa9",
                                      "a/\xff",
                                      "a:\xc3\xa9",
                                      "h.example:1:2/a"})
    EXPECT_THAT(ErrorOf(text), HasSubstr("is not an image reference")) << text;
  EXPECT_THAT(ErrorOf(std::string_view("a\0b", 3)), HasSubstr("\\x00"));
  EXPECT_LT(ErrorOf(std::string(1 << 20, 'A')).size(), 2000u);
}

TEST(ReferenceTest, RefusesDigestsThatAreNone) {
  EXPECT_THAT(ErrorOf("a@sha256:" + std::string(63, 'a')), HasSubstr("is not a digest"));
  EXPECT_THAT(ErrorOf("a@sha256:" + std::string(64, 'A')), HasSubstr("is not a digest"));
  EXPECT_THAT(ErrorOf("a@md5:" + std::string(32, 'a')), HasSubstr("is not a digest"));
  EXPECT_THAT(ErrorOf("a@sha256:" + kHex + ":tag"), HasSubstr("is not a digest"));
}

TEST(ReferenceTest, SaysWhatToWriteInstead) {
  EXPECT_THAT(ErrorOf("Debian"), HasSubstr("write 'debian'"));
  EXPECT_THAT(ErrorOf("ghcr.io/Team/App:V1"), HasSubstr("write 'ghcr.io/team/app'"));
  EXPECT_THAT(ErrorOf("https://ghcr.io/a"), HasSubstr("without 'https://'"));
  EXPECT_THAT(ErrorOf("docker://debian"), HasSubstr("without 'docker://'"));
  EXPECT_THAT(ErrorOf(kHex), HasSubstr("@sha256:"));
}

TEST(ReferenceTest, HoldsItsLimits) {
  // docker.io/library/ has 18 bytes.
  EXPECT_TRUE(Reference::Parse(std::string(237, 'a')).has_value());
  EXPECT_THAT(ErrorOf(std::string(238, 'a')), HasSubstr("256 bytes, more than the limit of 255"));
  EXPECT_TRUE(Reference::Parse("a:" + std::string(128, 'T')).has_value());
  EXPECT_THAT(ErrorOf("a:" + std::string(129, 'T')),
              HasSubstr("129 bytes, more than the limit of 128"));
}

TEST(ReferenceTest, ParsesItsOwnTextToTheSameValue) {
  for (const std::string& text :
       {std::string("debian"), "Foo/bar:1@sha256:" + kHex, std::string("[::1]:5000/a/b__c:x"),
        std::string("docker.io/a/b")}) {
    const auto once = Reference::Parse(text);
    ASSERT_TRUE(once.has_value()) << text;
    const auto twice = Reference::Parse(once->ToString());
    ASSERT_TRUE(twice.has_value()) << text;
    EXPECT_EQ(*once, *twice);
  }
}

TEST(ReferenceTest, ARegistryIsToldFromAPathComponent) {
  for (const char* text :
       {"docker.io", "localhost", "localhost:5000", "a:1", "[::1]", "[::1]:1", "A"})
    EXPECT_TRUE(IsValidRegistry(text)) << text;
  for (const char* text :
       {"", "debian", ".", "..", "a/b.c", "a b.c", "localhost_5000_", "a.b:65536"})
    EXPECT_FALSE(IsValidRegistry(text)) << text;
  EXPECT_FALSE(IsValidRegistry(std::string(250, 'a') + ".com"));
}

TEST(ReferenceTest, PathComponentsFollowTheDistributionGrammar) {
  for (const char* text : {"a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a.b-c__d"})
    EXPECT_TRUE(IsValidPathComponent(text)) << text;
  for (const char* text :
       {"", ".", "..", "-a", "a-", "a.", "_a", "a___b", "a..b", "a._b", "a/b", "A", "a:b"})
    EXPECT_FALSE(IsValidPathComponent(text)) << text;
  EXPECT_TRUE(IsValidRepositoryPath("a/b/c"));
  EXPECT_FALSE(IsValidRepositoryPath("a//c"));
  EXPECT_FALSE(IsValidRepositoryPath("/a"));
  EXPECT_FALSE(IsValidRepositoryPath(std::string(256, 'a')));
}

TEST(ReferenceTest, OnlyTheLoopbackIsLoopback) {
  for (const char* text : {"localhost", "LocalHost:5000", "127.0.0.1", "127.255.0.1:80", "[::1]",
                           "[0:0:0:0:0:0:0:1]:5000"})
    EXPECT_TRUE(IsLoopbackRegistry(text)) << text;
  for (const char* text :
       {"docker.io", "127.evil.example", "127.1", "127.0.0.1.example", "128.0.0.1",
        "localhost.example", "[::2]", "[::]", "10.0.0.1", "localhost@evil.example", ""})
    EXPECT_FALSE(IsLoopbackRegistry(text)) << text;
}

TEST(ReferenceTest, RegistryFoldersHaveNoColonAndGoBothWays) {
  EXPECT_EQ(RegistryFolder("docker.io"), "docker.io");
  EXPECT_EQ(RegistryFolder("localhost:5000"), "localhost_5000_");
  for (const char* registry :
       {"docker.io", "localhost", "localhost:5000", "[::1]:5000", "[::1:5000]", "[::]", "[::]:1",
        "[1::]", "[1::]:50", "[fe80::1:2]:443", "a:1", "Example.COM:80"}) {
    ASSERT_TRUE(IsValidRegistry(registry)) << registry;
    const std::string folder = RegistryFolder(registry);
    EXPECT_EQ(folder.find_first_of(":[]/"), std::string::npos) << folder;
    EXPECT_EQ(RegistryOfFolder(folder), registry) << folder;
  }
}

TEST(ReferenceTest, OtherFoldersAreNoRegistries) {
  for (const char* folder : {"", "_", "__", "___", "____", ".", "..", ".lamina", "debian",
                             "localhost:5000", "localhost_5000", "a_b_c_", "_5000_", "localhost__",
                             "localhost_x_", "[::1]", "docker.io_", "_1_", "___1_"})
    EXPECT_EQ(RegistryOfFolder(folder), std::nullopt) << folder;
}

}  // namespace
}  // namespace lamina
