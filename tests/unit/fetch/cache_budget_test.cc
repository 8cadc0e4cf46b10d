#include "fetch/cache_budget.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <filesystem>
#include <random>
#include <thread>

#include "base/file.h"
#include "fetch/chunk_cache.h"
#include "tests/fakes/fake_chunk_owner.h"
#include "tests/support/small_disk.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kMiB = 1u << 20;

class CacheBudgetTest : public ::testing::Test {
 protected:
  CacheBudgetTest() : folder_(TemporaryFolder::Create("lamina-budget-test").value()) {}

  std::string Folder() const { return other_folder_.empty() ? folder_.path() : other_folder_; }
  void UseFolder(const std::string& path) { other_folder_ = path; }
  static Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }
  static Digest LayerDigest(int number) {
    return Digest::Sha256(AsBytes("layer " + std::to_string(number)));
  }
  std::string DataPath(int number) const {
    return Folder() + "/" + LayerDigest(number).PathName() + ".data";
  }
  void MakeBudget(uint64_t limit) {
    budget_ = CacheBudget::Open(Folder(), limit);
    budget_->Trim();
  }

  struct OpenLayer {
    std::shared_ptr<FakeChunkOwner> owner;
    std::shared_ptr<LayerCache> cache;
  };
  // `chunks` of 16 blocks, 12 of which have data.
  OpenLayer Open(int number, uint64_t chunks) {
    OpenLayer layer;
    layer.owner = std::make_shared<FakeChunkOwner>(
        std::vector<FakeChunkOwner::Chunk>(chunks, {16, false}), static_cast<uint64_t>(number));
    auto cache = LayerCache::Open(Folder(), LayerDigest(number), layer.owner, counters_,
                                  {.budget = budget_});
    EXPECT_TRUE(cache) << cache.error().message;
    if (cache) layer.cache = *cache;
    return layer;
  }
  static bool ReadsRight(const OpenLayer& layer, uint64_t chunk) {
    const ChunkExtent extent = layer.owner->Extent(chunk);
    std::vector<uint8_t> out(extent.flat_length, 0xEE);
    const Status read = layer.cache->Read(extent.flat_offset, out, Soon());
    EXPECT_TRUE(read) << read.error().message;
    return read && out == layer.owner->Content(extent.flat_offset, extent.flat_length);
  }
  static bool AllReadRight(const OpenLayer& layer) {
    bool right = true;
    for (uint64_t chunk = 0; chunk < layer.owner->chunk_count(); ++chunk)
      right = ReadsRight(layer, chunk) && right;
    return right;
  }
  // What is on disk, in blocks.
  uint64_t RealBytes() const {
    uint64_t bytes = 0;
    for (const auto& item : std::filesystem::directory_iterator(Folder())) {
      struct stat st {};
      if (::stat(item.path().c_str(), &st) == 0) bytes += static_cast<uint64_t>(st.st_blocks) * 512;
    }
    return bytes;
  }

  TemporaryFolder folder_;
  std::string other_folder_;
  std::shared_ptr<CacheCounters> counters_ = std::make_shared<CacheCounters>();
  std::shared_ptr<CacheBudget> budget_;
};

constexpr uint64_t kChunkBytes = 12 * kBlock;  // on disk

TEST_F(CacheBudgetTest, ALayerThatIsLargerThanTheLimitIsReadAndOnlyPartOfItKept) {
  MakeBudget(20 * kChunkBytes);
  const OpenLayer layer = Open(1, 100);
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_LE(RealBytes(), budget_->limit());
  EXPECT_GT(RealBytes(), budget_->limit() / 2);
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_GT(budget_->evicted_bytes(), 0u);
  EXPECT_EQ(counters_->write_failures, 0u);
  EXPECT_EQ(counters_->rotten, 0u);
}

TEST_F(CacheBudgetTest, WhatIsReadOftenStays) {
  MakeBudget(100 * kChunkBytes);
  const OpenLayer layer = Open(1, 400);
  for (uint64_t chunk = 1; chunk < 400; ++chunk) {
    EXPECT_TRUE(ReadsRight(layer, chunk));
    EXPECT_TRUE(ReadsRight(layer, 0));
  }
  EXPECT_EQ(layer.owner->produced(0), 1u);
  EXPECT_LE(RealBytes(), budget_->limit());
}

