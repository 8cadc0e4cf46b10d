#include "fetch/chunk_cache.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <thread>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;  // of the fixture's owner

using ChunkCacheTest = ChunkCacheFixture;

// Starts `count` readers of the same range, each of which leaves its status and bytes.
class Readers {
 public:
  Readers(LayerCache& cache, size_t count, uint64_t offset, uint64_t length)
      : statuses_(count), bytes_(count, std::vector<uint8_t>(length)) {
    for (size_t i = 0; i < count; ++i)
      threads_.emplace_back([this, &cache, i, offset] {
        statuses_[i] = cache.Read(offset, bytes_[i], Deadline::After(std::chrono::minutes(1)));
      });
  }
  ~Readers() { Join(); }
  void Join() {
    for (auto& thread : threads_)
      if (thread.joinable()) thread.join();
  }
  const std::vector<Status>& statuses() const { return statuses_; }
  const std::vector<std::vector<uint8_t>>& bytes() const { return bytes_; }

 private:
  std::vector<Status> statuses_;
  std::vector<std::vector<uint8_t>> bytes_;
  std::vector<std::thread> threads_;
};

void WaitFor(const std::atomic<uint64_t>& counter, uint64_t value) {
  const Deadline bound = Deadline::After(std::chrono::minutes(1));
  while (counter.load() < value && !bound.passed()) std::this_thread::yield();
  ASSERT_EQ(counter.load(), value);
}

TEST_F(ChunkCacheTest, FetchesMissingChunkOnce) {
  Open();
  EXPECT_FALSE(cache_->Ready(100, 10));
  EXPECT_TRUE(ReadsRight(100, 10));
  EXPECT_TRUE(cache_->Ready(0, kChunk));
  EXPECT_FALSE(cache_->Ready(0, kChunk + 1));
  EXPECT_TRUE(ReadsReadyRight(0, kChunk));
  EXPECT_TRUE(ReadsRight(5000, 4096));
  EXPECT_EQ(owner_->produced(0), 1u);
  EXPECT_EQ(owner_->begun(), 1u);
  EXPECT_EQ(counters_->misses.load(), 1u);
}

TEST_F(ChunkCacheTest, ReadAcrossChunksFetchesExactlyThose) {
  Open();
  EXPECT_TRUE(ReadsRight(kChunk - 1, kChunk + 2));
  EXPECT_EQ(owner_->begun(), 3u);
  EXPECT_FALSE(cache_->Ready(3 * kChunk, 1));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u);
}

TEST_F(ChunkCacheTest, SixtyFourReadersCauseOneFetch) {
  Open();
  owner_->Hold();
  Readers readers(*cache_, 64, 2 * kChunk + 7, 4096);
  WaitFor(counters_->joined, 63);
  owner_->LetGo();
  readers.Join();
  EXPECT_EQ(owner_->begun(), 1u);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_TRUE(readers.statuses()[i]);
    EXPECT_EQ(readers.bytes()[i], owner_->Content(2 * kChunk + 7, 4096));
  }
}

TEST_F(ChunkCacheTest, FailureReachesAllWhoWaitAndIsNotRemembered) {
  Open();
  owner_->Hold();
  owner_->failing = true;
  Readers readers(*cache_, 8, 0, 4096);
  WaitFor(counters_->joined, 7);
  owner_->LetGo();
  readers.Join();
  for (const Status& status : readers.statuses()) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kUnavailable);
  }
  EXPECT_EQ(owner_->begun(), 1u);
  EXPECT_FALSE(cache_->Ready(0, 1));
  owner_->failing = false;
  EXPECT_TRUE(ReadsRight(0, 4096));
  EXPECT_EQ(owner_->begun(), 2u);
}

TEST_F(ChunkCacheTest, WaiterTimesOutWhileTheLeaderGoesOn) {
  Open();
  owner_->Hold();
  Readers leader(*cache_, 1, 0, 4096);
  ASSERT_TRUE(owner_->WaitUntilBegun(1));
  std::vector<uint8_t> out(4096);
  const Status late = cache_->Read(0, out, Deadline::After(std::chrono::milliseconds(20)));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::kTimeout);
  owner_->LetGo();
  leader.Join();
  EXPECT_TRUE(leader.statuses()[0]);
  EXPECT_TRUE(cache_->Ready(0, kChunk));
  EXPECT_EQ(owner_->begun(), 1u);
}

