// What one layer's tree may cost: bytes of memory, steps along its paths; and that it can be
// stopped.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "index/layer_tree.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Repeat(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

TarEntry Link(EntryType type, std::string path, std::string target) {
  TarEntry entry;
  entry.type = type;
  entry.path = std::move(path);
  entry.link_target = std::move(target);
  return entry;
}

TarEntry File(std::string path) { return Link(EntryType::kRegular, std::move(path), {}); }

TarEntry Folder(std::string path) { return Link(EntryType::kDirectory, std::move(path), {}); }

class LayerTreeLimitsTest : public ::testing::Test {
 protected:
  struct Made {
    explicit Made(const std::string& folder, const LayerTreeLimits& limits)
        : writer(folder + "/layer.idx"), tree(writer, limits, [](const std::string&) {}) {}
    LayerIndexWriter writer;
    LayerTree tree;
  };
  std::unique_ptr<Made> Make(const LayerTreeLimits& limits) {
    return std::make_unique<Made>(lab_.folder(), limits);
  }
  // Adds entries until one is refused, at most `most`.
  static std::optional<Error> AddUntilRefused(LayerTree& tree, int most,
                                              const std::function<TarEntry(int)>& entry) {
    for (int i = 0; i < most; ++i) {
      Result<bool> added = tree.Add(entry(i));
      if (!added) return std::move(added).error();
    }
    return std::nullopt;
  }
  IndexLab lab_;
};

// Paths as a distribution's /usr/share or a node_modules has them: twelve files a directory, names
// of fifteen bytes.
TEST_F(LayerTreeLimitsTest, AMillionOrdinaryEntriesTakeSixtyFourBytesEach) {
  const auto made = Make({});
  constexpr int kEntries = 1'000'000;
  const auto failed = AddUntilRefused(made->tree, kEntries, [](int i) {
    const std::string directory =
        "usr/share/package-" + std::to_string(i / 1200) + "/folder-" + std::to_string(i / 12);
    return i % 12 == 0 ? Folder(directory) : File(directory + "/file-" + std::to_string(i) + ".js");
  });
  ASSERT_FALSE(failed.has_value()) << failed->message;
  EXPECT_LT(made->tree.memory_bytes(), uint64_t{kEntries} * 64);
  EXPECT_TRUE(made->tree.Emit().has_value());
}

TEST_F(LayerTreeLimitsTest, LongNamesEndAtTheLimitOfMemory) {
  LayerTreeLimits limits;
  limits.memory = 4u << 20;
  const auto made = Make(limits);
  const auto refused = AddUntilRefused(made->tree, 100'000, [](int i) {
    const std::string number = std::to_string(i);
    return File(std::string(255 - number.size(), 'n') + number);
  });
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kLimit);
  EXPECT_THAT(refused->message, AllOf(HasSubstr("memory"), HasSubstr("limit of 4.0 MiB")));
  EXPECT_LE(made->tree.memory_bytes(), limits.memory);
}

TEST_F(LayerTreeLimitsTest, ReplacedEntriesCountAgainstTheLimitOfMemory) {
  LayerTreeLimits limits;
  limits.memory = 1u << 20;
  const auto made = Make(limits);
  const auto refused = AddUntilRefused(made->tree, 1'000'000,
                                       [](int i) { return i % 2 ? File("d") : File("d2/x"); });
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kLimit);
}

TEST_F(LayerTreeLimitsTest, PassesShareOneBudgetAndGiveItBack) {
  MemoryBudget budget(1u << 20);
  LayerTreeLimits limits;
  limits.shared_memory = &budget;
  const auto entry = [](int i) { return File(std::string(200, 'n') + std::to_string(i)); };
  auto first = Make(limits);
  EXPECT_FALSE(AddUntilRefused(first->tree, 3000, entry).has_value());
  EXPECT_EQ(budget.used(), first->tree.memory_bytes());
  const auto second = Make(limits);
  const auto refused = AddUntilRefused(second->tree, 3000, entry);
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kLimit);
  EXPECT_THAT(refused->message, AllOf(HasSubstr("all layers"), HasSubstr("limit of 1.0 MiB")));
  first.reset();
  EXPECT_EQ(budget.used(), second->tree.memory_bytes());
  EXPECT_FALSE(AddUntilRefused(Make(limits)->tree, 1000, entry).has_value());
}

