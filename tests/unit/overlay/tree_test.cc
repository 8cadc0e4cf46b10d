#include "overlay/tree.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "overlay/erofs_format.h"
#include "overlay/tree_builder.h"
#include "tests/unit/overlay/hand_layer.h"

namespace lamina {
namespace {

using testing::Folder;
using testing::HandEntry;

// Asks everything of every inode that the tree names, as far as a bound; answers do not matter.
uint64_t AskEverything(const Tree& tree) {
  uint64_t asked = 0;
  std::vector<Nid> waiting{tree.root()};
  while (!waiting.empty() && asked < 3000) {
    const Nid nid = waiting.back();
    waiting.pop_back();
    ++asked;
    (void)tree.Stat(nid).has_value();
    (void)tree.ReadLink(nid).has_value();
    (void)tree.Map(nid, 0).has_value();
    (void)tree.Map(nid, 5000).has_value();
    (void)tree.Seek(nid, 0, true).has_value();
    (void)tree.Seek(nid, 0, false).has_value();
    (void)tree.Lookup(nid, "b").has_value();
    (void)tree.Lookup(nid, "name500").has_value();
    (void)tree.Xattr(nid, "user.none").has_value();
    uint64_t left = 2000;
    (void)tree
        .ReadDirectory(nid, 0,
                       [&](const TreeDirent& entry, uint64_t) {
                         if (entry.name != "." && entry.name != "..") waiting.push_back(entry.nid);
                         return --left > 0;
                       })
        .has_value();
  }
  for (uint32_t device = 0; device < 4; ++device) (void)tree.device_bytes(device);
  return asked;
}

class TreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-tree");
    ASSERT_TRUE(folder.has_value());
    folder_.emplace(std::move(*folder));
    std::vector<HandEntry> many;
    for (int i = 0; i < 900; ++i) many.push_back({.name = "name" + std::to_string(100 + i)});
    const HandEntry root = Folder(
        "", {{.name = "a", .size = 9000, .xattrs = {{"user.x", "1"}, {"user.y", ""}}},
             Folder("b", {{.name = "c"}}),
             {.name = "l", .type = EntryType::kSymlink, .target = "b/c"},
             Folder("many", many),
             {.name = "s", .size = 100'000, .sparse = true, .extents = {{8192, 12288, 4096}}}});
    layers_ = {testing::MakeLayer(root, folder_->path() + "/layer")};
    const auto facts = BuildTree(layers_, {.only_layer = {}}, Path());
    ASSERT_TRUE(facts.has_value()) << facts.error().message;
    bytes_ = ReadWholeFile(Path(), 1u << 30).value();
  }

  std::string Path() const { return folder_->path() + "/tree"; }
  std::shared_ptr<const Tree> Open() const { return Tree::Open(Path()).value(); }
  static Nid Find(const Tree& tree, std::string_view name) {
    return tree.Lookup(tree.root(), name).value()->nid;
  }

  std::optional<TemporaryFolder> folder_;
  std::vector<std::shared_ptr<const LayerIndex>> layers_;
  std::string bytes_;
};

TEST_F(TreeTest, MissingFileIsNotFound) {
  EXPECT_EQ(Tree::Open(folder_->path() + "/none").error().code, Code::kNotFound);
}

TEST_F(TreeTest, LooksUpEveryNameOfALargeDirectoryAndNoOther) {
  const auto tree = Open();
  const Nid many = Find(*tree, "many");
  for (int i = 0; i < 900; ++i) {
    const std::string name = "name" + std::to_string(100 + i);
    const auto found = tree->Lookup(many, name);
    ASSERT_TRUE(found.has_value() && found->has_value()) << name;
    EXPECT_EQ((*found)->name, name);
  }
  for (const char* name : {"", "!", "name", "name1", "name1000", "name5555", "nbme", "\xff"})
    EXPECT_FALSE(tree->Lookup(many, name)->has_value()) << name;
}

TEST_F(TreeTest, EveryCookieContinuesBehindItsEntry) {
  const auto tree = Open();
  const Nid many = Find(*tree, "many");
  std::vector<std::string> all;
  std::vector<uint64_t> cookies;
  ASSERT_TRUE(tree->ReadDirectory(many, 0,
                                  [&](const TreeDirent& entry, uint64_t next) {
                                    all.emplace_back(entry.name);
                                    cookies.push_back(next);
                                    return true;
                                  })
                  .has_value());
  ASSERT_EQ(all.size(), 902u);
  for (size_t i = 0; i < all.size(); ++i) {
    std::string next;
    ASSERT_TRUE(tree->ReadDirectory(many, cookies[i],
                                    [&](const TreeDirent& entry, uint64_t) {
                                      next = entry.name;
                                      return false;
                                    })
                    .has_value());
    EXPECT_EQ(next, i + 1 < all.size() ? all[i + 1] : "");
  }
  // Cookies that were never given end the walk or begin somewhere, no more.
  for (const uint64_t cookie : {uint64_t{400}, uint64_t{1} << 40, ~uint64_t{0}})
    EXPECT_TRUE(tree->ReadDirectory(many, cookie, [](const TreeDirent&, uint64_t) { return true; })
                    .has_value());
}

TEST_F(TreeTest, QuestionsOfTheWrongTypeAreRefused) {
  const auto tree = Open();
  EXPECT_EQ(tree->Lookup(Find(*tree, "a"), "x").error().code, Code::kInvalid);
  EXPECT_EQ(tree->ReadLink(tree->root()).error().code, Code::kInvalid);
  EXPECT_EQ(tree->Map(tree->root(), 0).error().code, Code::kInvalid);
  EXPECT_EQ(tree->Map(Find(*tree, "a"), 9000).error().code, Code::kInvalid);
  EXPECT_EQ(tree->Seek(Find(*tree, "a"), 9000, true).error().code, Code::kNotFound);
  EXPECT_EQ(tree->Seek(Find(*tree, "a"), 8999, true).value(), 9000u);
}

TEST_F(TreeTest, NidsOutsideTheTreeAreCorrupt) {
  const auto tree = Open();
  for (const Nid nid :
       {Nid{0}, Nid{31}, bytes_.size() / 32, bytes_.size(), ~Nid{0}, ~Nid{0} / 32 + 1})
    EXPECT_FALSE(tree->Stat(nid).has_value()) << nid;
}

TEST_F(TreeTest, EveryFlippedByteIsNoticedAtOpening) {
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i) {
    std::string bytes = bytes_;
    const size_t at = i < 100 ? 1024 + static_cast<size_t>(i) : random() % bytes.size();
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    const auto tree = Tree::FromBytes(AsBytes(bytes));
    ASSERT_FALSE(tree.has_value()) << at;
    EXPECT_EQ(tree.error().code, Code::kCorrupt);
  }
}

TEST_F(TreeTest, DamagedFileIsCorruptWhenOpenedFromDisk) {
  std::string bytes = bytes_;
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] + 1);
  ASSERT_TRUE(WriteFileAtomically(Path(), AsBytes(bytes)).has_value());
  EXPECT_EQ(Tree::Open(Path()).error().code, Code::kCorrupt);
}