TEST_F(CacheBudgetTest, LayersThatNobodyHasOpenGoFirstTheOldestBeforeTheOthers) {
  MakeBudget(CacheBudget::kUnlimited);
  for (const int number : {3, 1, 2}) EXPECT_TRUE(AllReadRight(Open(number, 20)));
  const uint64_t all = RealBytes();
  EXPECT_EQ(budget_->used(), all);
  // As a restart finds them: the times of the files tell the order.
  for (const int number : {1, 2, 3}) {
    const timeval times[2] = {{1000 + number, 0}, {1000 + number, 0}};
    ASSERT_EQ(::utimes(DataPath(number).c_str(), times), 0);
  }
  MakeBudget(all);
  const OpenLayer held = Open(3, 20);
  const OpenLayer more = Open(4, 10);
  EXPECT_TRUE(AllReadRight(more));
  EXPECT_FALSE(FileExists(DataPath(1)));
  EXPECT_TRUE(FileExists(DataPath(2)));
  EXPECT_TRUE(AllReadRight(held));
  EXPECT_EQ(held.owner->begun(), 0u);
  EXPECT_EQ(budget_->used(), RealBytes());
}

TEST_F(CacheBudgetTest, WhatWasReadLastIsTheYoungestForALaterProcess) {
  MakeBudget(CacheBudget::kUnlimited);
  for (const int number : {1, 2, 3}) EXPECT_TRUE(AllReadRight(Open(number, 20)));
  const auto make_old = [&] {
    for (const int number : {1, 2, 3}) {
      const timeval times[2] = {{1000, 0}, {1000, 0}};
      ASSERT_EQ(::utimes(DataPath(number).c_str(), times), 0);
    }
  };
  const auto is_old = [&](int number) {
    struct stat st {};
    EXPECT_EQ(::stat(DataPath(number).c_str(), &st), 0);
    return st.st_mtime == 1000;
  };
  make_old();
  EXPECT_TRUE(AllReadRight(Open(1, 20)));
  EXPECT_FALSE(is_old(1));
  EXPECT_TRUE(is_old(2));
  // While it is open, for a process that is killed.
  make_old();
  const OpenLayer held = Open(2, 20);
  EXPECT_TRUE(AllReadRight(held));
  EXPECT_TRUE(is_old(2));
  budget_->StampUses();
  EXPECT_FALSE(is_old(2));
  EXPECT_TRUE(is_old(3));
}

TEST_F(CacheBudgetTest, ALowerLimitIsKeptFromTheStart) {
  MakeBudget(CacheBudget::kUnlimited);
  for (const int number : {1, 2, 3}) EXPECT_TRUE(AllReadRight(Open(number, 20)));
  MakeBudget(25 * kChunkBytes);
  EXPECT_LE(RealBytes(), 25 * kChunkBytes);
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_GT(RealBytes(), 0u);
}

TEST_F(CacheBudgetTest, PinnedLayersStay) {
  MakeBudget(30 * kChunkBytes);
  const OpenLayer open = Open(1, 14);
  EXPECT_TRUE(AllReadRight(open));
  EXPECT_TRUE(AllReadRight(Open(2, 14)));
  budget_->SetPinned({LayerDigest(1).PathName(), LayerDigest(2).PathName()});
  const OpenLayer other = Open(3, 30);
  EXPECT_TRUE(AllReadRight(other));
  EXPECT_LE(RealBytes(), budget_->limit());
  EXPECT_TRUE(AllReadRight(open));
  EXPECT_EQ(open.owner->begun(), 14u);
  EXPECT_TRUE(FileExists(DataPath(2)));
  budget_->SetPinned({});
  EXPECT_TRUE(AllReadRight(other));
  EXPECT_FALSE(FileExists(DataPath(2)));
}

