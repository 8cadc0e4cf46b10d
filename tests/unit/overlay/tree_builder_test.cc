#include "overlay/tree_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/file.h"
#include "overlay/tree.h"
#include "tests/support/erofs_check.h"
#include "tests/unit/overlay/hand_layer.h"

namespace lamina {
namespace {

using ::testing::AllOf;
using testing::Folder;
using testing::HandEntry;
using ::testing::HasSubstr;
using testing::ImplicitFolder;
using testing::LinkTo;
using testing::MakeLayer;
using testing::Whiteout;

constexpr int64_t kCreatedNs = 1'700'000'000'000'000'005;

class TreeBuilderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-builder");
    ASSERT_TRUE(folder.has_value());
    folder_.emplace(std::move(*folder));
  }

  void AddRoot(const HandEntry& root) {
    layers_.push_back(MakeLayer(root, folder_->path() + "/layer" + std::to_string(layers_.size())));
  }
  void Add(std::vector<HandEntry> children) { AddRoot(Folder("", std::move(children))); }

  Result<TreeFacts> Build(TreeOptions options = {.created_ns = kCreatedNs, .only_layer = {}}) {
    return BuildTree(layers_, options, TreePath());
  }
  std::string TreePath() const { return folder_->path() + "/tree"; }

  // Builds, opens and has fsck.erofs judge it.
  void BuildAndOpen(TreeOptions options = {.created_ns = kCreatedNs, .only_layer = {}}) {
    const auto facts = Build(options);
    ASSERT_TRUE(facts.has_value()) << facts.error().message;
    facts_ = *facts;
    const auto tree = Tree::Open(TreePath());
    ASSERT_TRUE(tree.has_value()) << tree.error().message;
    tree_ = *tree;
    EXPECT_EQ(testing::FsckComplaints(*tree_, folder_->path()), "");
    EXPECT_EQ(tree_->inode_count(), facts_.inode_count);
    EXPECT_EQ(tree_->file_bytes(), facts_.file_bytes);
  }

  Error BuildError(TreeOptions options = {.created_ns = kCreatedNs, .only_layer = {}}) {
    const auto facts = Build(options);
    EXPECT_FALSE(facts.has_value());
    EXPECT_FALSE(FileExists(TreePath()));
    return facts ? Error{} : facts.error();
  }

  std::optional<Nid> Find(std::string_view path) const {
    Nid nid = tree_->root();
    for (const std::string_view component : Split(path)) {
      const auto entry = tree_->Lookup(nid, component);
      EXPECT_TRUE(entry.has_value()) << entry.error().message;
      if (!entry || !*entry) return std::nullopt;
      nid = (*entry)->nid;
    }
    return nid;
  }
  bool Exists(std::string_view path) const { return Find(path).has_value(); }
  TreeAttr Stat(std::string_view path) const {
    const auto nid = Find(path);
    EXPECT_TRUE(nid.has_value()) << path;
    return nid ? tree_->Stat(*nid).value() : TreeAttr{};
  }

  static std::vector<std::string_view> Split(std::string_view path) {
    std::vector<std::string_view> parts;
    while (!path.empty()) {
      parts.push_back(path.substr(0, path.find('/')));
      path.remove_prefix(std::min(path.size(), parts.back().size() + 1));
    }
    return parts;
  }

  std::optional<TemporaryFolder> folder_;
  std::vector<std::shared_ptr<const LayerIndex>> layers_;
  TreeFacts facts_;
  std::shared_ptr<const Tree> tree_;
};

