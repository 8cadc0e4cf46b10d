// What happens while garbage is collected: names that come, images that are opened and entered,
// questions, a stop.

#include <gmock/gmock.h>

#include <thread>

#include "tests/unit/fs/garbage_fixture.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;

class GarbageMeanwhileTest : public GarbageTest {
 protected:
  // The image has been looked at, and nothing names it any more. Its source is still asked.
  void SetUp() override {
    GarbageTest::SetUp();
    Look();
    ASSERT_TRUE(store_->ReplaceLocalNames(store_->Sources()->front().id, {}));
    Collect();  // notes that it was used
    clock_.later = 9 * kDay;
  }
  // Does this once the next run has marked what stays, before it removes anything.
  void BetweenMarkAndSweep(std::function<void()> work) {
    Catalog::Keepers keepers;
    keepers.held = [this]() -> Result<std::vector<std::string>> { return held_; };
    keepers.held_changes = [this] { return static_cast<uint64_t>(held_.size()); };
    keepers.let_go = [work = std::move(work)](const Image&) { work(); };
    catalog_->SetKeepers(std::move(keepers));
  }
  void ExpectThatAllStays(const GarbageCollector::Collected& collected) {
    EXPECT_EQ(collected.layers, 0u);
    EXPECT_EQ(collected.trees, 0u);
    EXPECT_EQ(collected.documents, 0u);
    EXPECT_EQ(layers_->KeptLayers().size(), 2u);
    EXPECT_EQ(store_->KnownDocuments()->size(), 2u);
  }
  std::string Key() const { return Repository() + "@" + base_.ToString(); }

  std::vector<std::string> held_;
};

TEST_F(GarbageMeanwhileTest, WhatNothingNamesGoes) {
  BetweenMarkAndSweep([] {});
  EXPECT_EQ(Collect().layers, 2u);
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatGetsATagStays) {
  BetweenMarkAndSweep([&] {
    const int64_t now = clock_.NowNs();
    ASSERT_TRUE(store_->RecordTag({"docker.io/library/x", "t", base_, "https://x", now, now}));
  });
  ExpectThatAllStays(Collect());
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u);
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatIsPinnedStaysWithItsDocuments) {
  BetweenMarkAndSweep([&] {
    ASSERT_TRUE(catalog_->Pin(
        Key(), Resolution{.digest = base_, .origin = "", .repository = Repository()}));
  });
  ExpectThatAllStays(Collect());
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatAnAliasPinsStays) {
  BetweenMarkAndSweep([&] {
    ASSERT_TRUE(catalog_->SetAliases({{.repository = "localhost/mine",
                                       .name = "kept",
                                       .target_repository = Repository(),
                                       .target_tag = "",
                                       .target_digest = base_,
                                       .platform = ""}}));
  });
  ExpectThatAllStays(Collect());
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatASourceGivesStays) {
  BetweenMarkAndSweep([&] { ASSERT_TRUE(catalog_->AddSource(Source(), "localhost/again")); });
  ExpectThatAllStays(Collect(std::chrono::hours(0)));
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatIsUsedStays) {
  BetweenMarkAndSweep(
      [&] { ASSERT_TRUE(store_->RecordImage(Repository(), base_, clock_.NowNs())); });
  ExpectThatAllStays(Collect());
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 2u) << "a use is no name";
}

// [S105]
TEST_F(GarbageMeanwhileTest, WhatIsEnteredStays) {
  BetweenMarkAndSweep([&] { held_.push_back(Key()); });
  const auto collected = Collect(std::chrono::hours(0));
  ExpectThatAllStays(collected);
  EXPECT_THAT(collected.in_use, ElementsAre(Key()));
}

TEST_F(GarbageMeanwhileTest, TheKernelsHoldOnAnImageIsSeen) {
  const NodeId folder = Walk("localhost/sample/" + base_.PathName());
  ASSERT_NE(folder, 0u);
  const uint64_t before = catalog_->Namings();
  names_->NoteHeld(folder);
  const uint64_t held = catalog_->Namings();
  EXPECT_NE(held, before);
  names_->NoteHeld(folder);
  EXPECT_EQ(catalog_->Namings(), held) << "it was held before";
}

// Somebody who opens the image has found the manifest; its config goes before he has looked at it.
TEST_F(GarbageMeanwhileTest, AnImageIsNotOpenedByDocumentsThatGoMeanwhile) {
  const Digest config = [&] {
    const auto image = catalog_->OpenImage(Repository(), base_);
    return (*image)->documents().parsed_manifest.config.digest;
  }();
  for (const auto& image : catalog_->LiveImages()) catalog_->LetGo(*image);
  Leases& leases = layers_->leases();
  constexpr auto kAlways = [] { return true; };
  std::thread opener;
  const auto remove = [&] {
    opener = std::thread([&] { EXPECT_TRUE(catalog_->OpenImage(Repository(), base_)); });
    while (leases.Collect(Leases::OfDocument(base_), kAlways, [] {})) std::this_thread::yield();
    EXPECT_TRUE(store_->RemoveDocument({config, 0, INT64_MAX}));
  };
  ASSERT_TRUE(leases.Collect(Leases::OfDocument(config), kAlways, remove));
  opener.join();
  EXPECT_TRUE(store_->GetDocument(config)->has_value()) << "an open image has its documents";
}

// [S106]
TEST_F(GarbageMeanwhileTest, WhatWouldGoIsToldWhileARunIsGoingOn) {
  std::atomic<bool> told{false};
  std::thread asker;
  BetweenMarkAndSweep([&] {
    asker = std::thread([&] {
      EXPECT_TRUE(collector_->Collect({.after = 7 * kDay, .dry_run = true}));
      told = true;
    });
    const Deadline hung = Deadline::After(std::chrono::minutes(1));
    while (!told && !hung.passed()) std::this_thread::yield();
    EXPECT_TRUE(told) << "it waits for the run";
  });
  EXPECT_EQ(Collect().layers, 2u);
  asker.join();
}

TEST_F(GarbageMeanwhileTest, AStopEndsTheRun) {
  BetweenMarkAndSweep([&] { layers_->Cancel(); });
  const auto collected = collector_->Collect({.after = 7 * kDay});
  ASSERT_FALSE(collected);
  EXPECT_EQ(collected.error().code, Code::kCancelled);
  EXPECT_EQ(layers_->KeptLayers().size(), 2u);
}

}  // namespace
}  // namespace lamina
