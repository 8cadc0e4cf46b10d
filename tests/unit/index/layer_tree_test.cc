// Attributes, xattrs and limits of one layer's tree; which tree comes out is in
// hostile_layers_test.cc.

#include "index/layer_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/support/tar_builder.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class LayerTreeTest : public ::testing::Test {
 protected:
  IndexedLayer Index(const TarBuilder& tar) {
    Result<IndexedLayer> layer = lab_.Index(tar.Finish());
    EXPECT_TRUE(layer.has_value()) << layer.error().message;
    return std::move(layer).value();
  }
  LayerEntry Root(const IndexedLayer& layer) { return std::move(layer.index->Entry(0)).value(); }
  IndexLab lab_;
};

TEST_F(LayerTreeTest, KeepsAttributes) {
  const IndexedLayer layer = Index(TarBuilder().Add({.name = "a",
                                                     .data = "12345",
                                                     .mode = 06711,
                                                     .uid = 1000,
                                                     .gid = 4000000000,
                                                     .pax = {{"mtime", "-7.000000001"}}}));
  const LayerInode inode = InodeAt(layer, "a");
  EXPECT_EQ(inode.type, EntryType::kRegular);
  EXPECT_EQ(inode.mode, 06711u);
  EXPECT_EQ(inode.uid, 1000u);
  EXPECT_EQ(inode.gid, 4000000000u);
  EXPECT_EQ(inode.mtime_s, -8);
  EXPECT_EQ(inode.mtime_ns, 999'999'999u);
  EXPECT_EQ(inode.size, 5u);
  EXPECT_FALSE(inode.sparse);
}

TEST_F(LayerTreeTest, SymlinksHaveAllPermissionsAndTheLengthOfTheirTarget) {
  const IndexedLayer layer =
      Index(TarBuilder().Add({.name = "l", .type = '2', .link = "target", .mode = 0600}));
  EXPECT_EQ(InodeAt(layer, "l").mode, 0777u);
  EXPECT_EQ(InodeAt(layer, "l").size, 6u);
  EXPECT_EQ(InodeAt(layer, "l").symlink_target, "target");
}

TEST_F(LayerTreeTest, DevicesKeepTheirNumbers) {
  const IndexedLayer layer =
      Index(TarBuilder().Add({.name = "n", .type = '4', .major = 259, .minor = 70000}));
  EXPECT_EQ(InodeAt(layer, "n").device_major, 259u);
  EXPECT_EQ(InodeAt(layer, "n").device_minor, 70000u);
}

TEST_F(LayerTreeTest, TheRootIsImplicitUntilItHasAnEntry) {
  const IndexedLayer without = Index(TarBuilder().File("a"));
  EXPECT_TRUE(Root(without).implicit);
  EXPECT_EQ(without.index->Inode(Root(without).inode)->mode, 0755u);
  const IndexedLayer with =
      Index(TarBuilder().Add({.name = "./", .type = '5', .mode = 0700, .uid = 7}));
  EXPECT_FALSE(Root(with).implicit);
  EXPECT_EQ(with.index->Inode(Root(with).inode)->mode, 0700u);
  EXPECT_EQ(with.index->Inode(Root(with).inode)->uid, 7u);
}

TEST_F(LayerTreeTest, LastAttributesOfAFolderWin) {
  const IndexedLayer layer = Index(TarBuilder()
                                       .Add({.name = "d", .type = '5', .mode = 0700})
                                       .File("d/a")
                                       .Add({.name = "d", .type = '5', .mode = 0711, .uid = 5}));
  EXPECT_EQ(InodeAt(layer, "d").mode, 0711u);
  EXPECT_EQ(InodeAt(layer, "d").uid, 5u);
}

TEST_F(LayerTreeTest, ReplacedInodesAreLeftOut) {
  const IndexedLayer layer =
      Index(TarBuilder().File("a", "1").File("a", "2").File("d/x").File("d", "3"));
  EXPECT_EQ(layer.index->facts().entry_count, 3u);  // the root, a, d
  EXPECT_EQ(layer.index->facts().inode_count, 3u);
}