TEST_F(ChunkCacheTest, HeldChunkDelaysNoOtherChunk) {
  Open();
  EXPECT_TRUE(ReadsRight(kChunk, 1));
  owner_->Hold();
  Readers held(*cache_, 1, 0, 4096);
  ASSERT_TRUE(owner_->WaitUntilBegun(2));
  EXPECT_TRUE(ReadsRight(kChunk, kChunk));
  EXPECT_TRUE(cache_->Ready(kChunk, kChunk));
  owner_->LetGo();
}

TEST_F(ChunkCacheTest, ExceptionOfTheOwnerBecomesAnErrorForAll) {
  Open();
  owner_->on_produce = [](uint64_t) { throw std::runtime_error("boom"); };
  owner_->Hold();
  Readers readers(*cache_, 2, 0, 1);
  WaitFor(counters_->joined, 1);
  owner_->LetGo();
  readers.Join();
  for (const Status& status : readers.statuses()) {
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kInternal);
    EXPECT_NE(status.error().message.find("boom"), std::string::npos);
  }
  owner_->on_produce = nullptr;
  EXPECT_TRUE(ReadsRight(0, 1));
}

TEST_F(ChunkCacheTest, ZeroChunksAreAlwaysReadyAndCostNothing) {
  const std::vector<FakeChunkOwner::Chunk> chunks = {{2, false}, {1u << 20, true}, {2, false}};
  OpenWith(std::make_shared<FakeChunkOwner>(chunks));
  const uint64_t zeros = uint64_t{4096} << 20;  // 4 GiB
  EXPECT_TRUE(cache_->Ready(2 * 4096, zeros));
  EXPECT_TRUE(ReadsReadyRight(2 * 4096 + zeros / 2, 8192));
  EXPECT_TRUE(ReadsRight(2 * 4096 + zeros - 100, 100));
  EXPECT_EQ(owner_->begun(), 0u);
  EXPECT_EQ(DiskBytes(Path(".data")), 0u);
  EXPECT_TRUE(ReadsRight(4096, 8192));
  EXPECT_TRUE(ReadsRight(4096 + zeros, 8192));
  EXPECT_EQ(owner_->begun(), 2u);
  const LayerCache::Usage usage = cache_->usage();
  EXPECT_EQ(usage.chunks_total, 2u);
  EXPECT_EQ(usage.chunks_present, 2u);
  EXPECT_EQ(usage.bytes_present, 4u * 4096);
  EXPECT_LE(usage.disk_bytes, 8u * 4096);
}

TEST_F(ChunkCacheTest, BlocksOfZerosInsideAChunkAreHoles) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  EXPECT_TRUE(ReadsReadyRight(0, owner_->flat_size()));
  // Of 128 blocks the owner makes every fourth one zero; the file system adds a little of its own.
  EXPECT_LE(cache_->usage().disk_bytes, (96u + 4) * 4096);
  EXPECT_EQ(std::filesystem::file_size(Path(".data")), owner_->flat_size());
}

TEST_F(ChunkCacheTest, KeptChunksAreCheckedOnceAfterReopenAndNotFetched) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  Open();
  EXPECT_EQ(cache_->usage().chunks_present, 8u);
  EXPECT_FALSE(cache_->Ready(0, 1));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->checked.load(), 8u);
  EXPECT_EQ(owner_->begun(), 8u);
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(ChunkCacheTest, OfferedChunkIsKeptAndNotFetched) {
  Open();
  cache_->Offer(3, owner_->Content(3 * kChunk, kChunk));
  EXPECT_TRUE(cache_->Ready(3 * kChunk, kChunk));
  EXPECT_TRUE(ReadsRight(3 * kChunk, kChunk));
  EXPECT_EQ(owner_->begun(), 0u);
  EXPECT_EQ(counters_->misses.load(), 0u);
}

TEST_F(ChunkCacheTest, OffersThatDoNotFitAreIgnored) {
  OpenWith(std::make_shared<FakeChunkOwner>(
      std::vector<FakeChunkOwner::Chunk>{{16, false}, {16, true}}));
  const std::vector<uint8_t> bytes(kChunk, 7);
  cache_->Offer(0, ByteSpan(bytes).first(4096));
  cache_->Offer(1, bytes);
  cache_->Offer(2, bytes);
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
}

