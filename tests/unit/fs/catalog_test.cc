// Names and documents where sources differ, go away and come back.

#include "fs/catalog.h"

#include <gmock/gmock.h>

#include "fs/open_images.h"
#include "tests/unit/fs/fs_fixture.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;

class CatalogTest : public FsFixture {
 protected:
  void Move(const std::string& from, const std::string& to) const {
    ASSERT_EQ(::rename(Path(from).c_str(), Path(to).c_str()), 0);
  }
  void DropCacheAndIndexes() const {
    for (const std::string& folder :
         {paths_.IndexFolder(), paths_.CacheFolder(), paths_.TreeFolder()}) {
      ASSERT_TRUE(RemoveTree(folder));
      ASSERT_TRUE(MakeFolders(folder));
    }
  }
  Status ReadTree(const Digest& digest) {
    auto image = catalog_->OpenImage(Repository(), digest);
    if (!image) return image.error();
    auto tree = (*image)->EnsureTree();
    return tree ? Status() : Status(tree.error());
  }
};

TEST_F(CatalogTest, AnImageIsReadFromTheSourceThatHasIt) {
  LayoutWriter other(Path("other"));
  const Digest layer = other.AddLayer(Path("upper"));
  other.AddImage({layer}, "amd64", "other");
  ASSERT_TRUE(catalog_->AddSource("oci:" + other.folder(), Repository()));
  ASSERT_TRUE(catalog_->ResolveTag(Repository(), "base"));
  // The documents are in the store now, whatever source is asked first.
  const Status first = ReadTree(base_);
  EXPECT_TRUE(first) << first.error().message;
  DropCacheAndIndexes();
  Restart();
  const Status again = ReadTree(base_);
  EXPECT_TRUE(again) << again.error().message;
  EXPECT_EQ((*catalog_->OpenImage(Repository(), base_))->documents().origin,
            "oci:" + layout_->folder());
}

TEST_F(CatalogTest, ALayerThatTheFirstSourceLacksComesFromTheNext) {
  Shell("cp -r '" + layout_->folder() + "' '" + Path("copy") + "'");
  ASSERT_TRUE(catalog_->AddSource("oci:" + Path("copy"), Repository()));
  Shell("rm '" + Path("copy/blobs/sha256/") + lower_layer_.hex() + "'");
  const Status read = ReadTree(base_);
  EXPECT_TRUE(read) << read.error().message;
}

TEST_F(CatalogTest, ASourceThatIsAwayIsNoMissingTag) {
  ASSERT_TRUE(catalog_->ResolveTag(Repository(), "base"));
  Move("layout", "away");
  Restart();
  const auto known = catalog_->ResolveTag(Repository(), "base");
  ASSERT_TRUE(known) << known.error().message;
  EXPECT_TRUE(known->stale);
  EXPECT_EQ(known->digest, base_);
  // Never resolved, so there is no last answer.
  const auto unknown = catalog_->ResolveTag(Repository(), "multi");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Code::kUnavailable);
  EXPECT_THAT(unknown.error().message, HasSubstr(layout_->folder()));
  EXPECT_EQ(catalog_->ResolveTag(Repository(), "never").error().code, Code::kNotFound);
  Move("away", "layout");
  const auto back = catalog_->ResolveTag(Repository(), "multi");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(back->digest, multi_);
  EXPECT_FALSE(back->stale);
}

TEST_F(CatalogTest, NamesThatALayoutGetsLaterAreKnownAfterARestartWithoutIt) {
  const Digest later = layout_->AddImage({lower_layer_}, "amd64", "later");
  ASSERT_EQ(catalog_->ResolveTag(Repository(), "later")->digest, later);
  Move("layout", "away");
  Restart();
  EXPECT_TRUE(catalog_->ResolveTag(Repository(), "later")->stale);
}

TEST_F(CatalogTest, TheLatestAddedSourceWinsThoughAnOlderOneChanges) {
  Shell("cp -r '" + layout_->folder() + "' '" + Path("newer") + "'");
  LayoutWriter newer(Path("newer"));
  const Digest image = newer.AddImage({newer.AddLayer(Path("upper"))}, "amd64", "base");
  ASSERT_TRUE(catalog_->AddSource("oci:" + Path("newer"), Repository()));
  EXPECT_EQ(catalog_->ResolveTag(Repository(), "base")->digest, image);
  layout_->AddImage({lower_layer_}, "amd64", "another");
  ASSERT_TRUE(catalog_->ResolveTag(Repository(), "another"));
  Restart();
  EXPECT_EQ(catalog_->ResolveTag(Repository(), "base")->digest, image);
}

TEST_F(CatalogTest, WhatOneSourceCallsADocumentIsNotHeldAgainstAnother) {
  ASSERT_TRUE(ReadTree(base_));
  const auto document = store_->GetDocument(base_);
  ASSERT_TRUE(document && document->has_value());
  ASSERT_TRUE(store_->PutDocument(base_, "application/x-other", (*document)->bytes));
  Restart();
  const Status read = ReadTree(base_);
  EXPECT_TRUE(read) << read.error().message;
}

TEST_F(CatalogTest, FetchingAllGivesUpWhenLaminaStops) {
  const auto image = catalog_->OpenImage(Repository(), base_);
  ASSERT_TRUE(image) << image.error().message;
  uint64_t done = 0;
  const Status stopped = (*image)->FetchAll([&](uint64_t, uint64_t) {
    if (++done == 1) layers_->Cancel();
    return true;
  });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, Code::kCancelled);
  EXPECT_EQ(done, 1u);
}

TEST_F(CatalogTest, FetchingAllBringsEachChunkOnce) {
  const auto image = catalog_->OpenImage(Repository(), base_);
  ASSERT_TRUE(ReadTree(base_));
  ASSERT_TRUE(RemoveTree(paths_.CacheFolder()));
  ASSERT_TRUE(MakeFolders(paths_.CacheFolder()));
  Restart();
  uint64_t last = 0;
  uint64_t total = 0;
  const auto again = catalog_->OpenImage(Repository(), base_);
  const Status fetched = (*again)->FetchAll([&](uint64_t done, uint64_t all) {
    last = done;
    total = all;
    return true;
  });
  ASSERT_TRUE(fetched) << fetched.error().message;
  EXPECT_EQ(last, total);
  EXPECT_GT(total, 3u);
  EXPECT_LE(layers_->counters().chunk_fetches.load(), total);
}

TEST_F(CatalogTest, ImagesUsedLongestAgoAreLetGo) {
  const auto base = *catalog_->OpenImage(Repository(), base_);  // two layers
  const auto arm = *catalog_->OpenImage(Repository(), arm_);    // one
  const auto multi = *catalog_->OpenImage(Repository(), multi_);
  OpenImages images(5);
  images.Put("base", base);
  images.Put("arm", arm);
  EXPECT_EQ(images.Find("base"), base);
  images.Put("multi", multi);
  EXPECT_EQ(images.Find("arm"), nullptr) << "used before base";
  EXPECT_EQ(images.Find("base"), nullptr) << "both had to go: three and two are five already";
  EXPECT_EQ(images.Find("multi"), multi);
  OpenImages small(1);
  small.Put("base", base);
  EXPECT_EQ(small.Find("base"), base) << "one image is always open";
}

}  // namespace
}  // namespace lamina