TEST_F(LayerTreeTest, OnlyUserXattrsAndCapabilitiesPass) {
  const IndexedLayer layer =
      Index(TarBuilder().Add({.name = "a",
                              .pax = {{"SCHILY.xattr.user.x", "1"},
                                      {"SCHILY.xattr.user.empty", ""},
                                      {"SCHILY.xattr.security.capability", "cap"},
                                      {"SCHILY.xattr.user.overlay.opaque", "y"},
                                      {"SCHILY.xattr.trusted.overlay.opaque", "y"},
                                      {"SCHILY.xattr.trusted.other", "y"},
                                      {"SCHILY.xattr.security.selinux", "label"},
                                      {"SCHILY.xattr.security.ima", "i"},
                                      {"SCHILY.xattr.security.evm", "e"},
                                      {"SCHILY.xattr.system.posix_acl_access", "acl"}}}));
  EXPECT_THAT(XattrsAt(layer, "a"),
              UnorderedElementsAre(Pair("user.x", "1"), Pair("user.empty", ""),
                                   Pair("security.capability", "cap")));
  EXPECT_THAT(layer.index->Warnings(), IsEmpty());
}

TEST_F(LayerTreeTest, UserXattrsOfSymlinksAreDroppedWithAWarning) {
  const IndexedLayer layer = Index(TarBuilder().Add(
      {.name = "l", .type = '2', .link = "t", .pax = {{"SCHILY.xattr.user.x", "1"}}}));
  EXPECT_THAT(XattrsAt(layer, "l"), IsEmpty());
  EXPECT_THAT(layer.index->Warnings(), ElementsAre(HasSubstr("'user.x'")));
}

TEST_F(LayerTreeTest, EntriesAreLimited) {
  const std::string tar = TarBuilder().File("a").File("b").File("c").Finish();
  IndexRequest request = lab_.RequestFor(tar);
  request.entry_limit = 3;
  EXPECT_TRUE(lab_.Index(tar, request).has_value());
  request.entry_limit = 2;
  const Result<IndexedLayer> refused = lab_.Index(tar, request);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kLimit);
  EXPECT_THAT(refused.error().message, HasSubstr("limit of 2"));
}

TEST_F(LayerTreeTest, ImpliedFoldersCountAsEntries) {
  const std::string tar = TarBuilder().File("a/b/c/d/e").Finish();
  IndexRequest request = lab_.RequestFor(tar);
  request.entry_limit = 4;
  EXPECT_FALSE(lab_.Index(tar, request).has_value());
}

TEST_F(LayerTreeTest, KeepsOneHundredWarnings) {
  TarBuilder tar;
  for (int i = 0; i < 150; ++i) tar.Add({.name = "f" + std::to_string(i), .uid = -1});
  const std::vector<std::string> warnings = Index(tar).index->Warnings();
  ASSERT_EQ(warnings.size(), 100u);
  EXPECT_THAT(warnings[0], HasSubstr("'f0'"));
  EXPECT_EQ(warnings[99], "and 51 more warnings");
}

TEST_F(LayerTreeTest, ManyNamesAreFoundAgainAndSorted) {
  // Written in random order, half of them replaced, a whole folder thrown away in between.
  TarBuilder tar;
  std::set<std::string> names;
  std::mt19937 random(7);
  for (int i = 0; i < 3000; ++i) tar.File("gone/" + std::to_string(random()), "x");
  tar.File("gone", "file").Folder("gone");
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "gone/" + std::to_string(random() % 3000);
    names.insert(name);
    tar.File(name);
  }
  const std::vector<std::string> tree = TreeOf(Index(tar));
  // The folder came where a file was, so it also replaces what layers below have there.
  std::vector<std::string> expected = {"d(replaces) gone"};
  for (const std::string& name : names) expected.push_back("f " + name + "=");
  EXPECT_EQ(tree, expected);
}

TEST_F(LayerTreeTest, FlatAddressesFollowTheStreamNotTheTree) {
  const IndexedLayer layer = Index(TarBuilder()
                                       .File("z", std::string(5000, 'z'))
                                       .File("z", "replaced")
                                       .File(".wh.w", "whiteouts have no data")
                                       .File("empty")
                                       .File("a", "1"));
  EXPECT_EQ(InodeAt(layer, "z").flat_offset, 8192u);
  EXPECT_EQ(InodeAt(layer, "a").flat_offset, 12288u);
  EXPECT_EQ(layer.index->facts().flat_size, 16384u);
  EXPECT_EQ(layer.sink->Read(0, 5000), std::string(5000, 'z'));
}

}  // namespace
}  // namespace lamina::testing
