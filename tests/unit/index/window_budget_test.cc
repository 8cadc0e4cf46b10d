// The memory of zstd windows of all decoders together.

#include "index/window_budget.h"

#include <gtest/gtest.h>

#include <thread>

#include "index/compression.h"
#include "index/layer_indexer.h"
#include "tests/support/tar_builder.h"
#include "tests/unit/index/codec_tools.h"
#include "tests/unit/index/index_tools.h"

namespace lamina::testing {
namespace {

constexpr uint64_t kMiB = 1 << 20;

Deadline Passed() { return Deadline::After(std::chrono::milliseconds(0)); }

std::unique_ptr<StreamDecoder> Decoder(WindowBudget& budget, const std::string& owner = "here") {
  return StreamDecoder::Create(
      Compression::kZstd,
      {.budget = &budget, .owner = owner, .deadline = std::make_shared<Deadline>(Passed())});
}

TEST(WindowBudgetTest, ADecoderHoldsItsLargeWindowWhileItLives) {
  WindowBudget budget;
  const std::string packed = Pipe("zstd -q -c --long=27", "content");
  {
    const auto decoder = Decoder(budget);
    EXPECT_EQ(DecodeAll(*decoder, packed).bytes, "content");
    EXPECT_GE(budget.held(), 128 * kMiB);
    EXPECT_LT(budget.held(), 130 * kMiB);
  }
  EXPECT_EQ(budget.held(), 0u);
}

TEST(WindowBudgetTest, UsualWindowsAreFreeOfIt) {
  WindowBudget budget(1);
  ASSERT_TRUE(budget.Acquire("other", 1, nullptr, nullptr));
  for (const char* command : {"zstd -q -c -3", "zstd -q -c -19"}) {
    const auto decoder = Decoder(budget);
    EXPECT_EQ(DecodeAll(*decoder, Pipe(command, "content")).bytes, "content") << command;
  }
}

TEST(WindowBudgetTest, ADecoderThatGetsNoneInTimeSaysSo) {
  WindowBudget budget(200 * kMiB);
  const std::string packed = Pipe("zstd -q -c --long=27", "content");
  ASSERT_TRUE(budget.Acquire("other", 100 * kMiB, nullptr, nullptr));
  const Decoded refused = DecodeAll(*Decoder(budget), packed);
  ASSERT_FALSE(refused.status.has_value());
  EXPECT_EQ(refused.status.error().code, Code::kTimeout) << refused.status.error().message;
  EXPECT_NE(refused.status.error().message.find("128"), std::string::npos);
  EXPECT_EQ(budget.held(), 100 * kMiB);
  budget.Release("other", 100 * kMiB);
  EXPECT_EQ(DecodeAll(*Decoder(budget), packed).bytes, "content");
}

TEST(WindowBudgetTest, ADecoderLetsItsWindowGoBeforeItWaitsForALargerOne) {
  WindowBudget budget(150 * kMiB);
  const auto decoder = Decoder(budget);
  const std::string packed =
      Pipe("zstd -q -c --long=25", "small") + Pipe("zstd -q -c --long=27", "large");
  EXPECT_EQ(DecodeAll(*decoder, packed).bytes, "smalllarge");
  EXPECT_GE(budget.held(), 128 * kMiB);
}

TEST(WindowBudgetTest, NoOwnerGetsMoreThanHalf) {
  WindowBudget budget(400);
  const Deadline passed = Passed();
  EXPECT_TRUE(budget.Acquire("a", 150, &passed, nullptr));
  EXPECT_FALSE(budget.Acquire("a", 51, &passed, nullptr));
  EXPECT_TRUE(budget.Acquire("a", 50, &passed, nullptr));
  EXPECT_TRUE(budget.Acquire("b", 150, &passed, nullptr));
  EXPECT_FALSE(budget.Acquire("c", 51, &passed, nullptr));
  budget.Release("a", 150);
  EXPECT_TRUE(budget.Acquire("c", 51, &passed, nullptr));
  EXPECT_EQ(budget.held(), 251u);
}

TEST(WindowBudgetTest, AllBlobsOfARegistryHaveOneOwner) {
  EXPECT_EQ(OwnerOf("https://registry.example:5000/v2/a/blobs/sha256:1"),
            "https://registry.example:5000");
  EXPECT_EQ(OwnerOf("https://registry.example"), "https://registry.example");
  EXPECT_EQ(OwnerOf("oci:/srv/images"), "oci:/srv/images");
}

TEST(WindowBudgetTest, WhatIsLargerThanAllOfItIsGivenAlone) {
  WindowBudget budget(10);
  const Deadline passed = Passed();
  EXPECT_TRUE(budget.Acquire("a", 100, &passed, nullptr));
  EXPECT_FALSE(budget.Acquire("b", 1, &passed, nullptr));
}

TEST(WindowBudgetTest, AWaitEndsWhenItIsCancelled) {
  WindowBudget budget(10);
  ASSERT_TRUE(budget.Acquire("a", 10, nullptr, nullptr));
  const std::atomic<bool> cancel{true};
  EXPECT_FALSE(budget.Acquire("b", 1, nullptr, &cancel));
}

TEST(WindowBudgetTest, AnIndexingPassWaitsForItsWindow) {
  const std::string blob = Pipe("zstd -q -c --long=27", TarBuilder().File("a", "1").Finish());
  WindowBudget budget(200 * kMiB);
  ASSERT_TRUE(budget.Acquire("other", 200 * kMiB, nullptr, nullptr));
  IndexLab lab;
  IndexRequest request = lab.RequestFor(blob);
  request.windows = &budget;
  std::atomic<bool> indexed{false};
  std::thread pass([&] {
    const auto layer = lab.Index(blob, request);
    EXPECT_TRUE(layer.has_value()) << layer.error().message;
    indexed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(indexed);
  budget.Release("other", 200 * kMiB);
  pass.join();
  EXPECT_EQ(budget.held(), 0u);
}

}  // namespace
}  // namespace lamina::testing
