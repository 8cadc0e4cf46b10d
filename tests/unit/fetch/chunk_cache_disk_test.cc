// The chunk cache against a disk that is full and a process that is killed.

#include <gmock/gmock.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <random>
#include <thread>

#include "tests/support/small_disk.h"
#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kChunk = 16 * 4096;
// Between two attempts at the files.
constexpr std::chrono::nanoseconds kAtOnce{0};

using ChunkCacheKillTest = ChunkCacheFixture;

// Fills the cache in a loop, as a process of its own, until it is killed. Tells `begun` of its
// first chunk.
[[noreturn]] void FillUntilKilled(const std::string& folder, const Digest& layer, unsigned seed,
                                  int begun) {
  std::mt19937 random(seed);
  for (;;) {
    auto owner = std::make_shared<FakeChunkOwner>(64, 16);
    owner->compressible = true;
    auto cache = LayerCache::Open(folder, layer, owner, std::make_shared<CacheCounters>(),
                                  {.compression = static_cast<CacheCompression>(random() % 3)});
    if (!cache) ::_exit(3);
    for (int i = 0; i < 64; ++i) {
      std::vector<uint8_t> out(1);
      const uint64_t offset = random() % 64 * kChunk;
      if (!(*cache)->Read(offset, out, Deadline::After(std::chrono::minutes(1)))) ::_exit(4);
      if (begun >= 0 && ::write(begun, "!", 1) != 1) ::_exit(5);
      begun = -1;
    }
    if (random() % 4 == 0) ::unlink((folder + "/" + layer.PathName() + ".map").c_str());
  }
}

TEST_F(ChunkCacheKillTest, KilledAtAnyMomentNothingPresentIsWrong) {
  owner_ = std::make_shared<FakeChunkOwner>(64, 16);
  owner_->compressible = true;
  std::mt19937 random(7);
  uint64_t present = 0;
  for (unsigned round = 0; round < 25; ++round) {
    int begun[2];
    ASSERT_EQ(::pipe(begun), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) FillUntilKilled(folder_.path(), layer_, round, begun[1]);
    ::close(begun[1]);
    char first = 0;
    EXPECT_EQ(::read(begun[0], &first, 1), 1);
    ::close(begun[0]);
    std::this_thread::sleep_for(std::chrono::microseconds(500 + random() % 20000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child gave up by itself: " << WEXITSTATUS(status);
    Open();
    present += cache_->usage().chunks_present;
    EXPECT_TRUE(AllReadsRight());
    EXPECT_EQ(counters_->rotten.load(), 0u);
    cache_.reset();
    if (round % 2 == 0) ::unlink(Path(".map").c_str());
  }
  EXPECT_GT(present, 0u);
}

// Needs root, as the tests of mounts do.
class FullDiskTest : public ChunkCacheFixture {
 protected:
  void SetUp() override {
    MakeDisk(1 << 20);
    owner_ = std::make_shared<FakeChunkOwner>(64, 16);  // 3 MiB of data in 4 MiB
  }
  void MakeDisk(uint64_t bytes) {
    auto disk = testing::SmallDisk::Create(bytes);
    ASSERT_TRUE(disk) << disk.error().message;
    disk_.emplace(std::move(disk).value());
  }
  uint64_t Available() const {
    struct statvfs disk {};
    EXPECT_EQ(::statvfs(disk_->path().c_str(), &disk), 0);
    return disk.f_bavail * disk.f_frsize;
  }
  // Writes all of the owner's content, which is more than the disk holds.
  void WriteAll(CacheWriter& writer) const {
    for (uint64_t at = 0; at < owner_->flat_size(); at += 5 * 4096)
      writer.Write(at, owner_->Content(at, std::min<uint64_t>(5 * 4096, owner_->flat_size() - at)));
  }
  void ExpectSomeWholeChunks() {
    OpenIn(disk_->path());
    const uint64_t present = cache_->usage().chunks_present;
    EXPECT_GT(present, 0u);
    EXPECT_LT(present, cache_->usage().chunks_total);
    EXPECT_TRUE(AllReadsRight());
    EXPECT_EQ(counters_->rotten.load(), 0u);
    EXPECT_GE(counters_->checked.load(), present);
  }

  std::optional<testing::SmallDisk> disk_;
};

TEST_F(FullDiskTest, ServesRightBytesAndKeepsWhatFits) {
  OpenIn(disk_->path());
  EXPECT_TRUE(AllReadsRight());
  const uint64_t failures = counters_->write_failures.load();
  EXPECT_GT(failures, 0u);
  EXPECT_EQ(cache_->usage().chunks_present, 64u - failures);
  EXPECT_GT(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
  OpenIn(disk_->path());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(FullDiskTest, ServesAllWhoWaitWithOneFetch) {
  OpenIn(disk_->path());
  const std::string filler = disk_->Fill();
  owner_->Hold();
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { right += ReadsRight(0, 4096) ? 1 : 0; });
  const Deadline bound = Soon();
  while (counters_->joined.load() < 7 && !bound.passed()) std::this_thread::yield();
  owner_->LetGo();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right.load(), 8);
  EXPECT_EQ(owner_->begun(), 1u);
  EXPECT_EQ(counters_->write_failures.load(), 1u);
  EXPECT_FALSE(cache_->Ready(0, 1));
  ::unlink(filler.c_str());
  EXPECT_TRUE(ReadsRight(0, 4096));  // room again: kept from now on
  EXPECT_TRUE(cache_->Ready(0, kChunk));
}

TEST_F(FullDiskTest, FullBeforeTheFilesAreMadeStillServes) {
  disk_->Fill();
  OpenIn(disk_->path());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
}

// [S100]
TEST_F(FullDiskTest, FilesThatCouldNotBeMadeAreMadeOnceThereIsRoom) {
  auto disk = testing::SmallDisk::Create(8 << 20);
  ASSERT_TRUE(disk);
  const std::string folder = disk->path() + "/cache";
  ASSERT_TRUE(disk->SetReadOnly(true));
  OpenIn(folder, {.retry = kAtOnce});
  ASSERT_TRUE(cache_->not_kept());
  EXPECT_THAT(cache_->not_kept()->reason, HasSubstr("Read-only file system"));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  ASSERT_TRUE(disk->SetReadOnly(false));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  EXPECT_FALSE(cache_->not_kept());
  const uint64_t begun = owner_->begun();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), begun);
  cache_.reset();
}

