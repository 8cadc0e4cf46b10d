#include <filesystem>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;

class CacheWriterTest : public ChunkCacheFixture {
 protected:
  std::unique_ptr<CacheWriter> Create() {
    auto writer = CacheWriter::Create(folder_.path(), layer_);
    EXPECT_TRUE(writer) << writer.error().message;
    return std::move(writer).value();
  }
  // Writes [begin, end) of the owner's content in pieces of 3 blocks.
  void Write(CacheWriter& writer, uint64_t begin, uint64_t end) {
    for (uint64_t at = begin; at < end; at += 3 * 4096)
      writer.Write(at, owner_->Content(at, std::min<uint64_t>(3 * 4096, end - at)));
  }
};

TEST_F(CacheWriterTest, CommittedChunksAreThereWithoutAFetch) {
  auto writer = Create();
  Write(*writer, 0, owner_->flat_size());
  ASSERT_TRUE(writer->Commit(*owner_));
  Open();
  EXPECT_EQ(cache_->usage().chunks_present, 8u);
  EXPECT_FALSE(cache_->Ready(0, 1));  // verified when it enters memory, whoever wrote it
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(owner_->begun(), 0u);
  EXPECT_EQ(counters_->checked.load(), 8u);
  EXPECT_LE(cache_->usage().disk_bytes, (96u + 4) * 4096);
}

TEST_F(CacheWriterTest, WithoutCommitNothingIsLeft) {
  {
    auto writer = Create();
    Write(*writer, 0, owner_->flat_size());
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(CacheWriterTest, CommitReplacesWhatWasThere) {
  Open();
  ASSERT_TRUE(ReadsRight(0, kChunk));
  auto writer = Create();
  Write(*writer, 0, owner_->flat_size());
  ASSERT_TRUE(writer->Commit(*owner_));
  writer.reset();
  EXPECT_TRUE(ReadsReadyRight(0, kChunk));  // the old file stays readable for who has it open
  Open();
  EXPECT_EQ(cache_->usage().chunks_present, 8u);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 2);
}

TEST_F(CacheWriterTest, GapsAreZeros) {
  owner_ = std::make_shared<FakeChunkOwner>(
      std::vector<FakeChunkOwner::Chunk>{{16, false}, {1u << 18, true}, {16, false}});
  const uint64_t second = owner_->Extent(2).flat_offset;
  auto writer = Create();
  Write(*writer, 0, kChunk);
  Write(*writer, second, second + kChunk);
  ASSERT_TRUE(writer->Commit(*owner_));
  Open();
  EXPECT_EQ(cache_->usage().chunks_present, 2u);
  EXPECT_TRUE(ReadsRight(kChunk - 10, 20));
  EXPECT_TRUE(ReadsRight(second - 10, kChunk));
  EXPECT_EQ(owner_->begun(), 0u);
}

TEST_F(CacheWriterTest, MoreBytesThanTheLayerHasAreRefused) {
  auto writer = Create();
  Write(*writer, 0, owner_->flat_size());
  writer->Write(owner_->flat_size(), std::vector<uint8_t>(4096, 1));
  EXPECT_FALSE(writer->Commit(*owner_));
  writer.reset();
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(CacheWriterTest, WrongBytesAreFoundWhenTheyAreRead) {
  auto writer = Create();
  writer->Write(0, std::vector<uint8_t>(owner_->flat_size(), 9));
  ASSERT_TRUE(writer->Commit(*owner_));
  Open();
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(counters_->rotten.load(), 8u);
}

}  // namespace
}  // namespace lamina
