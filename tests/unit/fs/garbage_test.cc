// What is collected as garbage, when, and what keeps it.

#include "fs/garbage.h"

#include <gmock/gmock.h>

#include <thread>

#include "fs/garbage_keeper.h"
#include "index/sqlite.h"
#include "tests/unit/fs/garbage_fixture.h"

namespace lamina {
namespace {

using ::testing::ElementsAre;

TEST_F(GarbageTest, WhatNothingNamesGoesWhenItsTimeIsOver) {
  Look();
  ASSERT_TRUE(catalog_->Forget(Source()));
  EXPECT_EQ(Collect().layers, 0u) << "it was used now";
  clock_.later = 6 * kDay;
  EXPECT_EQ(Collect().layers, 0u);
  clock_.later = 9 * kDay;
  const auto would = collector_->Collect({.after = 7 * kDay, .dry_run = true});
  ASSERT_TRUE(would);
  EXPECT_EQ(would->layers, 2u);
  EXPECT_TRUE(FileExists(Index()));
  const auto collected = Collect();
  EXPECT_EQ(collected.layers, 2u);
  EXPECT_EQ(collected.trees, 1u);
  EXPECT_EQ(collected.documents, 2u) << "manifest and config";
  EXPECT_THAT(collected.in_use, ElementsAre());
  EXPECT_GT(collected.bytes, 3u << 20);
  EXPECT_FALSE(FileExists(Index()));
  EXPECT_TRUE(layers_->KeptLayers().empty());
  EXPECT_TRUE(store_->KnownImages()->empty());
  EXPECT_TRUE(store_->KnownDocuments()->empty());
  EXPECT_EQ(layers_->cache_budget().used(), 0u);
  EXPECT_EQ(layers_->garbage_counters().collected, 5u);
  EXPECT_EQ(layers_->garbage_counters().freed_bytes, collected.bytes);
  ASSERT_TRUE(catalog_->AddSource(Source(), Repository()));
  Look();
  EXPECT_EQ(layers_->counters().indexed, 4u) << "made again";
}

TEST_F(GarbageTest, WhatIsUsedStays) {
  Look();
  ASSERT_TRUE(catalog_->Forget(Source()));
  Collect();
  for (int week = 1; week < 5; ++week) {
    clock_.later = week * 6 * kDay;
    Look();  // from memory: only the collector writes down that it was used
    EXPECT_EQ(Collect().layers, 0u);
  }
  Restart();
  MakeCollector();
  clock_.later = 30 * kDay;
  EXPECT_EQ(Collect().layers, 0u) << "used six days ago, as the store knows";
  clock_.later = 32 * kDay;
  EXPECT_EQ(Collect().layers, 2u);
}

TEST_F(GarbageTest, WhatASourceNamesStaysForEver) {
  Look();
  clock_.later = 1000 * kDay;
  for (int i = 0; i < 2; ++i) {
    const auto collected = Collect(std::chrono::hours(0));
    EXPECT_EQ(collected.bytes, 0u);
  }
  Restart();
  Look();
  EXPECT_EQ(layers_->counters().indexed, 0u);
}

TEST_F(GarbageTest, WhatATagWasOfLateStays) {
  Look();
  ASSERT_TRUE(catalog_->Forget(Source()));
  const int64_t now = clock_.NowNs();
  ASSERT_TRUE(store_->RecordTag({"docker.io/library/x", "t", base_, "https://x", now, now}));
  clock_.later = 100 * kDay;
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u) << "what a tag is, stays for ever";
  // It moves, and was seen at the old digest a moment ago.
  const int64_t then = clock_.NowNs();
  ASSERT_TRUE(store_->RecordTag({"docker.io/library/x", "t", base_, "https://x", then, then}));
  ASSERT_TRUE(store_->RecordTag(
      {"docker.io/library/x", "t", Digest::Sha256(AsBytes("new")), "https://x", then, then}));
  Restart();
  MakeCollector();
  clock_.later = 106 * kDay;
  EXPECT_EQ(Collect().layers, 0u);
  clock_.later = 108 * kDay;
  EXPECT_EQ(Collect().layers, 2u);
}

TEST_F(GarbageTest, AnImageThatTheKernelHoldsStays) {
  const NodeId folder = Walk("localhost/sample/" + base_.PathName());
  ASSERT_NE(folder, 0u);
  Look();
  names_->NoteHeld(folder);
  names_->NoteHeld(folder);
  ASSERT_TRUE(catalog_->Forget(Source()));
  const std::string key = Repository() + "@" + base_.ToString();
  const auto held = Collect(std::chrono::hours(0));
  EXPECT_EQ(held.bytes, 0u);
  EXPECT_THAT(held.in_use, ElementsAre(key));
  names_->NoteForgotten(folder, 1);
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u);
  names_->NoteForgotten(folder, 1);
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 2u);
}