TEST_F(FullDiskTest, FilesAreTriedAgainNoSoonerThanTheIntervalSays) {
  auto disk = testing::SmallDisk::Create(8 << 20);
  ASSERT_TRUE(disk);
  const std::string folder = disk->path() + "/cache";
  ASSERT_TRUE(disk->SetReadOnly(true));
  OpenIn(folder, {.retry = std::chrono::hours(10'000)});
  ASSERT_TRUE(disk->SetReadOnly(false));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_FALSE(FileExists(folder));
}

TEST_F(FullDiskTest, ReadersWhoComeTogetherMakeTheFilesOnce) {
  auto disk = testing::SmallDisk::Create(8 << 20);
  ASSERT_TRUE(disk);
  ASSERT_TRUE(disk->SetReadOnly(true));
  OpenIn(disk->path() + "/cache", {.retry = kAtOnce});
  ASSERT_TRUE(disk->SetReadOnly(false));
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (uint64_t i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (uint64_t chunk = i; chunk < 64; chunk += 8)
        right += ReadsRight(chunk * kChunk, kChunk) ? 1 : 0;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right.load(), 64);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  EXPECT_EQ(counters_->rotten.load(), 0u);
  cache_.reset();
}

// [S101]
TEST_F(FullDiskTest, WhereBlocksCannotBeFreedNothingIsEvicted) {
  auto disk = testing::SmallDisk::Create(0, "ramfs");
  ASSERT_TRUE(disk) << disk.error().message;
  auto budget = CacheBudget::Open(disk->path(), CacheBudget::kUnlimited);
  OpenIn(disk->path(), {.budget = budget});
  EXPECT_TRUE(AllReadsRight());
  budget->Clear(layer_.PathName());
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  EXPECT_TRUE(AllReadsRight());
  OpenIn(disk->path());
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 64u);
  EXPECT_EQ(counters_->rotten.load(), 0u);
  cache_.reset();
}

// A disk that can be read and not written, with every other chunk on it.
class ReadOnlyDiskTest : public FullDiskTest {
 protected:
  void SetUp() override {
    MakeDisk(16 << 20);
    owner_ = std::make_shared<FakeChunkOwner>(64, 16);
    OpenIn(disk_->path());
    for (uint64_t chunk = 0; chunk < 64; chunk += 2)
      ASSERT_TRUE(ReadsRight(chunk * kChunk, kChunk));
    cache_.reset();
    counters_ = std::make_shared<CacheCounters>();
  }
  void TearDown() override {
    cache_.reset();
    FullDiskTest::TearDown();
  }
  void SetReadOnly(bool read_only) {
    const Status set = disk_->SetReadOnly(read_only);
    ASSERT_TRUE(set) << set.error().message;
  }
  // The same files, whoever looks.
  std::string Files() const {
    const auto map = ReadWholeFile(disk_->path() + "/" + layer_.PathName() + ".map", 1 << 20);
    const auto data = ReadWholeFile(disk_->path() + "/" + layer_.PathName() + ".data", 16 << 20);
    return map && data ? *map + *data : "";
  }
};

// [S100]
TEST_F(ReadOnlyDiskTest, WhatIsThereServesAndNothingIsKept) {
  SetReadOnly(true);
  const std::string before = Files();
  OpenIn(disk_->path(), {.retry = kAtOnce});
  EXPECT_FALSE(cache_->not_kept());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 32u + 2 * 32u);
  EXPECT_EQ(owner_->produced(0), 1u);
  EXPECT_TRUE(cache_->Ready(0, kChunk));
  EXPECT_EQ(cache_->usage().chunks_present, 32u);
  EXPECT_EQ(counters_->write_failures.load(), 64u);
  ASSERT_TRUE(cache_->not_kept());
  EXPECT_THAT(cache_->not_kept()->reason, HasSubstr("Read-only file system"));
  EXPECT_GT(cache_->not_kept()->at_ns, 0);
  cache_.reset();
  EXPECT_EQ(Files(), before);
}

// [S100]
TEST_F(ReadOnlyDiskTest, WhatIsReadOnceTheDiskCanBeWrittenIsKept) {
  SetReadOnly(true);
  OpenIn(disk_->path(), {.retry = kAtOnce});
  EXPECT_TRUE(AllReadsRight());
  SetReadOnly(false);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_FALSE(cache_->not_kept());
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  const uint64_t begun = owner_->begun();
  OpenIn(disk_->path());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), begun);
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(ReadOnlyDiskTest, ReadersNoticeNothingWhenTheFilesBecomeWritable) {
  SetReadOnly(true);
  OpenIn(disk_->path(), {.retry = kAtOnce});
  EXPECT_TRUE(AllReadsRight());
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      for (uint64_t chunk = i; !done; chunk = (chunk + 5) % 64) {
        const bool peeks = cache_->Ready(chunk * kChunk, kChunk);
        if (!(peeks ? ReadsReadyRight(chunk * kChunk, kChunk) : ReadsRight(chunk * kChunk, kChunk)))
          ++wrong;
      }
    });
  SetReadOnly(false);
  const Deadline bound = Soon();
  while (cache_->usage().chunks_present < 64 && !bound.passed()) std::this_thread::yield();
  done = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cache_->usage().chunks_present, 64u);
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(ReadOnlyDiskTest, FilesThatOthersHaveReplacedAreNotWritten) {
  SetReadOnly(true);
  OpenIn(disk_->path(), {.retry = kAtOnce});
  EXPECT_TRUE(AllReadsRight());
  SetReadOnly(false);
  const std::string map = disk_->path() + "/" + layer_.PathName() + ".map";
  ASSERT_TRUE(WriteFileAtomically(map, AsBytes("of somebody else")));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 32u);
  const auto left = ReadWholeFile(map, 100);
  ASSERT_TRUE(left);
  EXPECT_EQ(*left, "of somebody else");
  EXPECT_THAT(cache_->not_kept()->reason, HasSubstr("is another file by now"));
}