TEST_F(TreeBuilderTest, NoLayersGiveAnEmptyRoot) {
  BuildAndOpen();
  const TreeAttr root = Stat("");
  EXPECT_EQ(root.type, EntryType::kDirectory);
  EXPECT_EQ(root.mode, 0755u);
  EXPECT_EQ(root.nlink, 2u);
  EXPECT_EQ(root.mtime_s, 1'700'000'000);
  EXPECT_EQ(root.mtime_ns, 5u);
  EXPECT_EQ(facts_.entry_count, 1u);
}

TEST_F(TreeBuilderTest, WhiteoutDeletesFromLowerLayersOnly) {
  Add({Folder("a", {{.name = "x"}}), {.name = "b"}});
  Add({Whiteout("a"), Whiteout("never-was")});
  Add({Folder("a", {{.name = "y"}})});
  BuildAndOpen();
  EXPECT_FALSE(Exists("a/x"));
  EXPECT_TRUE(Exists("a/y"));
  EXPECT_TRUE(Exists("b"));
  EXPECT_FALSE(Exists("never-was"));
}

TEST_F(TreeBuilderTest, OpaqueDirectoryHidesLowerChildrenOnly) {
  Add({Folder("d", {{.name = "lower"}})});
  HandEntry opaque = Folder("d", {{.name = "upper"}});
  opaque.opaque = true;
  Add({opaque});
  Add({Folder("d", {{.name = "top"}})});
  BuildAndOpen();
  EXPECT_FALSE(Exists("d/lower"));
  EXPECT_TRUE(Exists("d/upper"));
  EXPECT_TRUE(Exists("d/top"));
}

TEST_F(TreeBuilderTest, OpaqueRootHidesAllLowerLayers) {
  Add({{.name = "a"}, Folder("d", {})});
  HandEntry root = Folder("", {{.name = "b"}});
  root.opaque = true;
  AddRoot(root);
  BuildAndOpen();
  EXPECT_FALSE(Exists("a"));
  EXPECT_FALSE(Exists("d"));
  EXPECT_TRUE(Exists("b"));
}

TEST_F(TreeBuilderTest, ImplicitDirectoryThatReplacesTakesNothingOver) {
  HandEntry lowest = Folder("d", {{.name = "lowest"}});
  lowest.mode = 0700;
  Add({lowest});
  HandEntry replacing = ImplicitFolder("d", {{.name = "new"}});
  replacing.opaque = replacing.replaces = true;
  Add({replacing});
  Add({ImplicitFolder("d", {{.name = "upper"}})});
  BuildAndOpen();
  EXPECT_EQ(Stat("d").mode, 0755u);
  EXPECT_TRUE(Exists("d/new") && Exists("d/upper"));
  EXPECT_FALSE(Exists("d/lowest"));
}

TEST_F(TreeBuilderTest, DirectoryTakesTheAttributesOfTheUppermostExplicitEntry) {
  HandEntry lower = Folder("d", {{.name = "x"}});
  lower.mode = 0700;
  lower.uid = 9;
  lower.xattrs = {{"user.k", "lower"}};
  HandEntry other = Folder("e", {});
  other.mode = 0711;
  Add({lower, other});
  HandEntry upper = Folder("e", {});
  upper.mode = 01777;
  Add({ImplicitFolder("d", {{.name = "y"}}), upper});
  BuildAndOpen();
  EXPECT_EQ(Stat("d").mode, 0700u);
  EXPECT_EQ(Stat("d").uid, 9u);
  EXPECT_EQ(tree_->Xattr(*Find("d"), "user.k").value(), "lower");
  EXPECT_EQ(Stat("e").mode, 01777u);
  EXPECT_TRUE(Exists("d/x") && Exists("d/y"));
}

TEST_F(TreeBuilderTest, ImplicitDirectoryReplacesALowerFileWithDefaultAttributes) {
  Add({{.name = "f", .mode = 0600, .uid = 4}});
  Add({ImplicitFolder("f", {{.name = "in"}})});
  BuildAndOpen();
  EXPECT_EQ(Stat("f").type, EntryType::kDirectory);
  EXPECT_EQ(Stat("f").mode, 0755u);
  EXPECT_EQ(Stat("f").uid, 0u);
  EXPECT_EQ(Stat("f").mtime_s, 1'700'000'000);
}

TEST_F(TreeBuilderTest, DirectoryReplacesALinkOfALowerLayer) {
  Add({{.name = "lnk", .type = EntryType::kSymlink, .target = "real"}, Folder("real", {})});
  Add({ImplicitFolder("lnk", {{.name = "new"}})});
  BuildAndOpen();
  EXPECT_EQ(Stat("lnk").type, EntryType::kDirectory);
  EXPECT_FALSE(Exists("real/new"));
}

TEST_F(TreeBuilderTest, NothingOfADirectoryBelowAFileShowsThroughALaterDirectory) {
  Add({Folder("d", {{.name = "old"}})});
  Add({{.name = "d"}});
  Add({ImplicitFolder("d", {{.name = "new"}})});
  BuildAndOpen();
  EXPECT_FALSE(Exists("d/old"));
  EXPECT_TRUE(Exists("d/new"));
}

TEST_F(TreeBuilderTest, HardLinksOfOneLayerShareANid) {
  Add({{.name = "a", .shared = 1}, Folder("d", {{.name = "b", .shared = 1}})});
  BuildAndOpen();
  EXPECT_EQ(Find("a"), Find("d/b"));
  EXPECT_EQ(Stat("a").nlink, 2u);
}

TEST_F(TreeBuilderTest, ReplacedHardLinkSplits) {
  Add({{.name = "a", .mode = 0600, .shared = 1},
       {.name = "b", .shared = 1},
       {.name = "c", .shared = 1}});
  Add({{.name = "b", .mode = 0644}});
  BuildAndOpen();
  EXPECT_EQ(Find("a"), Find("c"));
  EXPECT_NE(Find("a"), Find("b"));
  EXPECT_EQ(Stat("a").nlink, 2u);
  EXPECT_EQ(Stat("b").nlink, 1u);
}

TEST_F(TreeBuilderTest, LinkToALowerLayerIsTheSameInode) {
  Add({Folder("bin", {{.name = "sh", .mode = 04755}})});
  Add({LinkTo("sh2", "bin/sh")});
  Add({LinkTo("sh3", "sh2")});
  BuildAndOpen();
  EXPECT_EQ(Find("sh2"), Find("bin/sh"));
  EXPECT_EQ(Find("sh3"), Find("bin/sh"));
  EXPECT_EQ(Stat("bin/sh").nlink, 3u);
}

TEST_F(TreeBuilderTest, LinkKeepsAnInodeWhoseNameIsDeletedInItsOwnLayer) {
  Add({{.name = "old", .mode = 0640}});
  Add({LinkTo("new", "old"), Whiteout("old")});
  BuildAndOpen();
  EXPECT_FALSE(Exists("old"));
  EXPECT_EQ(Stat("new").mode, 0640u);
  EXPECT_EQ(Stat("new").nlink, 1u);
}

TEST_F(TreeBuilderTest, LinkSeesTheMergedStateOfTheLayersBelow) {
  Add({{.name = "t", .mode = 0601}});
  Add({{.name = "t", .mode = 0602}});
  Add({LinkTo("l", "t")});
  Add({{.name = "t", .mode = 0603}});
  BuildAndOpen();
  EXPECT_EQ(Stat("l").mode, 0602u);
  EXPECT_EQ(Stat("t").mode, 0603u);
}

TEST_F(TreeBuilderTest, LinkToNothingNamesLayerEntryAndReason) {
  Add({Folder("d", {{.name = "gone"}})});
  Add({Whiteout("d")});
  Add({Folder("etc", {LinkTo("bad", "d/gone")})});
  const Error error = BuildError();
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message,
              AllOf(HasSubstr("layer 2 (" + layers_[2]->facts().blob_digest.ToString() + ")"),
                    HasSubstr("'etc/bad'"), HasSubstr("'d/gone'"), HasSubstr("missing")));
}

TEST_F(TreeBuilderTest, LinkToNothingIsRefusedEvenWhereAnUpperLayerHidesIt) {
  Add({{.name = "a"}});
  Add({Folder("d", {LinkTo("bad", "b")})});
  Add({Whiteout("d")});
  const Error error = BuildError();
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, AllOf(HasSubstr("layer 1 ("), HasSubstr("'d/bad'"), HasSubstr("'b'")));
}