TEST_F(TreeTest, ATreeThatIsCutWhileItIsOpenIsCorruptAndHurtsNobody) {
  const auto tree = Open();
  const Nid many = (*tree->Lookup(tree->root(), "many"))->nid;
  const Nid file = (*tree->Lookup(tree->root(), "a"))->nid;
  const Nid link = (*tree->Lookup(tree->root(), "l"))->nid;
  std::filesystem::resize_file(Path(), 0);
  EXPECT_EQ(tree->Lookup(many, "name500").error().code, Code::kCorrupt);
  EXPECT_EQ(tree->Lookup(many, "missing").error().code, Code::kCorrupt);
  EXPECT_EQ(tree->Stat(file).error().code, Code::kCorrupt);
  EXPECT_EQ(tree->Map(file, 0).error().code, Code::kCorrupt);
  EXPECT_EQ(tree->Xattr(file, "user.x").error().code, Code::kCorrupt);
  EXPECT_EQ(tree->ReadLink(link).error().code, Code::kCorrupt);
  bool visited = false;
  const Status listed = tree->ReadDirectory(many, 0, [&](const TreeDirent&, uint64_t) {
    visited = true;
    return true;
  });
  EXPECT_EQ(listed.error().code, Code::kCorrupt);
  EXPECT_FALSE(visited);
  EXPECT_NE(tree->Stat(file).error().message.find(Path()), std::string::npos);
}

TEST_F(TreeTest, ATreeIsNotBuiltOfAnIndexThatIsCutWhileItIsOpen) {
  ASSERT_TRUE(RemoveTree(Path()));
  // What the first tree was made of is unpacked; an index that is opened anew has nothing yet.
  const std::string path = folder_->path() + "/layer";
  layers_ = {*LayerIndex::Open(path, layers_[0]->facts().blob_digest)};
  std::filesystem::resize_file(path, 0);
  const auto facts = BuildTree(layers_, {.only_layer = {}}, Path());
  ASSERT_FALSE(facts.has_value());
  EXPECT_EQ(facts.error().code, Code::kCorrupt);
  EXPECT_NE(facts.error().message.find("cannot be read"), std::string::npos)
      << facts.error().message;
  EXPECT_FALSE(FileExists(Path()));
  EXPECT_EQ(layers_[0]->Entry(0).error().code, Code::kCorrupt);
}

TEST_F(TreeTest, EveryTruncationIsCorrupt) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{1024}, size_t{4096}, bytes_.size() - 4096,
                            bytes_.size() - 1}) {
    const auto tree = Tree::FromBytes(AsBytes(bytes_).first(size), false);
    ASSERT_FALSE(tree.has_value()) << size;
    EXPECT_EQ(tree.error().code, Code::kCorrupt);
  }
}

TEST_F(TreeTest, RandomDamageBehindTheChecksumNeverHurts) {
  std::mt19937 random(11);
  uint64_t opened = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = bytes_;
    for (int i = 0; i < 12; ++i) {
      const size_t at = 1024 + random() % (bytes.size() - 1024 - 4096);
      bytes[at] = static_cast<char>(random() % 3 == 0 ? 0xFF : random());
    }
    const auto tree = Tree::FromBytes(AsBytes(bytes), false);
    if (!tree) continue;
    opened += AskEverything(**tree) > 0 ? 1 : 0;
  }
  EXPECT_GT(opened, 200u);
}

TEST_F(TreeTest, HugeClaimedSizesEndAtTheFile) {
  const auto good = Open();
  for (const char* name : {"a", "b", "l", "many", "s"}) {
    for (const uint64_t size : {~uint64_t{0}, uint64_t{1} << 62, uint64_t{1} << 40}) {
      std::string bytes = bytes_;
      std::memcpy(bytes.data() + Find(*good, name) * 32 + 8, &size, sizeof size);
      const auto tree = Tree::FromBytes(AsBytes(bytes), false);
      ASSERT_TRUE(tree.has_value());
      EXPECT_GT(AskEverything(**tree), 0u);
    }
  }
}

}  // namespace
}  // namespace lamina