TEST_F(ReadOnlyDiskTest, RotIsFetchedAgainEachTimeAndLeftAsItIs) {
  FlipByte(disk_->path() + "/" + layer_.PathName() + ".data", 2 * kChunk + 5);
  SetReadOnly(true);
  const std::string before = Files();
  OpenIn(disk_->path(), {.retry = kAtOnce});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(ReadsRight(2 * kChunk, kChunk));
  EXPECT_EQ(counters_->rotten.load(), 1u);
  EXPECT_EQ(owner_->produced(2), 4u);
  const auto verified = cache_->Verify([](uint64_t) { return true; });
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_TRUE(verified->bad.empty());
  EXPECT_EQ(verified->chunks, 31u);
  EXPECT_EQ(Files(), before);
}

TEST_F(ReadOnlyDiskTest, FilesThatDoNotFitTheLayerStayAndServeNothing) {
  SetReadOnly(true);
  const std::string before = Files();
  owner_ = std::make_shared<FakeChunkOwner>(128, 8);
  OpenIn(disk_->path(), {.retry = kAtOnce});
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_EQ(Files(), before);
}

// [S101]
TEST_F(ReadOnlyDiskTest, AtItsLimitTheCacheLosesNothingThatCannotBeFreed) {
  // A second layer that nobody has open, the limit where both are.
  const Digest closed = Digest::Sha256(AsBytes("a closed layer"));
  {
    auto cache = LayerCache::Open(disk_->path(), closed, owner_, counters_);
    ASSERT_TRUE(cache);
    std::vector<uint8_t> out(kChunk);
    ASSERT_TRUE((*cache)->Read(0, out, Soon()));
  }
  const uint64_t used = CacheBudget::Open(disk_->path(), CacheBudget::kUnlimited)->used();
  SetReadOnly(true);
  auto budget = CacheBudget::Open(disk_->path(), used);
  OpenIn(disk_->path(), {.budget = budget, .retry = kAtOnce});
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 32u);
  EXPECT_TRUE(cache_->Ready(0, kChunk));
  EXPECT_EQ(budget->used(), used);
  EXPECT_EQ(budget->evicted_bytes(), 0u);
  budget->Clear(layer_.PathName());
  EXPECT_EQ(budget->RemoveClosed(closed.PathName()), 0u);
  EXPECT_EQ(cache_->usage().chunks_present, 32u);
  SetReadOnly(false);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_FALSE(cache_->not_kept());
  EXPECT_GT(budget->evicted_bytes(), 0u);
  EXPECT_LE(budget->used(), budget->limit());
  EXPECT_FALSE(FileExists(disk_->path() + "/" + closed.PathName() + ".data"));
}

