// [S102], [S103] The chunk cache with compression: what it saves, and that nobody reads a wrong
// byte of it, whatever the files say.

#include <random>
#include <thread>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;  // of the fixture's owner
constexpr uint64_t kPlainBlocks = 12;   // of each chunk; the others are zeros
constexpr uint64_t kHeaderBytes = 32;   // of the map
constexpr uint64_t kRecordBytes = 8;

class CompressedCacheTest : public ChunkCacheFixture,
                            public ::testing::WithParamInterface<CacheCompression> {
 protected:
  CompressedCacheTest() { owner_->compressible = true; }

  void OpenCompressed() { Open({.compression = GetParam()}); }
  uint64_t DataBlocks() const { return DiskBytes(Path(".data")) / 4096; }
  void SetWord(uint64_t chunk, uint32_t word) {
    const auto map = OpenFile(Path(".map"), O_RDWR);
    ASSERT_TRUE(map);
    uint8_t bytes[4];
    StoreLe<uint32_t>(bytes, word);
    ASSERT_TRUE(PwriteExactly(map->get(), bytes, kHeaderBytes + chunk * kRecordBytes + 4, "map"));
  }
  uint32_t Word(uint64_t chunk) {
    const auto map = OpenFile(Path(".map"), O_RDONLY);
    uint8_t bytes[4] = {};
    EXPECT_TRUE(PreadExactly(map->get(), bytes, kHeaderBytes + chunk * kRecordBytes + 4, "map"));
    return LoadLe<uint32_t>(bytes);
  }
  // Every range of a few KiB, as readers come.
  ::testing::AssertionResult PartsReadReadyRight() {
    for (uint64_t at = 0; at + 5000 < owner_->flat_size(); at += 4096)
      if (auto right = ReadsReadyRight(at, 5000); !right) return right;
    return ::testing::AssertionSuccess();
  }
};

INSTANTIATE_TEST_SUITE_P(Codecs, CompressedCacheTest,
                         ::testing::Values(CacheCompression::kLz4, CacheCompression::kZstd));

TEST_P(CompressedCacheTest, TakesLessDiskAndReadsRight) {
  OpenCompressed();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(cache_->Ready(0, owner_->flat_size()));
  EXPECT_TRUE(PartsReadReadyRight());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u);
  EXPECT_LE(DataBlocks(), 8 * kPlainBlocks * 3 / 4);
  OpenCompressed();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(PartsReadReadyRight());
  EXPECT_EQ(owner_->begun(), 8u);
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

TEST_P(CompressedCacheTest, WhatWasKeptInAnotherFormIsReadAsItIs) {
  const CacheCompression forms[] = {CacheCompression::kNone, GetParam(), CacheCompression::kLz4,
                                    CacheCompression::kZstd};
  for (uint64_t i = 0; i < 4; ++i) {
    Open({.compression = forms[i]});
    EXPECT_TRUE(ReadsRight(2 * i * kChunk, 2 * kChunk));
    EXPECT_TRUE(ReadsRight(0, 2 * (i + 1) * kChunk));
  }
  EXPECT_EQ(owner_->begun(), 8u);
  EXPECT_TRUE(PartsReadReadyRight());
}

TEST_P(CompressedCacheTest, ContentThatDoesNotCompressIsKeptPlain) {
  owner_->compressible = false;
  OpenCompressed();
  EXPECT_TRUE(AllReadsRight());
  for (uint64_t chunk = 0; chunk < 8; ++chunk) EXPECT_EQ(Word(chunk), 1u);
  Open();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u);
}

TEST_P(CompressedCacheTest, RotIsFoundAndHealed) {
  OpenCompressed();
  ASSERT_TRUE(AllReadsRight());
  FlipByte(Path(".data"), kChunk + 50);                         // in the compressed form
  FlipByte(Path(".map"), kHeaderBytes + 2 * kRecordBytes);      // a checksum
  FlipByte(Path(".map"), kHeaderBytes + 3 * kRecordBytes + 5);  // a length
  SetWord(4, 1);                                                // takes it for plain
  SetWord(5, (GetParam() == CacheCompression::kLz4 ? 3u : 2u) | (Word(5) & ~3u));  // other codec
  SetWord(6, (Word(6) & 3u) | (uint32_t{1} << 29) << 2);  // beyond its place
  SetWord(7, 4711u << 2);                                 // nothing at all: not there
  OpenCompressed();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 6u);
  EXPECT_EQ(owner_->begun(), 8u + 7u);
  EXPECT_EQ(owner_->produced(0), 1u);
  OpenCompressed();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u + 7u);
  EXPECT_LE(DataBlocks(), 8 * kPlainBlocks * 3 / 4);
}