TEST_F(CacheBudgetTest, WhereNothingMayGoReadersAreServedAllTheSame) {
  MakeBudget(14 * kChunkBytes);
  const OpenLayer pinned = Open(1, 30);
  budget_->SetPinned({LayerDigest(1).PathName()});
  EXPECT_TRUE(AllReadRight(pinned));
  EXPECT_TRUE(AllReadRight(Open(2, 5)));
  EXPECT_GT(counters_->write_failures, 0u);
  EXPECT_LE(RealBytes(), budget_->limit());
}

TEST_F(CacheBudgetTest, AnEvictedChunkIsNotThereAfterARestart) {
  MakeBudget(10 * kChunkBytes);
  {
    const OpenLayer layer = Open(1, 40);
    EXPECT_TRUE(AllReadRight(layer));
  }
  MakeBudget(CacheBudget::kUnlimited);
  const OpenLayer again = Open(1, 40);
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_TRUE(AllReadRight(again));
  EXPECT_EQ(counters_->rotten, 0u);
  EXPECT_GE(again.owner->begun(), 30u);
  EXPECT_LT(again.owner->begun(), 40u);
}

TEST_F(CacheBudgetTest, WhatTwoHaveOpenIsNotEvictedUnderOneOfThem) {
  MakeBudget(30 * kChunkBytes);
  const OpenLayer first = Open(1, 20);
  EXPECT_TRUE(AllReadRight(first));
  const OpenLayer second = Open(1, 20);
  EXPECT_TRUE(AllReadRight(second));
  EXPECT_TRUE(AllReadRight(Open(2, 40)));
  EXPECT_TRUE(AllReadRight(first));
  EXPECT_TRUE(AllReadRight(second));
  EXPECT_EQ(counters_->rotten, 0u);
  EXPECT_EQ(second.owner->begun(), 0u);
}

TEST_F(CacheBudgetTest, FilesThatOneStillHasOpenStayWhenTheOtherCloses) {
  MakeBudget(30 * kChunkBytes);
  OpenLayer first = Open(1, 20);
  EXPECT_TRUE(AllReadRight(first));
  const OpenLayer second = Open(1, 20);
  first.cache.reset();
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_TRUE(AllReadRight(Open(2, 40)));
  EXPECT_TRUE(FileExists(DataPath(1)));
  EXPECT_TRUE(AllReadRight(second));
  EXPECT_EQ(second.owner->begun(), 0u);
}

TEST_F(CacheBudgetTest, WhatCouldNeverFitMakesNothingGo) {
  MakeBudget(10 * kBlock);
  const OpenLayer layer = Open(1, 3);
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_EQ(counters_->write_failures, 3u);
  EXPECT_EQ(budget_->evicted_bytes(), 0u);
}

TEST_F(CacheBudgetTest, AWriterKeepsHalfOfTheLimitAtMost) {
  MakeBudget(40 * kChunkBytes);
  const FakeChunkOwner owner(60, 16);
  auto writer = CacheWriter::Create(Folder(), LayerDigest(1), budget_);
  ASSERT_TRUE(writer) << writer.error().message;
  for (uint64_t chunk = 0; chunk < 60; ++chunk) {
    const ChunkExtent extent = owner.Extent(chunk);
    (*writer)->Write(extent.flat_offset, owner.Content(extent.flat_offset, extent.flat_length));
  }
  EXPECT_LE(budget_->used(), 20 * kChunkBytes);
  ASSERT_TRUE((*writer)->Commit(owner));
  writer->reset();
  EXPECT_EQ(budget_->used(), RealBytes());
  auto reader = std::make_shared<FakeChunkOwner>(60, 16);
  auto cache = LayerCache::Open(Folder(), LayerDigest(1), reader, counters_, {.budget = budget_});
  ASSERT_TRUE(cache);
  const OpenLayer layer{reader, *cache};
  EXPECT_GE(layer.cache->usage().chunks_present, 15u);
  EXPECT_LE(layer.cache->usage().chunks_present, 20u);
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_LE(RealBytes(), budget_->limit());
}

