// What hard links to lower layers cost: they are resolved once, share the walk to their folder, and
// end at a limit.

#include "overlay/link_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "overlay/tree_builder.h"
#include "tests/unit/overlay/hand_layer.h"

namespace lamina::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kDepth = 100;
constexpr uint32_t kLower = 20;  // layers that all have the same chains of folders
constexpr int kLinks = 200;

std::string ChainPath(const std::string& top) {
  std::string path = top;
  for (uint32_t i = 1; i < kDepth; ++i) path += "/d";
  return path;
}

HandEntry Chain(const std::string& top, const HandEntry& file) {
  HandEntry chain = Folder("d", {file});
  for (uint32_t i = 2; i < kDepth; ++i) chain = Folder("d", {chain});
  chain = Folder(top, {chain});
  return chain;
}

class LinkResolverTest : public ::testing::Test {
 protected:
  LinkResolverTest() : folder_(std::move(TemporaryFolder::Create("lamina-links")).value()) {
    for (uint32_t i = 0; i < kLower; ++i) {
      const HandEntry file{.name = i == 0 ? "file" : "other"};
      Add({Chain("a", file), Chain("b", file)});
    }
  }
  void Add(std::vector<HandEntry> children) {
    const std::string path = folder_.path() + "/layer" + std::to_string(layers_.size());
    layers_.push_back(MakeLayer(Folder("", std::move(children)), path));
  }
  // Links to the one file at the end of a chain; neighbours take chains in turn.
  void AddLinks(const std::vector<std::string>& chains) {
    std::vector<HandEntry> links;
    for (int i = 0; i < kLinks; ++i)
      links.push_back(LinkTo("l" + std::to_string(1000 + i),
                             ChainPath(chains[static_cast<size_t>(i) % chains.size()]) + "/file"));
    Add(std::move(links));
  }
  Result<TreeFacts> Build(TreeOptions options) {
    return BuildTree(layers_, options, folder_.path() + "/tree");
  }

  TemporaryFolder folder_;
  std::vector<std::shared_ptr<const LayerIndex>> layers_;
};

TEST_F(LinkResolverTest, LinksIntoOneFolderWalkToItOnce) {
  AddLinks({"a"});
  // One walk looks at two thousand folders, each lookup of the file at twenty.
  BuildWork work(kDepth * kLower * 4 + kLinks * kLower * 4, nullptr);
  const LayerStack stack(layers_);
  LinkResolver links(stack, work);
  const Status checked = links.Check(kLower);
  EXPECT_TRUE(checked.has_value()) << checked.error().message;
}

TEST_F(LinkResolverTest, ACheckedLinkIsNotWalkedAgain) {
  AddLinks({"a"});
  Add({LinkTo("z", "l1000")});
  BuildWork work(1'000'000, nullptr);
  const LayerStack stack(layers_);
  LinkResolver links(stack, work);
  ASSERT_TRUE(links.Check(kLower).has_value());
  ResolvedName link;
  link.kind = ResolvedName::Kind::kExternalLink;
  link.layer = kLower;
  link.entry = 1;
  link.link_path = layers_[kLower]->Entry(1)->link_path;
  const uint64_t before = work.steps();
  EXPECT_EQ(links.Follow(link)->layer, 0u);
  EXPECT_EQ(work.steps(), before);
  // A link to it costs its own walk only, which is one name long.
  ASSERT_TRUE(links.Check(kLower + 1).has_value());
  EXPECT_LT(work.steps() - before, kDepth);
}

TEST_F(LinkResolverTest, TheStepsOfABuildAreLimited) {
  AddLinks({"a", "b"});
  const auto refused = Build({.only_layer = {}, .step_limit = 100'000});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kLimit);
  EXPECT_THAT(refused.error().message,
              AllOf(HasSubstr("layer 20 ("), HasSubstr("hard link"), HasSubstr("limit of 100000")));
  EXPECT_TRUE(Build({.only_layer = {}}).has_value());
}

TEST_F(LinkResolverTest, LookupsForALayersOwnTreeAreLimited) {
  std::vector<HandEntry> folders;
  for (int i = 0; i < 1000; ++i) folders.push_back(Folder("f" + std::to_string(1000 + i), {}));
  Add(folders);
  EXPECT_EQ(Build({.only_layer = kLower, .step_limit = 10'000}).error().code, Code::kLimit);
}

TEST_F(LinkResolverTest, ABuildIsCancelled) {
  std::atomic<bool> cancel{true};
  const auto refused = Build({.only_layer = {}, .cancel = &cancel});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kCancelled);
  EXPECT_FALSE(FileExists(folder_.path() + "/tree"));
}

}  // namespace
}  // namespace lamina::testing