TEST_F(GarbageTest, AnImageThatIsAtWorkStays) {
  {
    const auto image = catalog_->OpenImage(Repository(), base_);
    ASSERT_TRUE(image && (*image)->EnsureTree());
    ASSERT_TRUE(catalog_->Forget(Source()));
    const auto held = Collect(std::chrono::hours(0));
    EXPECT_EQ(held.bytes, 0u);
    EXPECT_EQ(held.in_use.size(), 1u);
    EXPECT_EQ(store_->KnownImages()->size(), 1u);
  }
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 2u);
}

// [S107] It keeps nothing else: what an image had that was forgotten goes.
TEST_F(GarbageTest, ACompressedArchiveThatIsAwayKeepsItsIndexUntilItIsForgotten) {
  Shell("tar -C " + layout_->folder() + " -czf " + Path("a.tar.gz") + " .");
  ASSERT_TRUE(catalog_->AddSource("oci-archive:" + Path("a.tar.gz"), "localhost/packed"));
  Restart();
  MakeCollector();
  clock_.later = 100 * kDay;
  ASSERT_EQ(layers_->KeptLayers().size(), 1u);
  Shell("mv " + Path("a.tar.gz") + " " + Path("away"));
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u);
  const Digest orphan = Digest::Sha256(AsBytes("of no image"));
  ASSERT_TRUE(WriteFileAtomically(paths_.Index(orphan), AsBytes("x")));
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 1u);
  EXPECT_FALSE(FileExists(paths_.Index(orphan)));
  Shell("mv " + Path("away") + " " + Path("a.tar.gz"));
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u);
  Shell("rm " + Path("a.tar.gz"));
  ASSERT_TRUE(catalog_->Forget("oci-archive:" + Path("a.tar.gz")));
  Restart();
  MakeCollector();
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 1u);
}

TEST_F(GarbageTest, AnArchiveThatHasChangedKeepsTheIndexOfWhatItIsNow) {
  Shell("tar -C " + layout_->folder() + " -czf " + Path("a.tar.gz") + " .");
  ASSERT_TRUE(catalog_->AddSource("oci-archive:" + Path("a.tar.gz"), "localhost/packed"));
  Shell("touch -d 2020-01-01 " + Path("a.tar.gz"));
  Restart();
  MakeCollector();
  ASSERT_TRUE(catalog_->ResolveTag("localhost/packed", "base"));
  Restart();
  MakeCollector();
  ASSERT_EQ(layers_->KeptLayers().size(), 2u);
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 1u);
  Shell("rm " + Path("a.tar.gz"));
  EXPECT_EQ(Collect(std::chrono::hours(0)).layers, 0u);
}