TEST_F(TreeBuilderTest, LinkToADirectoryIsRefused) {
  Add({Folder("d", {})});
  Add({LinkTo("bad", "d")});
  const Error error = BuildError();
  EXPECT_EQ(error.code, Code::kInvalid);
  EXPECT_THAT(error.message, HasSubstr("directory"));
}

TEST_F(TreeBuilderTest, LinkDoesNotGoThroughSymbolicLinksOfOtherLayers) {
  Add({Folder("real", {{.name = "f"}}),
       {.name = "sym", .type = EntryType::kSymlink, .target = "real"}});
  Add({LinkTo("bad", "sym/f")});
  EXPECT_EQ(BuildError().code, Code::kInvalid);
}

TEST_F(TreeBuilderTest, LinkInTheBottomLayerIsRefused) {
  Add({LinkTo("bad", "x")});
  EXPECT_EQ(BuildError().code, Code::kInvalid);
}

TEST_F(TreeBuilderTest, EntryLimitIsKept) {
  Add({{.name = "a"}, {.name = "b"}, {.name = "c"}});
  ASSERT_TRUE(Build({.entry_limit = 4, .only_layer = {}}).has_value());
  ASSERT_TRUE(RemoveTree(TreePath()).has_value());
  const Error error = BuildError({.entry_limit = 3, .only_layer = {}});
  EXPECT_EQ(error.code, Code::kLimit);
  EXPECT_THAT(error.message, HasSubstr("3"));
}

