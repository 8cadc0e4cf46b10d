// [S95] The chunk cache when its files rot, are cut short or deleted, or belong to another layout.

#include <filesystem>
#include <functional>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;  // of the fixture's owner

using ChunkCacheDamageTest = ChunkCacheFixture;

TEST_F(ChunkCacheDamageTest, RotOnDiskIsFoundOnEntryAndHealed) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  FlipByte(Path(".data"), kChunk + 5);          // in data
  FlipByte(Path(".data"), 4 * kChunk + 12300);  // in a hole
  Open();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 2u);
  EXPECT_EQ(owner_->produced(1), 2u);
  EXPECT_EQ(owner_->produced(4), 2u);
  EXPECT_EQ(owner_->begun(), 10u);
  Open();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 2u);
  EXPECT_LE(cache_->usage().disk_bytes, (96u + 4) * 4096);
}

TEST_F(ChunkCacheDamageTest, RotOfPagesThatWereDroppedIsFoundWhenTheyComeAgain) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  ASSERT_TRUE(ReadsReadyRight(0, owner_->flat_size()));
  FlipByte(Path(".data"), kChunk + 5);
  auto fd = OpenFile(Path(".data"), O_RDWR);
  ASSERT_TRUE(fd);
  ASSERT_EQ(::fsync(fd->get()), 0);
  ASSERT_EQ(::posix_fadvise(fd->get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  std::vector<uint8_t> out(4096);
  EXPECT_FALSE(cache_->ReadReady(kChunk, out));
  EXPECT_TRUE(ReadsRight(kChunk + 8192, 4096));  // the chunk is bad, if not this part of it
  EXPECT_EQ(counters_->rotten.load(), 1u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->produced(1), 2u);
  EXPECT_EQ(counters_->rotten.load(), 1u);
  EXPECT_TRUE(ReadsReadyRight(0, owner_->flat_size()));
}

TEST_F(ChunkCacheDamageTest, VerifyFindsRotThatReadersHaveNotMet) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  const auto go_on = [](uint64_t) { return true; };
  auto verified = cache_->Verify(go_on);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->chunks, 8u);
  EXPECT_EQ(verified->bytes, 8 * kChunk);
  EXPECT_TRUE(verified->bad.empty());
  EXPECT_TRUE(cache_->Ready(0, 8 * kChunk));
  FlipByte(Path(".data"), 3 * kChunk + 5);
  FlipByte(Path(".map"), 32 + 6 * 8);  // the checksum of chunk 6
  verified = cache_->Verify(go_on);
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->bad, (std::vector<uint64_t>{3, 6}));
  EXPECT_EQ(cache_->usage().chunks_present, 6u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 10u);
  EXPECT_TRUE(cache_->Verify(go_on)->bad.empty());
}

TEST_F(ChunkCacheDamageTest, VerifyEndsWhenNobodyWaitsForIt) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  const auto verified = cache_->Verify([](uint64_t) { return false; });
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().code, Code::kCancelled);
}

TEST_F(ChunkCacheDamageTest, RotWithoutTheRegistryFailsThatRangeOnly) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  FlipByte(Path(".data"), kChunk);
  Open();
  owner_->failing = true;
  EXPECT_TRUE(ReadsRight(0, kChunk));
  std::vector<uint8_t> out(1);
  EXPECT_FALSE(cache_->Read(kChunk, out, Soon()));
  EXPECT_TRUE(ReadsRight(2 * kChunk, kChunk));
  EXPECT_EQ(cache_->usage().chunks_present, 7u);
}

TEST_F(ChunkCacheDamageTest, FilesOfAnotherLayoutAreDropped) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  OpenWith(std::make_shared<FakeChunkOwner>(16, 8));  // as long, other chunks
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
  OpenWith(std::make_shared<FakeChunkOwner>(16, 4));  // as many, shorter
  EXPECT_EQ(cache_->usage().chunks_present, 0u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_F(ChunkCacheDamageTest, DamagedMapHeaderDropsThePair) {
  for (uint64_t at : {0u, 8u, 12u, 16u, 24u}) {
    Open();
    ASSERT_TRUE(AllReadsRight());
    FlipByte(Path(".map"), at);
    Open();
    EXPECT_EQ(cache_->usage().chunks_present, 0u) << at;
    EXPECT_EQ(DiskBytes(Path(".data")), 0u) << at;
  }
}

TEST_F(ChunkCacheDamageTest, EitherFileMayBeMissingOrTruncatedWhileClosed) {
  using Damage = std::function<void()>;
  const std::vector<Damage> damages = {
      [this] { std::filesystem::remove(Path(".data")); },
      [this] { std::filesystem::remove(Path(".map")); },
      [this] { std::filesystem::resize_file(Path(".data"), 100); },
      [this] { std::filesystem::resize_file(Path(".map"), 33); },
      [this] { std::filesystem::resize_file(Path(".map"), 0); },
  };
  for (const Damage& damage : damages) {
    Open();
    ASSERT_TRUE(AllReadsRight());
    cache_.reset();
    damage();
    Open();
    EXPECT_EQ(cache_->usage().chunks_present, 0u);
    EXPECT_TRUE(AllReadsRight());
  }
}

TEST_F(ChunkCacheDamageTest, DeletedFilesStayReadableWhileOpen) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  std::filesystem::remove(Path(".data"));
  std::filesystem::remove(Path(".map"));
  EXPECT_TRUE(ReadsReadyRight(0, owner_->flat_size()));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u);
}

TEST_F(ChunkCacheDamageTest, TruncatedDataFileIsAnErrorForPeeksAndRepairedByRead) {
  Open();
  ASSERT_TRUE(AllReadsRight());
  std::filesystem::resize_file(Path(".data"), 2 * kChunk);
  std::vector<uint8_t> out(kChunk);
  const Status peek = cache_->ReadReady(5 * kChunk, out);
  ASSERT_FALSE(peek);
  EXPECT_EQ(peek.error().code, Code::kIo);
  EXPECT_TRUE(ReadsRight(5 * kChunk, kChunk));
  // What was beyond the cut and not read yet must not show as zeros now that the file is long
  // again.
  EXPECT_FALSE(cache_->Ready(3 * kChunk, 1));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(ReadsReadyRight(0, owner_->flat_size()));
  EXPECT_EQ(owner_->begun(), 8u + 6u);
  EXPECT_EQ(std::filesystem::file_size(Path(".data")), owner_->flat_size());
}

TEST_F(ChunkCacheDamageTest, MissAfterTruncationDoesNotGrowTheFileOverLostChunks) {
  Open();
  ASSERT_TRUE(ReadsRight(0, 7 * kChunk));
  std::filesystem::resize_file(Path(".data"), 0);
  ASSERT_TRUE(ReadsRight(7 * kChunk, kChunk));  // writes at the very end
  std::vector<uint8_t> out(kChunk);
  EXPECT_FALSE(cache_->ReadReady(0, out));
  EXPECT_TRUE(AllReadsRight());
}

TEST_F(ChunkCacheDamageTest, TruncatedMapCostsRefetchesAtMost) {
  Open();
  ASSERT_TRUE(ReadsRight(0, kChunk));
  std::filesystem::resize_file(Path(".map"), 0);
  EXPECT_TRUE(AllReadsRight());
  Open();
  EXPECT_TRUE(AllReadsRight());
}

}  // namespace
}  // namespace lamina
