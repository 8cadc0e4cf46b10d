// The chunk cache against a disk that is full and a process that is killed.

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <thread>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;

using ChunkCacheKillTest = ChunkCacheFixture;

// Fills the cache in a loop, as a process of its own, until it is killed. Tells `begun` of its
// first chunk.
[[noreturn]] void FillUntilKilled(const std::string& folder, const Digest& layer, unsigned seed,
                                  int begun) {
  std::mt19937 random(seed);
  for (;;) {
    auto owner = std::make_shared<FakeChunkOwner>(64, 16);
    auto cache = LayerCache::Open(folder, layer, owner, std::make_shared<CacheCounters>());
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

// A file system of 1 MiB, mounted where only this process's mount namespace sees it, so that it
// ends with the process whatever happens. Needs root, as the tests of mounts do.
class FullDiskTest : public ChunkCacheFixture {
 protected:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root: " << std::strerror(errno);
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    disk_ = folder_.path() + "/disk";
    ASSERT_TRUE(MakeFolders(disk_));
    ASSERT_EQ(::mount("tmpfs", disk_.c_str(), "tmpfs", 0, "size=1m"), 0);
    owner_ = std::make_shared<FakeChunkOwner>(64, 16);  // 3 MiB of data in 4 MiB
  }
  void TearDown() override {
    cache_.reset();
    if (!disk_.empty()) ::umount2(disk_.c_str(), MNT_DETACH);
  }
  std::string disk_;
};

TEST_F(FullDiskTest, ServesRightBytesAndKeepsWhatFits) {
  OpenIn(disk_);
  EXPECT_TRUE(AllReadsRight());
  const uint64_t failures = counters_->write_failures.load();
  EXPECT_GT(failures, 0u);
  EXPECT_EQ(cache_->usage().chunks_present, 64u - failures);
  EXPECT_GT(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
  OpenIn(disk_);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(FullDiskTest, ServesAllWhoWaitWithOneFetch) {
  const std::string filler = disk_ + "/filler";
  OpenIn(disk_);
  auto fd = OpenFile(filler, O_WRONLY | O_CREAT);
  ASSERT_TRUE(fd);
  const std::vector<uint8_t> block(4096, 1);
  while (WriteExactly(fd->get(), block, filler)) {
  }
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
  fd->reset();
  EXPECT_TRUE(ReadsRight(0, 4096));  // room again: kept from now on
  EXPECT_TRUE(cache_->Ready(0, kChunk));
}

TEST_F(FullDiskTest, FullBeforeTheFilesAreMadeStillServes) {
  const std::string filler = disk_ + "/filler";
  auto fd = OpenFile(filler, O_WRONLY | O_CREAT);
  ASSERT_TRUE(fd);
  const std::vector<uint8_t> block(4096, 1);
  while (WriteExactly(fd->get(), block, filler)) {
  }
  OpenIn(disk_);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
}

TEST_F(FullDiskTest, WriterKeepsWholeChunksOnly) {
  auto writer = CacheWriter::Create(disk_, layer_);
  ASSERT_TRUE(writer);
  for (uint64_t at = 0; at < owner_->flat_size(); at += 5 * 4096)
    (*writer)->Write(at,
                     owner_->Content(at, std::min<uint64_t>(5 * 4096, owner_->flat_size() - at)));
  const Status committed = (*writer)->Commit(*owner_);
  ASSERT_TRUE(committed) << committed.error().message;
  OpenIn(disk_);
  const uint64_t present = cache_->usage().chunks_present;
  EXPECT_GT(present, 0u);
  EXPECT_LT(present, 64u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 0u);
  EXPECT_EQ(counters_->checked.load(), present);
}

}  // namespace
}  // namespace lamina