TEST_F(ChunkCacheTest, ProducerMayOfferNeighboursAndItself) {
  Open();
  owner_->on_produce = [this](uint64_t chunk) {
    cache_->Offer(chunk, owner_->Content(chunk * kChunk, kChunk));
    if (chunk + 1 < owner_->chunk_count())
      cache_->Offer(chunk + 1, owner_->Content((chunk + 1) * kChunk, kChunk));
  };
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 4u);
}

TEST_F(ChunkCacheTest, RangeBeyondTheLayerIsRefused) {
  Open();
  std::vector<uint8_t> out(2);
  const Status read = cache_->Read(owner_->flat_size() - 1, out, Soon());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kInvalid);
  EXPECT_FALSE(cache_->Ready(owner_->flat_size(), 1));
  EXPECT_FALSE(cache_->Ready(~uint64_t{0}, ~uint64_t{0}));
  EXPECT_TRUE(cache_->Ready(0, 0));
}

TEST_F(ChunkCacheTest, EmptyLayerHasNothingToRead) {
  OpenWith(std::make_shared<FakeChunkOwner>(0, 1));
  EXPECT_TRUE(ReadsRight(0, 0));
  EXPECT_FALSE(cache_->Ready(0, 1));
  EXPECT_EQ(cache_->usage().chunks_total, 0u);
}

TEST_F(ChunkCacheTest, AChunkTooBigForMemoryIsRefusedBeforeItIsAllocated) {
  OpenWith(std::make_shared<FakeChunkOwner>(1, uint64_t{1} << 26));  // 256 GiB
  std::vector<uint8_t> out(1);
  const Status read = cache_->Read(0, out, Soon());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kLimit);
  EXPECT_EQ(owner_->begun(), 0u);
}

TEST_F(ChunkCacheTest, FolderThatCannotBeMadeServesWithoutKeeping) {
  ASSERT_TRUE(WriteFileAtomically(folder_.path() + "/file", AsBytes("x")));
  OpenIn(folder_.path() + "/file/cache");
  EXPECT_TRUE(AllReadsRight());
  EXPECT_FALSE(cache_->Ready(0, 1));
  cache_->Offer(0, owner_->Content(0, kChunk));
  EXPECT_EQ(counters_->write_failures.load(), 9u);
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
}

// Readers that peek and read at random while others truncate nothing, offer chunks and fail now and
// then: whatever is returned is right.
TEST_F(ChunkCacheTest, MixedReadersAlwaysGetTheRightBytes) {
  std::vector<FakeChunkOwner::Chunk> chunks;
  for (uint64_t i = 0; i < 24; ++i) chunks.push_back({1 + i % 5, i % 6 == 5});
  OpenWith(std::make_shared<FakeChunkOwner>(chunks));
  ASSERT_TRUE(ReadsRight(0, owner_->flat_size() / 3));
  Open();
  FlipByte(Path(".data"), 10);
  const std::vector<uint8_t> all = owner_->Content(0, owner_->flat_size());
  std::atomic<uint64_t> wrong{0};
  std::atomic<uint64_t> reads{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 200; ++i) {
      const uint64_t offset = random() % all.size();
      std::vector<uint8_t> out(1 + random() % std::min<uint64_t>(20000, all.size() - offset));
      if (random() % 8 == 0) {
        const uint64_t chunk = random() % chunks.size();
        const ChunkExtent extent = owner_->Extent(chunk);
        cache_->Offer(chunk, ByteSpan(all).subspan(extent.flat_offset, extent.flat_length));
      }
      const bool peek = random() % 2 == 0 && cache_->Ready(offset, out.size());
      if (!(peek ? cache_->ReadReady(offset, out) : cache_->Read(offset, out, Soon()))) continue;
      ++reads;
      if (!std::equal(out.begin(), out.end(), all.begin() + static_cast<ptrdiff_t>(offset)))
        ++wrong;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 8; ++seed) threads.emplace_back(work, seed);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_EQ(reads.load(), 8u * 200);
  EXPECT_EQ(counters_->rotten.load(), 1u);
}

}  // namespace
}  // namespace lamina