TEST_F(LayerTreeLimitsTest, EntriesOfOneFolderWalkToItOnce) {
  LayerTreeLimits limits;
  limits.steps = 20'000;
  const auto made = Make(limits);
  const std::string deep = Repeat("d/", 900);
  const auto refused =
      AddUntilRefused(made->tree, 10'000, [&](int i) { return File(deep + std::to_string(i)); });
  EXPECT_FALSE(refused.has_value()) << refused->message;
}

TEST_F(LayerTreeLimitsTest, TheStepsOfALayerAreLimited) {
  LayerTreeLimits limits;
  limits.steps = 1'000'000;
  const auto made = Make(limits);
  const std::string deep = Repeat("d/", 900);
  const auto refused = AddUntilRefused(made->tree, 10'000, [&](int i) {
    return File((i % 2 == 0 ? "a/" : "b/") + deep + std::to_string(i));
  });
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kLimit);
  EXPECT_THAT(refused->message, AllOf(HasSubstr("steps"), HasSubstr("limit of 1000000")));
}

TEST_F(LayerTreeLimitsTest, FollowedLinksCountAsSteps) {
  LayerTreeLimits limits;
  limits.steps = 100'000;
  const auto made = Make(limits);
  ASSERT_TRUE(made->tree.Add(Folder("target")).has_value());
  ASSERT_TRUE(made->tree.Add(Link(EntryType::kSymlink, "l0", "target")).has_value());
  for (int i = 1; i < 200; ++i)
    ASSERT_TRUE(
        made->tree
            .Add(Link(EntryType::kSymlink, "l" + std::to_string(i), "l" + std::to_string(i - 1)))
            .has_value());
  const auto refused = AddUntilRefused(made->tree, 100, [](int i) {
    return File("l" + std::to_string(150 + i % 2) + "/f" + std::to_string(i));
  });
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(refused->code, Code::kLimit);
}

TEST_F(LayerTreeLimitsTest, AMemoOfAPathEndsWithWhatItPassed) {
  const auto made = Make({});
  LayerTree& tree = made->tree;
  ASSERT_TRUE(tree.Add(Folder("a")).has_value());
  ASSERT_TRUE(tree.Add(Link(EntryType::kSymlink, "l", "a")).has_value());
  ASSERT_TRUE(tree.Add(File("l/x")).has_value());
  ASSERT_TRUE(tree.Add(Link(EntryType::kHardlink, "h", "l/x")).has_value());
  ASSERT_TRUE(tree.Add(Folder("l")).has_value());
  ASSERT_TRUE(tree.Add(File("l/y")).has_value());
  ASSERT_TRUE(tree.Emit().has_value());
  const Digest digest = Digest::Sha256({});
  auto file = made->writer.Write({.blob_digest = digest, .diff_id = digest}, "a test", {});
  ASSERT_TRUE(file.has_value());
  IndexedLayer layer{{}, std::make_shared<MemorySink>(), nullptr};
  layer.index = std::move(LayerIndex::Open(file->temporary_path(), digest)).value();
  EXPECT_THAT(TreeOf(layer),
              ::testing::ElementsAre("d a", "f a/x=", "= h a/x", "d(replaces) l", "f l/y="));
}

TEST_F(LayerTreeLimitsTest, APathOfALinkIsLimitedOnceItsSymlinksAreFollowed) {
  const auto made = Make({});
  LayerTree& tree = made->tree;
  const std::string name(200, 'n');
  std::string path;
  for (int i = 0; i < 30; ++i) {
    path = i == 0 ? name : "l" + std::to_string(i - 1) + "/" + name;
    ASSERT_TRUE(tree.Add(Folder(path)).has_value());
    ASSERT_TRUE(tree.Add(Link(EntryType::kSymlink, "l" + std::to_string(i), path)).has_value());
  }
  const auto refused = tree.Add(Link(EntryType::kHardlink, "h", "l29/below"));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kLimit);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("6035 bytes"), HasSubstr("4096")));
}

TEST_F(LayerTreeLimitsTest, ATreeIsCancelled) {
  std::atomic<bool> cancel{false};
  LayerTreeLimits limits;
  limits.cancel = &cancel;
  const auto made = Make(limits);
  ASSERT_TRUE(made->tree.Add(File("a")).has_value());
  cancel = true;
  EXPECT_EQ(made->tree.Add(File("b")).error().code, Code::kCancelled);
  EXPECT_EQ(made->tree.Emit().error().code, Code::kCancelled);
}

}  // namespace
}  // namespace lamina::testing