// [S108] While the clock was wrong everything happened long after today.
TEST_F(GarbageTest, TimesThatAreStillToComeCountFromNow) {
  Look();
  ASSERT_TRUE(catalog_->Forget(Source()));
  const std::string aside = paths_.Database() + ".corrupt-2099-01-01T00:00:00Z";
  ASSERT_TRUE(WriteFileAtomically(aside, AsBytes("rot")));
  const int64_t later = clock_.NowNs() + std::chrono::nanoseconds(10'000 * kDay).count();
  ASSERT_TRUE(store_->RecordImage(Repository(), base_, later));
  ASSERT_TRUE(store_->RecordTag({"docker.io/library/x", "t", base_, "https://x", later, later}));
  ASSERT_TRUE(store_->RecordTag(
      {"docker.io/library/x", "t", Digest::Sha256(AsBytes("new")), "https://x", later, later}));
  Restart();
  MakeCollector();
  {
    const auto database = Database::Open(paths_.Database());
    ASSERT_TRUE(database) << database.error().message;
    ASSERT_TRUE((*database)->Execute("UPDATE began SET began_ns=" + std::to_string(later) +
                                     "; UPDATE document SET kept_ns=" + std::to_string(later)));
  }
  Shell("touch -d 2099-01-01 " + paths_.IndexFolder() + "/* " + paths_.TreeFolder() + "/* " +
        paths_.CacheFolder() + "/* " + aside);
  EXPECT_EQ(Collect().bytes, 0u);
  clock_.later = 6 * kDay;
  EXPECT_EQ(Collect().bytes, 0u);
  clock_.later = 8 * kDay;
  const auto collected = Collect();
  EXPECT_EQ(collected.layers, 2u);
  EXPECT_EQ(collected.trees, 1u);
  EXPECT_EQ(collected.documents, 2u);
  EXPECT_EQ(collected.databases, 1u);
  EXPECT_TRUE(store_->KnownImages()->empty());
}

// What it named is not known any more, and is not garbage therefore.
TEST_F(GarbageTest, ADocumentThatIsLostEndsTheRunAndMakesEverythingNew) {
  Look();
  clock_.later = 100 * kDay;
  const Digest config = [&] {
    const auto image = catalog_->OpenImage(Repository(), base_);
    return (*image)->documents().parsed_manifest.config.digest;
  }();
  Restart();
  MakeCollector();
  {
    const auto database = Database::Open(paths_.Database());
    ASSERT_TRUE(database) << database.error().message;
    ASSERT_TRUE((*database)->Execute("UPDATE document SET bytes='rot' WHERE digest='" +
                                     config.ToString() + "'"));
  }
  const size_t layers = layers_->KeptLayers().size();
  ASSERT_EQ(layers, 2u);
  EXPECT_FALSE(collector_->Collect({.after = 7 * kDay}));
  clock_.later = std::chrono::hours(0);
  EXPECT_EQ(Collect().layers, 0u);
  EXPECT_EQ(layers_->KeptLayers().size(), layers);
}

TEST_F(GarbageTest, NotesOfRefusalsAndDatabasesThatWereSetAsideGo) {
  const Digest layer = Digest::Sha256(AsBytes("refused"));
  ASSERT_TRUE(WriteFileAtomically(paths_.Refusal(layer), AsBytes("no")));
  const std::string aside = paths_.Database() + ".corrupt-2026-01-01T00:00:00Z";
  ASSERT_TRUE(WriteFileAtomically(aside, AsBytes("rot")));
  ASSERT_TRUE(WriteFileAtomically(paths_.root + "/mine", AsBytes("of somebody else")));
  EXPECT_EQ(Collect().bytes, 0u);
  clock_.later = 8 * kDay;
  const auto collected = Collect();
  EXPECT_EQ(collected.layers, 1u);
  EXPECT_EQ(collected.databases, 1u);
  EXPECT_FALSE(FileExists(paths_.Refusal(layer)));
  EXPECT_FALSE(FileExists(aside));
  EXPECT_TRUE(FileExists(paths_.root + "/mine"));
}

TEST_F(GarbageTest, ADatabaseThatWasLostIsNoReasonToDropWhatIsOld) {
  Look();
  Shell("touch -d 2020-01-01 " + paths_.IndexFolder() + "/* " + paths_.TreeFolder() + "/* " +
        paths_.CacheFolder() + "/*");
  names_.reset();
  catalog_.reset();
  layers_.reset();
  store_.reset();
  Shell("rm " + paths_.Database() + "*");
  Restart();
  MakeCollector();
  EXPECT_EQ(Collect().layers, 0u);
  clock_.later = 8 * kDay;
  EXPECT_EQ(Collect().layers, 2u);
}

// The sources stay, in memory, while the store knows no name any more.
TEST_F(GarbageTest, ReadersGetTheRightBytesWhileTheirImageIsCollected) {
  ASSERT_TRUE(store_->ReplaceLocalNames(store_->Sources()->front().id, {}));
  const auto expected = ReadWholeFile(Path("lower/dir/big"), 4u << 20);
  ASSERT_TRUE(expected);
  std::atomic<int> reading{3};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i)
    readers.emplace_back([&] {
      for (int n = 0; n < 15; ++n) {
        const auto bytes = ReadBig();
        if (!bytes) ADD_FAILURE() << bytes.error().message;
        if (!bytes || AsText(*bytes) != *expected) ++wrong;
      }
      --reading;
    });
  uint64_t collected = 0;
  while (reading > 0) collected += Collect(std::chrono::hours(0)).layers;
  for (std::thread& reader : readers) reader.join();
  collected += Collect(std::chrono::hours(0)).layers;
  EXPECT_EQ(wrong, 0);
  EXPECT_GE(collected, 2u);
  EXPECT_EQ(layers_->cache_counters().rotten, 0u);
  EXPECT_EQ(layers_->cache_budget().used(), 0u);
}