TEST_P(CompressedCacheTest, RotUnderReadersIsNeverServed) {
  OpenCompressed();
  ASSERT_TRUE(AllReadsRight());
  FlipByte(Path(".data"), 20);
  std::vector<uint8_t> out(100);
  EXPECT_FALSE(cache_->ReadReady(0, out));
  EXPECT_TRUE(ReadsRight(0, kChunk));
  EXPECT_EQ(owner_->produced(0), 2u);
}

TEST_P(CompressedCacheTest, VerifyReadsThem) {
  OpenCompressed();
  ASSERT_TRUE(AllReadsRight());
  FlipByte(Path(".data"), 3 * kChunk + 30);
  const auto verified = cache_->Verify([](uint64_t) { return true; });
  ASSERT_TRUE(verified) << verified.error().message;
  EXPECT_EQ(verified->bad, std::vector<uint64_t>{3});
  EXPECT_EQ(verified->chunks, 8u);
  EXPECT_TRUE(AllReadsRight());
}

// Cut, and grown again as sparse files are.
TEST_P(CompressedCacheTest, TruncatedUnderReadersItIsFetchedAgain) {
  OpenCompressed();
  ASSERT_TRUE(AllReadsRight());
  ASSERT_EQ(::truncate(Path(".data").c_str(), 3 * kChunk), 0);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 8u + 5u);
}

// [S65]
TEST_P(CompressedCacheTest, TheLimitCountsWhatIsOnDisk) {
  auto budget = CacheBudget::Open(folder_.path(), 8 * kPlainBlocks * 4096 / 2);
  Open({.budget = budget, .compression = GetParam()});
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(cache_->usage().chunks_present, 8u);
  EXPECT_EQ(budget->evicted_bytes(), 0u);
  EXPECT_EQ(budget->used(), cache_->usage().disk_bytes);
  budget->Clear(layer_.PathName());
  EXPECT_EQ(DataBlocks(), 0u);
  EXPECT_TRUE(AllReadsRight());
}

// One of them would take for plain what the other one compresses.
TEST_P(CompressedCacheTest, FilesThatOthersHaveOpenTooAreWrittenPlain) {
  auto budget = CacheBudget::Open(folder_.path(), CacheBudget::kUnlimited);
  Open({.budget = budget, .compression = GetParam()});
  EXPECT_TRUE(ReadsRight(0, kChunk));
  const auto other = LayerCache::Open(folder_.path(), layer_, owner_, counters_,
                                      {.budget = budget, .compression = GetParam()});
  ASSERT_TRUE(other);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_NE(Word(0), 1u);
  for (uint64_t chunk = 1; chunk < 8; ++chunk) EXPECT_EQ(Word(chunk), 1u);
}

TEST_P(CompressedCacheTest, WhatIsWrittenWhileALayerIsIndexedIsCompressedAtTheEnd) {
  auto writer = CacheWriter::Create(folder_.path(), layer_, nullptr, GetParam());
  ASSERT_TRUE(writer);
  for (uint64_t at = 0; at < owner_->flat_size(); at += 5 * 4096)
    (*writer)->Write(at,
                     owner_->Content(at, std::min<uint64_t>(5 * 4096, owner_->flat_size() - at)));
  ASSERT_TRUE((*writer)->Commit(*owner_));
  EXPECT_LE(DataBlocks(), 8 * kPlainBlocks * 3 / 4);
  Open();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_TRUE(PartsReadReadyRight());
  EXPECT_EQ(owner_->begun(), 0u);
}

// Readers of parts, with and without a wait, while chunks are evicted and come back in other forms.
TEST_P(CompressedCacheTest, ReadersGetTheRightBytesWhileChunksGoAndComeBack) {
  owner_ = std::make_shared<FakeChunkOwner>(24, 16);
  owner_->compressible = true;
  auto budget = CacheBudget::Open(folder_.path(), 100 << 10);
  Open({.budget = budget, .compression = GetParam()});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed)
    threads.emplace_back([&, seed] {
      std::minstd_rand random(seed + 1);
      for (int i = 0; i < 1500; ++i) {
        const uint64_t length = 1 + random() % 9000;
        const uint64_t offset = random() % (owner_->flat_size() - length);
        std::vector<uint8_t> out(length);
        const bool peeks = i % 2 == 0 && cache_->Ready(offset, length);
        if (peeks && !cache_->ReadReady(offset, out)) continue;
        if (!peeks && !cache_->Read(offset, out, Soon())) ++wrong;
        if (out != owner_->Content(offset, length)) ++wrong;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_GT(budget->evicted_bytes(), 0u);
  EXPECT_EQ(counters_->rotten.load(), 0u);
}

}  // namespace
}  // namespace lamina
