#include "fs/namespace_names.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace lamina {
namespace {

const std::string kHex(64, 'a');

NameForm::Kind KindOf(const std::string& name) { return ParseNameForm(name).kind; }

TEST(NameFormTest, DigestsAreImageFoldersAndLinks) {
  EXPECT_EQ(KindOf("sha256-" + kHex), NameForm::Kind::kImageFolder);
  EXPECT_EQ(KindOf("sha256:" + kHex), NameForm::Kind::kDigestLink);
  EXPECT_EQ(KindOf("sha512-" + kHex + kHex), NameForm::Kind::kImageFolder);
  EXPECT_EQ(ParseNameForm("sha256-" + kHex).digest->ToString(), "sha256:" + kHex);
  // What only looks like a digest is a tag.
  EXPECT_EQ(KindOf("sha256-" + kHex + ".sig"), NameForm::Kind::kPlain);
  EXPECT_EQ(KindOf("sha256-abc"), NameForm::Kind::kPlain);
}

TEST(NameFormTest, NameAndTagAreOneComponent) {
  const NameForm form = ParseNameForm("debian:bookworm");
  EXPECT_EQ(form.kind, NameForm::Kind::kTagLink);
  EXPECT_EQ(form.component, "debian");
  EXPECT_EQ(form.tag, "bookworm");
}

TEST(NameFormTest, DigestWinsOverTheTagBesideIt) {
  const NameForm form = ParseNameForm("debian:bookworm@sha256:" + kHex);
  EXPECT_EQ(form.kind, NameForm::Kind::kPinLink);
  EXPECT_EQ(form.component, "debian");
  EXPECT_EQ(form.digest->ToString(), "sha256:" + kHex);
  EXPECT_EQ(KindOf("debian@sha256:" + kHex), NameForm::Kind::kPinLink);
}

TEST(NameFormTest, RefusesWhatTheGrammarRefuses) {
  for (const std::string& name : std::vector<std::string>{
           "", "-x", ".x", "a b", "a\nb", "é", ":tag", "name:", "name:-x", "a:b:c",
           "@sha256:" + kHex, "name@sha256:abc", "name@" + kHex, "Upper:tag", "rootfs:latest",
           "layers@sha256:" + kHex, std::string(129, 'A'), "name:" + std::string(129, 'a')})
    EXPECT_EQ(KindOf(name), NameForm::Kind::kInvalid) << name;
}

TEST(NameFormTest, ReservedNamesAreNoComponents) {
  for (const std::string name : {"rootfs", "layers", "manifest.json", "config.json", "index.json",
                                 "platforms", "status.json"}) {
    EXPECT_TRUE(IsReservedName(name));
    EXPECT_FALSE(IsUsableComponent(name));
  }
  EXPECT_TRUE(IsUsableComponent("rootfs2"));
  EXPECT_FALSE(IsUsableComponent("Debian"));
}

TEST(NameFormTest, CutsNamesAtTheRegistry) {
  EXPECT_EQ(RegistryOf("localhost:5000/team/app"), "localhost:5000");
  EXPECT_EQ(RepositoryPathOf("localhost:5000/team/app"), "team/app");
  EXPECT_EQ(RegistryOf("docker.io"), "docker.io");
  EXPECT_EQ(RepositoryPathOf("docker.io"), "");
}

}  // namespace
}  // namespace lamina