TEST_F(CacheBudgetTest, AWriterThatDoesNotCommitLeavesNothingCounted) {
  MakeBudget(100 * kChunkBytes);
  const FakeChunkOwner owner(10, 16);
  auto writer = CacheWriter::Create(Folder(), LayerDigest(1), budget_);
  ASSERT_TRUE(writer) << writer.error().message;
  (*writer)->Write(0, owner.Content(0, 16 * kBlock));
  EXPECT_GE(budget_->used(), kChunkBytes);
  writer->reset();
  EXPECT_EQ(budget_->used(), 0u);
}

TEST_F(CacheBudgetTest, SixtyFourReadersWhoWantMoreThanFitsReadRightAndStayWithinTheLimit) {
  constexpr int kLayers = 4;
  auto disk = testing::SmallDisk::Create(64 * kMiB);
  ASSERT_TRUE(disk) << disk.error().message;
  UseFolder(disk->path());
  const uint64_t empty = disk->UsedBytes();
  MakeBudget(64 * kChunkBytes);
  std::vector<OpenLayer> layers;
  for (int number = 0; number < kLayers; ++number) layers.push_back(Open(number, 64));
  std::atomic<bool> ended{false};
  std::atomic<uint64_t> wrong{0};
  uint64_t largest = 0;
  std::vector<std::thread> readers;
  for (uint32_t number = 0; number < 64; ++number)
    readers.emplace_back([&, number] {
      std::mt19937 random(number);
      for (int i = 0; i < 150; ++i) {
        const OpenLayer& layer = layers[random() % kLayers];
        const uint64_t offset = random() % (layer.owner->flat_size() - 30'000);
        std::vector<uint8_t> out(1 + random() % 30'000, 0xEE);
        const bool ready = layer.cache->Ready(offset, out.size()) &&
                           layer.cache->ReadReady(offset, out).has_value();
        if (!ready && !layer.cache->Read(offset, out, Soon())) ++wrong;
        if (out != layer.owner->Content(offset, out.size())) ++wrong;
      }
    });
  // The disk tells in one answer what single files would tell while chunks come and go.
  std::thread watcher([&] {
    while (!ended) largest = std::max(largest, disk->UsedBytes() - empty);
  });
  for (std::thread& reader : readers) reader.join();
  ended = true;
  watcher.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_LE(largest, budget_->limit() + budget_->limit() / 100);
  EXPECT_GT(largest, budget_->limit() / 2);
  EXPECT_GT(budget_->evicted_bytes(), budget_->limit());
  EXPECT_EQ(counters_->rotten, 0u);
  EXPECT_EQ(budget_->used(), RealBytes());
}

// Blocks whose record is gone already, as kill -9 in the middle of an eviction leaves them.
TEST_F(CacheBudgetTest, BlocksThatTheMapDoesNotNameAreFreedWhenTheLayerIsOpened) {
  MakeBudget(CacheBudget::kUnlimited);
  EXPECT_TRUE(AllReadRight(Open(1, 20)));
  const std::string map = Folder() + "/" + LayerDigest(1).PathName() + ".map";
  const uint64_t before = RealBytes();
  {
    const auto fd = OpenFile(map, O_RDWR);
    ASSERT_TRUE(fd);
    const std::vector<uint8_t> nothing(3 * 8);
    ASSERT_TRUE(PwriteExactly(fd->get(), nothing, 32 + 5 * 8, map));  // chunks 5, 6 and 7
  }
  MakeBudget(CacheBudget::kUnlimited);
  EXPECT_EQ(budget_->used(), before);
  const OpenLayer again = Open(1, 20);
  EXPECT_EQ(RealBytes(), before - 3 * kChunkBytes);
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_TRUE(AllReadRight(again));
  EXPECT_EQ(again.owner->begun(), 3u);
  EXPECT_EQ(counters_->rotten, 0u);
}

TEST_F(CacheBudgetTest, WithALimitOfZeroNoFileIsMadeAndNothingCountsAsAFailure) {
  MakeBudget(0);
  const OpenLayer layer = Open(1, 5);
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_EQ(layer.owner->begun(), 10u);
  EXPECT_EQ(counters_->write_failures, 0u);
  EXPECT_TRUE(std::filesystem::is_empty(Folder()));
}

TEST_F(CacheBudgetTest, ClearingTakesEverythingAndReadersGoOn) {
  MakeBudget(CacheBudget::kUnlimited);
  const OpenLayer open = Open(1, 20);
  EXPECT_TRUE(AllReadRight(open));
  EXPECT_TRUE(AllReadRight(Open(2, 20)));
  std::atomic<bool> ended{false};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> readers;
  for (uint32_t number = 0; number < 4; ++number)
    readers.emplace_back([&, number] {
      std::mt19937 random(number);
      while (!ended) {
        const uint64_t offset = random() % (open.owner->flat_size() - 30'000);
        std::vector<uint8_t> out(1 + random() % 30'000, 0xEE);
        const bool ready =
            open.cache->Ready(offset, out.size()) && open.cache->ReadReady(offset, out).has_value();
        if (!ready && !open.cache->Read(offset, out, Soon())) ++wrong;
        if (out != open.owner->Content(offset, out.size())) ++wrong;
      }
    });
  for (int i = 0; i < 50; ++i) budget_->Clear(LayerDigest(1).PathName());
  ended = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0u);
  budget_->Clear(LayerDigest(1).PathName());
  budget_->Clear(LayerDigest(2).PathName());
  EXPECT_FALSE(FileExists(DataPath(2)));
  EXPECT_EQ(open.cache->usage().chunks_present, 0u);
  EXPECT_EQ(budget_->used(), RealBytes());
  EXPECT_LE(RealBytes(), kBlock) << "the map";
  EXPECT_TRUE(AllReadRight(open));
  EXPECT_EQ(counters_->rotten, 0u);
}

TEST_F(CacheBudgetTest, OnlyFilesThatNobodyHasOpenAreRemoved) {
  MakeBudget(CacheBudget::kUnlimited);
  OpenLayer layer = Open(1, 20);
  EXPECT_TRUE(AllReadRight(layer));
  EXPECT_EQ(budget_->RemoveClosed(LayerDigest(1).PathName()), 0u);
  EXPECT_TRUE(FileExists(DataPath(1)));
  layer = {};
  const uint64_t all = RealBytes();
  EXPECT_EQ(budget_->RemoveClosed(LayerDigest(1).PathName()), all);
  EXPECT_EQ(RealBytes(), 0u);
  EXPECT_EQ(budget_->used(), 0u);
}

TEST_F(CacheBudgetTest, RoomThatIsNotUsedIsGivenBack) {
  MakeBudget(10 * kChunkBytes);
  CacheBudget::Account account(budget_, LayerDigest(1));
  {
    const auto room = account.Reserve(kChunkBytes);
    ASSERT_TRUE(room);
    EXPECT_EQ(budget_->used(), kChunkBytes);
  }
  EXPECT_EQ(budget_->used(), 0u);
  EXPECT_FALSE(account.Reserve(11 * kChunkBytes));
  EXPECT_EQ(budget_->used(), 0u);
}

TEST(CacheLimitTest, KnowsSizes) {
  EXPECT_EQ(*CacheLimit("20G", "/tmp"), uint64_t{20} << 30);
  EXPECT_EQ(*CacheLimit("1.5GiB", "/tmp"), 1536 * kMiB);
  EXPECT_EQ(*CacheLimit("512m", "/tmp"), 512 * kMiB);
  EXPECT_EQ(*CacheLimit("4096", "/tmp"), 4096u);
  EXPECT_EQ(*CacheLimit("0", "/tmp"), 0u);
  EXPECT_EQ(*CacheLimit("none", "/tmp"), CacheBudget::kUnlimited);
  EXPECT_GT(*CacheLimit("10%", "/tmp/not/there/yet"), 0u);
  EXPECT_LE(*CacheLimit("", "/"), uint64_t{20} << 30);
  for (const char* wrong : {"x", "-1", "5X", "101%", "nan", "inf", "1e30", "10 G", "G", "%"}) {
    const auto limit = CacheLimit(wrong, "/tmp");
    ASSERT_FALSE(limit) << wrong;
    EXPECT_THAT(limit.error().message, HasSubstr("is no size: use 20G, 512M, 10% or none"));
  }
}

}  // namespace
}  // namespace lamina
