#include "overlay/tree_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "overlay/tree_builder.h"
#include "overlay/tree_walk.h"
#include "tests/unit/overlay/hand_layer.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;
using testing::Folder;
using testing::HandEntry;
using ::testing::HasSubstr;

HandEntry Symlink(std::string name, std::string target) {
  return {.name = std::move(name), .type = EntryType::kSymlink, .target = std::move(target)};
}

class TreePathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TemporaryFolder::Create("lamina-path");
    ASSERT_TRUE(folder.has_value());
    folder_.emplace(std::move(*folder));
    const HandEntry root =
        Folder("", {Folder("a", {Folder("b", {{.name = "file"}}), Symlink("up", "../top"),
                                 Symlink("way", "/a/./b/../b")}),
                    Symlink("loop", "loop"),
                    Symlink("out", "/../../top"),
                    Symlink("slash", "top/"),
                    {.name = "top"}});
    const std::vector<std::shared_ptr<const LayerIndex>> layers{
        testing::MakeLayer(root, folder_->path() + "/layer")};
    ASSERT_TRUE(BuildTree(layers, TreeOptions{}, folder_->path() + "/tree").has_value());
    tree_ = Tree::Open(folder_->path() + "/tree").value();
  }

  Nid Lookup(Nid directory, std::string_view name) const {
    return tree_->Lookup(directory, name).value()->nid;
  }
  Nid Top() const { return Lookup(tree_->root(), "top"); }
  Nid Found(std::string_view path, bool follow_last = true) const {
    auto found = FindInTree(*tree_, path, follow_last);
    EXPECT_TRUE(found.has_value()) << found.error().message;
    return found ? *found : 0;
  }
  Error Refusal(std::string_view path, bool follow_last = true) const {
    auto found = FindInTree(*tree_, path, follow_last);
    EXPECT_FALSE(found.has_value()) << path;
    return found ? Error{} : found.error();
  }

  std::optional<TemporaryFolder> folder_;
  std::shared_ptr<const Tree> tree_;
};

TEST_F(TreePathTest, NamesLeadDown) {
  const Nid a = Lookup(tree_->root(), "a");
  const Nid b = Lookup(a, "b");
  EXPECT_EQ(Found(""), tree_->root());
  EXPECT_EQ(Found("/"), tree_->root());
  EXPECT_EQ(Found("/top"), Top());
  EXPECT_EQ(Found("a//b/"), b);
  EXPECT_EQ(Found("/a/./b/../b/file"), Lookup(b, "file"));
}

TEST_F(TreePathTest, NothingLeadsOut) {
  EXPECT_EQ(Found("/../../top"), Top());
  EXPECT_EQ(Found("out"), Top());
  EXPECT_EQ(Found("a/up"), Top());
  EXPECT_EQ(Found("a/way/file"), Found("a/b/file"));
}

TEST_F(TreePathTest, ALinkAtTheEndIsItselfUnlessFollowed) {
  const Nid link = Lookup(Lookup(tree_->root(), "a"), "up");
  EXPECT_EQ(Found("a/up", false), link);
  EXPECT_EQ(Found("a/way/", false), Found("a/b"));
}

TEST_F(TreePathTest, WhatIsNotThereIsNamed) {
  EXPECT_EQ(Refusal("a/none").code, Code::kNotFound);
  EXPECT_THAT(Refusal("a/none/more").message, HasSubstr("there is no 'none'"));
  EXPECT_EQ(Refusal("top/more").code, Code::kInvalid);
  EXPECT_THAT(Refusal("top/").message, HasSubstr("is no directory"));
  EXPECT_EQ(Refusal("slash").code, Code::kInvalid);
}

TEST_F(TreePathTest, LoopsEnd) {
  EXPECT_EQ(Refusal("loop").code, Code::kLimit);
  EXPECT_EQ(Refusal("loop/more", false).code, Code::kLimit);
  std::string path;
  for (int i = 0; i < 70'000; ++i) path += "a/../";
  EXPECT_EQ(Refusal(path).code, Code::kLimit);
}

std::vector<std::string> Walked(const Tree& tree, Nid start, size_t depth) {
  std::vector<std::string> seen;
  const Status walked = WalkTree(tree, start, depth, [&](const WalkedEntry& entry) -> Status {
    seen.push_back(std::to_string(entry.depth) + (entry.last ? "." : " ") +
                   std::string(entry.path));
    return {};
  });
  EXPECT_TRUE(walked.has_value());
  return seen;
}

TEST_F(TreePathTest, AWalkSeesDirectoriesBeforeWhatIsInThem) {
  EXPECT_THAT(Walked(*tree_, tree_->root(), 100),
              ElementsAre("0.", "1 a", "2 a/b", "3.a/b/file", "2 a/up", "2.a/way", "1 loop",
                          "1 out", "1 slash", "1.top"));
  EXPECT_THAT(Walked(*tree_, Found("a"), 1), ElementsAre("0.", "1 b", "1 up", "1.way"));
  EXPECT_THAT(Walked(*tree_, Found("a"), 0), ElementsAre("0."));
  EXPECT_THAT(Walked(*tree_, Top(), 5), ElementsAre("0."));
}

TEST_F(TreePathTest, TheVisitorsErrorEndsTheWalk) {
  int seen = 0;
  const Status walked = WalkTree(*tree_, tree_->root(), 100, [&](const WalkedEntry&) -> Status {
    if (++seen == 3) return Error{Code::kCancelled, "enough"};
    return {};
  });
  ASSERT_FALSE(walked.has_value());
  EXPECT_EQ(walked.error().message, "enough");
  EXPECT_EQ(seen, 3);
}

}  // namespace
}  // namespace lamina