// [S101]
TEST_F(ReadOnlyDiskTest, ATooLargeCacheThatCannotBeFreedIsLeftAsItIs) {
  SetReadOnly(true);
  auto budget = CacheBudget::Open(disk_->path(), 64 << 10);
  const uint64_t used = budget->used();
  budget->Trim();
  EXPECT_EQ(budget->used(), used);
  SetReadOnly(false);
  budget->Trim();
  EXPECT_EQ(budget->used(), 0u);
}

TEST_F(FullDiskTest, WriterKeepsWholeChunksOnly) {
  auto writer = CacheWriter::Create(disk_->path(), layer_);
  ASSERT_TRUE(writer);
  WriteAll(**writer);
  const Status committed = (*writer)->Commit(*owner_);
  ASSERT_TRUE(committed) << committed.error().message;
  ExpectSomeWholeChunks();
}

// The index of the layer is written before the cache is committed.
TEST_F(FullDiskTest, WriterGivesTheReserveBackBeforeItIsCommitted) {
  auto writer = CacheWriter::Create(disk_->path(), layer_);
  ASSERT_TRUE(writer);
  WriteAll(**writer);
  EXPECT_GE(Available(), 256u << 10);
}

TEST_F(FullDiskTest, WriterEndsBeforeTheReserveWithoutAFullDisk) {
  MakeDisk(24 << 20);
  owner_ = std::make_shared<FakeChunkOwner>(512, 16);  // 24 MiB of data in 32 MiB
  auto writer = CacheWriter::Create(disk_->path(), layer_);
  ASSERT_TRUE(writer);
  uint64_t least = Available();
  for (uint64_t at = 0; at < owner_->flat_size(); at += kChunk) {
    (*writer)->Write(at, owner_->Content(at, kChunk));
    least = std::min(least, Available());
  }
  EXPECT_GT(least, 0u);
  EXPECT_GE(Available(), 6u << 20);
  ASSERT_TRUE((*writer)->Commit(*owner_));
  ExpectSomeWholeChunks();
}

TEST_F(FullDiskTest, WriterGivesBackUntilNothingIsLeft) {
  auto writer = CacheWriter::Create(disk_->path(), layer_);
  ASSERT_TRUE(writer);
  WriteAll(**writer);
  uint64_t before = Available();
  int steps = 0;
  for (; (*writer)->GiveBack(); ++steps) {
    EXPECT_GT(Available(), before);
    before = Available();
  }
  EXPECT_GE(steps, 2);
  ASSERT_TRUE((*writer)->Commit(*owner_));
  OpenIn(disk_->path());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
}

TEST_F(FullDiskTest, ReadersLeaveTheReserveFree) {
  OpenIn(disk_->path());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_GE(Available(), 256u << 10);
}

}  // namespace
}  // namespace lamina