TEST_F(GarbageTest, TheKeeperCollectsByItself) {
  Look();
  ASSERT_TRUE(catalog_->Forget(Source()));
  Collect();
  clock_.later = 8 * kDay;
  {
    const GarbageKeeper keeper(
        *collector_,
        {.after = 7 * kDay, .first = std::chrono::milliseconds(0), .every = std::chrono::hours(1)});
    const Deadline enough = Deadline::After(std::chrono::minutes(1));
    while (layers_->garbage_counters().runs < 2 && !enough.passed()) std::this_thread::yield();
  }
  EXPECT_EQ(layers_->garbage_counters().runs, 2u);
  EXPECT_FALSE(FileExists(Index()));
}

constexpr auto kAlways = [] { return true; };

TEST(LeasesTest, WhatIsLeasedIsNotCollected) {
  Leases leases;
  int collected = 0;
  const auto collect = [&] { ++collected; };
  {
    const auto first = leases.Take({"a", "b"});
    auto second = leases.Take({"a"});
    EXPECT_FALSE(leases.Collect("a", kAlways, collect));
    EXPECT_TRUE(leases.Collect("c", kAlways, collect));
    const auto moved = std::move(second);
  }
  EXPECT_TRUE(leases.Collect("a", kAlways, collect));
  EXPECT_TRUE(leases.Collect("b", kAlways, collect));
  EXPECT_FALSE(leases.Collect(
      "b", [] { return false; }, collect));
  EXPECT_EQ(collected, 3);
}

TEST(LeasesTest, WhoWantsALeaseWaitsForTheCollection) {
  Leases leases;
  std::atomic<bool> collected{false};
  std::atomic<bool> started{false};
  std::thread waiting;
  leases.Collect("a", kAlways, [&] {
    waiting = std::thread([&] {
      started = true;
      const auto lease = leases.Take({"a"});
      EXPECT_TRUE(collected);
    });
    while (!started) std::this_thread::yield();
    collected = true;
  });
  waiting.join();
  EXPECT_TRUE(leases.Collect("a", kAlways, [] {}));
}

}  // namespace
}  // namespace lamina
