// Random stacks of layers through IndexLayer, BuildTree and Tree against the naive model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>

#include "tests/model/compare.h"
#include "tests/model/indexed_layers.h"
#include "tests/model/naive_image.h"
#include "tests/model/random_stack.h"

namespace lamina::testing {
namespace {

constexpr int64_t kCreated = 1'700'000'000;
constexpr TreeOptions kOptions{.created_ns = kCreated * 1'000'000'000, .only_layer = {}};

struct Outcome {
  int compared = 0;
  int refused = 0;
};

// The stack through both; a layer that the model refuses must be refused by the indexer or the
// builder.
void CompareStack(uint64_t seed, Outcome* outcome) {
  const std::vector<LayerSpec> stack = RandomStack(seed);
  NaiveImage image(kCreated);
  bool valid = true;
  for (const LayerSpec& layer : stack) valid = valid && image.Apply(layer);
  IndexedLayers layers;
  Status added;
  for (const LayerSpec& layer : stack)
    if (added.has_value()) added = layers.Add(layer);
  const auto tree = added.has_value() ? layers.Build(kOptions) : added.error();
  const std::string about = "seed " + std::to_string(seed) + "\n" + Describe(stack);
  if (!valid) {
    ASSERT_FALSE(tree.has_value()) << about;
    EXPECT_EQ(tree.error().code, Code::kInvalid) << tree.error().message << "\n" << about;
    EXPECT_THAT(tree.error().message, ::testing::HasSubstr("layer ")) << about;
    ++outcome->refused;
    return;
  }
  ASSERT_TRUE(tree.has_value()) << tree.error().message << "\n" << about;
  ASSERT_EQ(Differences(image, **tree, layers), "") << about;
  ++outcome->compared;
}

TEST(MergeModelTest, RandomStacksEqualTheNaiveModel) {
  Outcome outcome;
  for (uint64_t seed = 1; seed <= 2500; ++seed)
    ASSERT_NO_FATAL_FAILURE(CompareStack(seed, &outcome));
  std::printf("%d stacks equal, %d refused by both\n", outcome.compared, outcome.refused);
  // The generator is of no use where most stacks are refused, or none.
  EXPECT_GT(outcome.compared, 1200);
  EXPECT_GT(outcome.refused, 20);
}

TEST(MergeModelTest, FreshStacksEqualTheNaiveModel) {
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const uint64_t first = static_cast<uint64_t>(now);
  std::printf("first seed %llu\n", static_cast<unsigned long long>(first));
  Outcome outcome;
  for (uint64_t seed = first; seed < first + 300; ++seed)
    ASSERT_NO_FATAL_FAILURE(CompareStack(seed, &outcome));
  EXPECT_GT(outcome.compared, 100);
}

TEST(MergeModelTest, AFolderAfterAFileOfItsLayerShowsNothingOfTheOneBelow) {
  using Type = EntrySpec::Type;
  const std::vector<LayerSpec> stack = {
      {{.type = Type::kDirectory, .path = "e", .mode = 0700}, {.path = "e/old"}},
      {{.path = "e"}, {.type = Type::kDirectory, .path = "e/", .mode = 0711}, {.path = "e/new"}}};
  NaiveImage image(kCreated);
  IndexedLayers layers;
  for (const LayerSpec& layer : stack) {
    ASSERT_TRUE(image.Apply(layer));
    ASSERT_TRUE(layers.Add(layer).has_value());
  }
  const auto tree = layers.Build(kOptions);
  ASSERT_TRUE(tree.has_value()) << tree.error().message;
  EXPECT_EQ(Differences(image, **tree, layers), "");
  const auto folder = (*tree)->Lookup((*tree)->root(), "e");
  ASSERT_TRUE(folder.has_value() && folder->has_value());
  EXPECT_TRUE((*tree)->Lookup((**folder).nid, "new")->has_value());
  EXPECT_FALSE((*tree)->Lookup((**folder).nid, "old")->has_value());
}

TEST(MergeModelTest, TheSameLayersGiveTheSameBytes) {
  int compared = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::vector<std::string> files;
    for (int round = 0; round < 2; ++round) {
      IndexedLayers layers;
      bool added = true;
      for (const LayerSpec& layer : RandomStack(seed))
        added = added && layers.Add(layer).has_value();
      if (!added) break;
      const auto tree = layers.Build(kOptions);
      if (!tree) break;
      auto bytes = ReadWholeFile((*tree)->path(), 1u << 30);
      ASSERT_TRUE(bytes.has_value());
      files.push_back(std::move(*bytes));
    }
    if (files.size() != 2) continue;  // a stack that is refused
    EXPECT_TRUE(files[0] == files[1]) << "seed " << seed;
    ++compared;
  }
  EXPECT_GT(compared, 5);
}

}  // namespace
}  // namespace lamina::testing
