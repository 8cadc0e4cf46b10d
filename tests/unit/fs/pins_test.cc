// Pins: whichever name of an image is said, the pin is the same. [S67]

#include <gmock/gmock.h>

#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

class PinsTest : public FsFixture {
 protected:
  // As a command does it.
  void Pin(const std::string& text) {
    const auto reference = Reference::Parse(text);
    ASSERT_TRUE(reference) << reference.error().message;
    const auto resolution = catalog_->Resolve(*reference);
    ASSERT_TRUE(resolution) << resolution.error().message;
    ASSERT_TRUE(catalog_->Pin(reference->ToString(), *resolution));
    ASSERT_EQ(store_->Pins()->size(), 1u);
  }
  void Unpin(const std::string& text) {
    const auto unpinned = catalog_->Unpin(*Reference::Parse(text));
    EXPECT_TRUE(unpinned) << unpinned.error().message;
    EXPECT_TRUE(store_->Pins()->empty());
  }
  void MakeAlias() {
    ASSERT_TRUE(catalog_->SetAliases({{.repository = "localhost/mine",
                                       .name = "stable",
                                       .target_repository = Repository(),
                                       .target_tag = "base",
                                       .target_digest = std::nullopt,
                                       .platform = ""}}));
  }
};

TEST_F(PinsTest, ByATagAndByItsDigest) {
  Pin("localhost/sample:base");
  Unpin("localhost/sample@" + base_.ToString());
  Pin("localhost/sample@" + base_.ToString());
  Unpin("localhost/sample:base");
}

TEST_F(PinsTest, ByAnAliasInAnotherRepository) {
  MakeAlias();
  Pin("localhost/mine:stable");
  Unpin("localhost/mine:stable");
  Pin("localhost/mine:stable");
  Unpin("localhost/sample:base");
  Pin("localhost/sample:base");
  Unpin("localhost/mine:stable");
}

TEST_F(PinsTest, ByAnAliasThatLeadsElsewhereNow) {
  MakeAlias();
  Pin("localhost/mine:stable");
  ASSERT_TRUE(catalog_->RemoveAlias("localhost/mine", "stable"));
  Unpin("localhost/mine:stable");
}

TEST_F(PinsTest, ByTheImageId) {
  Shell("skopeo copy -q oci:" + layout_->folder() + ":base docker-archive:" + Path("a.tar") +
        ":localhost/packed:1");
  ASSERT_TRUE(catalog_->AddSource("docker-archive:" + Path("a.tar"), ""));
  const auto resolution = catalog_->ResolveTag("localhost/packed", "1");
  ASSERT_TRUE(resolution);
  const auto image = catalog_->OpenImage("localhost/packed", resolution->digest);
  ASSERT_TRUE(image);
  const Digest id = (*image)->documents().parsed_manifest.config.digest;
  ASSERT_NE(id, resolution->digest);
  Pin("localhost/packed:1");
  Unpin("localhost/packed@" + id.ToString());
}

TEST_F(PinsTest, WhatIsNotPinnedIsAnError) {
  Pin("localhost/sample:base");
  const auto other = catalog_->Unpin(*Reference::Parse("localhost/sample:multi"));
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, Code::kNotFound);
  EXPECT_EQ(store_->Pins()->size(), 1u);
}

}  // namespace
}  // namespace lamina