TEST_F(TreeBuilderTest, DepthLimitIsKept) {
  for (const uint32_t depth : {1024u, 1025u}) {
    HandEntry chain = Folder("d", {});
    for (uint32_t i = 1; i < depth; ++i) chain = Folder("d", {chain});
    layers_.clear();
    Add({chain});
    const auto facts = Build();
    EXPECT_EQ(facts.has_value(), depth == 1024);
    if (!facts) {
      EXPECT_EQ(facts.error().code, Code::kLimit) << facts.error().message;
    }
    ASSERT_TRUE(RemoveTree(TreePath()).has_value());
  }
}

TEST_F(TreeBuilderTest, UnsortedIndexIsCorrupt) {
  Add({{.name = "b"}, {.name = "a"}});
  EXPECT_EQ(BuildError().code, Code::kCorrupt);
}

TEST_F(TreeBuilderTest, ImpossibleNamesAreCorrupt) {
  for (const std::string& name : {std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a\0b", 3), std::string(), std::string(256, 'n')}) {
    layers_.clear();
    Add({{.name = name}});
    EXPECT_EQ(BuildError().code, Code::kCorrupt) << name;
  }
}

TEST_F(TreeBuilderTest, DataOutsideTheLayerIsCorrupt) {
  const std::vector<HandEntry> bad = {
      {.name = "f", .size = 5000, .flat_offset = (uint64_t{1} << 30) - 4096},
      {.name = "f", .size = 5000, .flat_offset = 77},
      {.name = "f", .size = 50000, .sparse = true, .extents = {{4096, uint64_t{1} << 40, 4096}}},
      {.name = "f", .size = 50000, .sparse = true, .extents = {{100, 0, 4096}}},
      {.name = "f",
       .size = 50000,
       .sparse = true,
       .extents = {{8192, 0, 4096}, {4096, 4096, 4096}}},
      {.name = "f", .size = 5000, .sparse = true, .extents = {{4096, 0, 8192}}},
      {.name = "f", .size = 50000, .sparse = true, .extents = {{4096, 0, 100}}}};
  for (const HandEntry& file : bad) {
    layers_.clear();
    Add({file});
    const Error error = BuildError();
    EXPECT_EQ(error.code, Code::kCorrupt) << error.message;
    EXPECT_THAT(error.message, HasSubstr("'/f'"));
  }
}

TEST_F(TreeBuilderTest, FilesPointIntoTheDeviceOfTheirLayer) {
  Add({{.name = "a", .size = 5000, .flat_offset = 4096}});
  Add({{.name = "b", .size = 3'000'000, .flat_offset = 8192}, {.name = "empty"}});
  BuildAndOpen();
  EXPECT_EQ(tree_->device_count(), 2u);
  EXPECT_EQ(tree_->device_bytes(1), uint64_t{1} << 30);
  const DataExtent a = tree_->Map(*Find("a"), 10).value();
  EXPECT_EQ(a.device, 0u);
  EXPECT_EQ(a.flat_offset, 4106u);
  EXPECT_EQ(a.length, 4990u);
  const DataExtent b = tree_->Map(*Find("b"), 2'999'999).value();
  EXPECT_EQ(b.device, 1u);
  EXPECT_EQ(b.flat_offset, 8192u + 2'999'999u);
  EXPECT_EQ(b.length, 1u);
  EXPECT_EQ(tree_->Map(*Find("empty"), 0).error().code, Code::kInvalid);
}

TEST_F(TreeBuilderTest, SparseFileKeepsItsHoles) {
  const uint64_t size = (uint64_t{2} << 30) + 100;
  const uint64_t granule = SparseGranule(size);
  Add({{.name = "hole", .size = size, .sparse = true},
       {.name = "s",
        .size = size,
        .sparse = true,
        .extents = {{granule, 0, 2 * granule}, {5 * granule, 2 * granule, granule}}}});
  BuildAndOpen();
  const Nid s = *Find("s");
  EXPECT_TRUE(tree_->Map(s, 0)->hole);
  EXPECT_EQ(tree_->Map(s, 0)->length, granule);
  EXPECT_EQ(tree_->Map(s, granule + 5)->flat_offset, 5u);
  EXPECT_EQ(tree_->Map(s, granule + 5)->length, 2 * granule - 5);
  EXPECT_EQ(tree_->Map(s, 5 * granule)->flat_offset, 2 * granule);
  EXPECT_EQ(tree_->Seek(s, 0, false).value(), granule);
  EXPECT_EQ(tree_->Seek(s, 0, true).value(), 0u);
  EXPECT_EQ(tree_->Seek(s, granule, true).value(), 3 * granule);
  EXPECT_EQ(tree_->Seek(s, 3 * granule, false).value(), 5 * granule);
  EXPECT_EQ(tree_->Seek(s, 6 * granule, false).error().code, Code::kNotFound);
  const Nid hole = *Find("hole");
  EXPECT_TRUE(tree_->Map(hole, 1'000'000)->hole);
  EXPECT_EQ(tree_->Map(hole, 1'000'000)->length, size - 1'000'000);
  EXPECT_EQ(tree_->Seek(hole, 0, false).error().code, Code::kNotFound);
}

TEST_F(TreeBuilderTest, ManySparseFilesAreLimited) {
  // Each has 2^16 pieces for a few bytes of index.
  std::vector<HandEntry> files;
  for (int i = 0; i < 1100; ++i)
    files.push_back({.name = std::to_string(10000 + i),
                     .size = uint64_t{1} << 28,
                     .sparse = true,
                     .extents = {{4096, 0, 4096}}});
  Add(files);
  const Error error = BuildError();
  EXPECT_EQ(error.code, Code::kLimit);
  EXPECT_THAT(error.message, HasSubstr("sparse"));
}

TEST_F(TreeBuilderTest, XattrsKeepTheirNamespacesAndOverlayfsMetadataIsDropped) {
  Add({{.name = "f",
        .xattrs = {{"user.u", "1"},
                   {"security.capability", "2"},
                   {"user.overlay.opaque", "y"},
                   {"trusted.overlay.opaque", "y"},
                   {"system.x", "z"}}}});
  BuildAndOpen();
  std::map<std::string, std::string> got;
  ASSERT_TRUE(tree_
                  ->ForEachXattr(*Find("f"),
                                 [&](std::string_view name, std::string_view value) {
                                   got.emplace(name, value);
                                   return true;
                                 })
                  .has_value());
  EXPECT_EQ(got,
            (std::map<std::string, std::string>{{"user.u", "1"}, {"security.capability", "2"}}));
  EXPECT_TRUE(tree_->has_xattrs());
  EXPECT_FALSE(tree_->Xattr(*Find("f"), "user.none")->has_value());
}

TEST_F(TreeBuilderTest, TooManyXattrBytesNameTheFile) {
  HandEntry file{.name = "f"};
  for (int i = 0; i < 4; ++i) file.xattrs["user." + std::to_string(i)] = std::string(65500, 'x');
  Add({file});
  BuildAndOpen();
  EXPECT_EQ(tree_->Xattr(*Find("f"), "user.3")->value(), std::string(65500, 'x'));
  layers_.clear();
  file.xattrs["user.4"] = std::string(200, 'x');
  ASSERT_TRUE(RemoveTree(TreePath()).has_value());
  Add({file});
  const Error error = BuildError();
  EXPECT_EQ(error.code, Code::kLimit);
  EXPECT_THAT(error.message, HasSubstr("'/f'"));
}

TEST_F(TreeBuilderTest, DirectoriesOfEverySizeAreReadBack) {
  // Around the sizes at which the last block is full, just fits inline, or no longer does.
  std::vector<HandEntry> folders;
  for (size_t count = 262; count < 282; ++count) {
    std::vector<HandEntry> files;
    for (size_t i = 0; i < count; ++i) files.push_back({.name = std::to_string(100 + i)});
    HandEntry folder = Folder("d" + std::to_string(count), files);
    folder.xattrs = {{"user.x", std::string(count % 7, 'x')}};
    folders.push_back(folder);
  }
  Add(folders);
  BuildAndOpen();
  for (size_t count = 262; count < 282; ++count) {
    size_t seen = 0;
    ASSERT_TRUE(tree_
                    ->ReadDirectory(*Find("d" + std::to_string(count)), 0,
                                    [&](const TreeDirent&, uint64_t) { return ++seen > 0; })
                    .has_value());
    EXPECT_EQ(seen, count + 2);
  }
}

TEST_F(TreeBuilderTest, SymbolicLinksOfEveryLengthAreReadBack) {
  std::vector<HandEntry> links;
  for (const size_t length : {1, 100, 3000, 4000, 4031, 4032, 4033, 4095}) {
    links.push_back({.name = "l" + std::to_string(10000 + length),
                     .type = EntryType::kSymlink,
                     .target = std::string(length, 't')});
    links.push_back({.name = "m" + std::to_string(10000 + length),
                     .type = EntryType::kSymlink,
                     .target = std::string(length, 't'),
                     .xattrs = {{"security.capability", "c"}}});
  }
  std::sort(links.begin(), links.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  Add(links);
  BuildAndOpen();
  for (const HandEntry& link : links)
    EXPECT_EQ(tree_->ReadLink(*Find(link.name)).value(), link.target);
}

TEST_F(TreeBuilderTest, SingleLayerShowsWhiteoutsAsOverlayfsKeepsThem) {
  HandEntry lower = Folder("d", {{.name = "x"}, {.name = "f", .mode = 0600}});
  std::swap(lower.children[0], lower.children[1]);
  lower.mode = 0700;
  Add({lower, {.name = "gone"}});
  HandEntry opaque = Folder("o", {});
  opaque.opaque = true;
  Add({ImplicitFolder("d", {LinkTo("link", "d/f"), {.name = "new"}, Whiteout("x")}),
       Whiteout("gone"), opaque});
  Add({{.name = "of-another-layer"}});
  BuildAndOpen({.created_ns = kCreatedNs, .only_layer = 1});
  EXPECT_EQ(Stat("gone").type, EntryType::kCharDevice);
  EXPECT_EQ(Stat("gone").device_major, 0u);
  EXPECT_EQ(Stat("gone").device_minor, 0u);
  EXPECT_EQ(Stat("gone").mode, 0u);
  EXPECT_EQ(Stat("d/x").type, EntryType::kCharDevice);
  EXPECT_EQ(tree_->Xattr(*Find("o"), "trusted.overlay.opaque")->value(), "y");
  EXPECT_FALSE(tree_->Xattr(*Find("d"), "trusted.overlay.opaque")->has_value());
  EXPECT_EQ(Stat("d").mode, 0700u);
  EXPECT_EQ(Stat("d/link").mode, 0600u);
  EXPECT_TRUE(Exists("d/new"));
  EXPECT_FALSE(Exists("d/f"));
  EXPECT_FALSE(Exists("of-another-layer"));
  EXPECT_EQ(tree_->device_count(), 2u);
}

TEST_F(TreeBuilderTest, SingleLayerMarksAnOpaqueRoot) {
  HandEntry root = Folder("", {{.name = "b"}});
  root.opaque = true;
  AddRoot(root);
  BuildAndOpen({.created_ns = 0, .only_layer = 0});
  EXPECT_EQ(tree_->Xattr(tree_->root(), "trusted.overlay.opaque")->value(), "y");
}

TEST_F(TreeBuilderTest, LayerThatIsNotThereIsRefused) {
  Add(std::vector<HandEntry>{});
  EXPECT_EQ(BuildError({.only_layer = 1}).code, Code::kInvalid);
}

TEST_F(TreeBuilderTest, FiveHundredLayersOfOneDirectoryMerge) {
  for (int i = 0; i < 512; ++i)
    Add({Folder("d", {{.name = "all", .mode = static_cast<uint32_t>(i)},
                      {.name = "only" + std::to_string(i)}})});
  BuildAndOpen();
  EXPECT_EQ(Stat("d/all").mode, 511u);
  EXPECT_EQ(facts_.entry_count, 1u + 1u + 1u + 512u);
}

TEST(TreeKeyTest, DependsOnWhatTheTreeDependsOn) {
  const Digest a = Digest::Sha256(AsBytes("a"));
  const Digest b = Digest::Sha256(AsBytes("b"));
  const std::set<Digest> keys = {TreeKey({a, b}, {}),
                                 TreeKey({b, a}, {}),
                                 TreeKey({a}, {}),
                                 TreeKey({}, {}),
                                 TreeKey({a, b}, {.created_ns = 1, .only_layer = {}}),
                                 TreeKey({a, b}, {.only_layer = 0}),
                                 TreeKey({a, b}, {.only_layer = 1})};
  EXPECT_EQ(keys.size(), 7u);
  EXPECT_EQ(TreeKey({a, b}, {.only_layer = 0}), TreeKey({a}, {.only_layer = 0}));
}

}  // namespace
}  // namespace lamina
