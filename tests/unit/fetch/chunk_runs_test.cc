// Chunks that come together, and chunks that come before they are asked for.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>

#include "tests/unit/fetch/chunk_cache_fixture.h"

namespace lamina {
namespace {

constexpr uint64_t kChunk = 16 * 4096;

using Joined = std::pair<uint64_t, uint64_t>;

// An owner that joins, and keeps what is posted until it is run. Any thread, but for the setters.
class JoiningOwner : public FakeChunkOwner {
 public:
  using FakeChunkOwner::FakeChunkOwner;

  uint64_t LastOfRun(uint64_t first, uint64_t last) const override {
    return std::min(last, first + most_joined - 1);
  }
  Status ProduceRun(uint64_t first, uint64_t last, const ChunkSink& sink, const Deadline&,
                    Urgency urgency) override {
    {
      std::lock_guard lock(mutex_);
      runs_.emplace_back(first, last);
      run_urgencies_.insert(urgency);
    }
    if (on_run) on_run();
    for (uint64_t chunk = first; chunk <= last; ++chunk) {
      if (away) return Error{Code::kUnavailable, "the registry is down"};
      if (chunk == wrong) return Error{Code::kCorrupt, "wrong bytes"};
      if (Extent(chunk).zero) continue;
      {
        std::lock_guard lock(mutex_);
        ++came_[chunk];
      }
      sink(chunk, Content(Extent(chunk).flat_offset, Extent(chunk).flat_length));
      if (after_chunk) after_chunk(chunk);
    }
    return {};
  }
  bool MayReadAhead(uint64_t, uint64_t) const override { return reads_ahead; }
  void Post(std::function<void()> job) override {
    std::lock_guard lock(mutex_);
    posted_.push_back(std::move(job));
  }

  std::vector<Joined> runs() const {
    std::lock_guard lock(mutex_);
    return runs_;
  }
  std::set<Urgency> run_urgencies() const {
    std::lock_guard lock(mutex_);
    return run_urgencies_;
  }
  // By runs and alone.
  uint64_t TimesFetched(uint64_t chunk) {
    const uint64_t alone = produced(chunk);
    std::lock_guard lock(mutex_);
    return came_[chunk] + alone;
  }
  size_t posted() const {
    std::lock_guard lock(mutex_);
    return posted_.size();
  }
  void RunPosted() {
    while (true) {
      std::function<void()> job;
      {
        std::lock_guard lock(mutex_);
        if (posted_.empty()) return;
        job = std::move(posted_.front());
        posted_.pop_front();
      }
      job();
    }
  }

  uint64_t most_joined = 1000;
  uint64_t wrong = ~uint64_t{0};
  std::atomic<bool> away{false};
  bool reads_ahead = true;
  std::function<void()> on_run;
  std::function<void(uint64_t chunk)> after_chunk;

 private:
  mutable std::mutex mutex_;
  std::vector<Joined> runs_;
  std::set<Urgency> run_urgencies_;
  std::map<uint64_t, uint64_t> came_;
  std::deque<std::function<void()>> posted_;
};

class ChunkRunsTest : public ChunkCacheFixture {
 protected:
  void OpenJoining(uint64_t chunks) {
    joining_ = std::make_shared<JoiningOwner>(chunks, 16);
    OpenWith(joining_);
  }
  ::testing::AssertionResult ReadsChunk(uint64_t chunk) {
    return ReadsRight(chunk * kChunk, kChunk);
  }

  std::shared_ptr<JoiningOwner> joining_;
};

TEST_F(ChunkRunsTest, NeighboursThatMissTogetherComeByOneRequest) {
  OpenJoining(8);
  EXPECT_TRUE(ReadsRight(kChunk + 5, 5 * kChunk));
  EXPECT_EQ(joining_->runs(), (std::vector<Joined>{{1, 6}}));
  EXPECT_EQ(joining_->begun(), 0u);
  EXPECT_EQ(counters_->misses.load(), 6u);
  EXPECT_EQ(counters_->runs.load(), 1u);
  EXPECT_TRUE(cache_->Ready(kChunk, 6 * kChunk));
}

TEST_F(ChunkRunsTest, WhatIsThereAlreadyIsNotFetchedWithItsNeighbours) {
  OpenJoining(8);
  cache_->Offer(3, joining_->Content(3 * kChunk, kChunk));
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(joining_->runs(), (std::vector<Joined>{{0, 2}, {4, 7}}));
}

TEST_F(ChunkRunsTest, ZeroChunksAreInNobodysWay) {
  std::vector<FakeChunkOwner::Chunk> chunks(6, {16, false});
  chunks[2].zero = chunks[5].zero = true;
  joining_ = std::make_shared<JoiningOwner>(chunks);
  OpenWith(joining_);
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(joining_->runs(), (std::vector<Joined>{{0, 4}}));
}

TEST_F(ChunkRunsTest, AChunkReachesItsReadersBeforeTheRunEnds) {
  OpenJoining(8);
  joining_->after_chunk = [this](uint64_t chunk) {
    if (chunk != 0) return;
    std::thread other([this] { EXPECT_TRUE(ReadsChunk(0)); });
    other.join();
  };
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(joining_->runs().size(), 1u);
}

TEST_F(ChunkRunsTest, WrongBytesInARunLeaveItsOtherChunksTheirOwnAttempts) {
  OpenJoining(8);
  joining_->wrong = 5;
  EXPECT_TRUE(AllReadsRight());
  for (uint64_t chunk = 0; chunk < 8; ++chunk) EXPECT_EQ(joining_->TimesFetched(chunk), 1u);
  EXPECT_EQ(joining_->produced(5), 1u);
}

TEST_F(ChunkRunsTest, ASourceThatIsAwayFailsTheReaderOnceAndLeavesNoFlightBehind) {
  OpenJoining(8);
  joining_->away = true;
  std::vector<uint8_t> out(8 * kChunk);
  const Status read = cache_->Read(0, out, Soon());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kUnavailable);
  EXPECT_EQ(joining_->runs().size(), 1u);
  EXPECT_EQ(joining_->begun(), 0u);
  joining_->away = false;
  EXPECT_TRUE(AllReadsRight());
}

TEST_F(ChunkRunsTest, WhoWaitsForAChunkOfAFailedRunLeadsItHimself) {
  OpenJoining(8);
  joining_->away = true;
  std::thread other;
  joining_->on_run = [&] {
    if (other.joinable()) return;
    other = std::thread([this] { EXPECT_TRUE(ReadsChunk(6)); });
    while (counters_->joined.load() == 0) std::this_thread::yield();
  };
  std::vector<uint8_t> out(8 * kChunk);
  EXPECT_FALSE(cache_->Read(0, out, Soon()));
  other.join();
  EXPECT_EQ(joining_->produced(6), 1u) << "the source was away for runs alone";
}

TEST_F(ChunkRunsTest, AnExceptionInARunLeavesNoFlightBehind) {
  OpenJoining(8);
  joining_->on_run = [] { throw std::runtime_error("no memory"); };
  std::vector<uint8_t> out(8 * kChunk);
  const Status read = cache_->Read(0, out, Soon());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kInternal);
  joining_->on_run = {};
  EXPECT_TRUE(AllReadsRight());
}

TEST_F(ChunkRunsTest, WhatCannotBeKeptServesTheReadThatBroughtIt) {
  ASSERT_TRUE(WriteFileAtomically(folder_.path() + "/file", AsBytes("x")));
  joining_ = std::make_shared<JoiningOwner>(8, 16);
  owner_ = joining_;
  OpenIn(folder_.path() + "/file/cache");
  EXPECT_TRUE(AllReadsRight());
  EXPECT_EQ(joining_->runs(), (std::vector<Joined>{{0, 7}}));
  EXPECT_EQ(joining_->begun(), 0u);
}

TEST_F(ChunkRunsTest, ManyReadersOfOverlappingRangesFetchEachChunkOnce) {
  OpenJoining(64);
  joining_->most_joined = 7;
  std::vector<std::thread> readers;
  for (uint64_t i = 0; i < 64; ++i)
    readers.emplace_back([this, i] {
      for (uint64_t n = 0; n < 8; ++n) {
        const uint64_t chunk = (i * 11 + n * 23) % 60;
        EXPECT_TRUE(ReadsRight(chunk * kChunk + 100, 4 * kChunk - 200));
      }
    });
  for (std::thread& reader : readers) reader.join();
  joining_->RunPosted();
  EXPECT_TRUE(AllReadsRight());
  for (uint64_t chunk = 0; chunk < 64; ++chunk) EXPECT_EQ(joining_->TimesFetched(chunk), 1u);
}

TEST_F(ChunkRunsTest, FetchBringsWhatIsMissingByWideRequests) {
  OpenJoining(20);
  joining_->most_joined = 8;
  ASSERT_TRUE(ReadsChunk(10));
  ASSERT_TRUE(cache_->Fetch(0, 19, Soon()));
  EXPECT_EQ(joining_->runs(), (std::vector<Joined>{{0, 7}, {8, 9}, {11, 18}}));
  EXPECT_EQ(joining_->begun(), 2u) << "chunk 10, and the last one alone";
  EXPECT_TRUE(cache_->Ready(0, 20 * kChunk));
}

TEST_F(ChunkRunsTest, WhatIsFetchedAsAWholeIsLessUrgentThanReaders) {
  OpenJoining(20);
  joining_->most_joined = 8;
  ASSERT_TRUE(cache_->Fetch(0, 16, Soon()));
  EXPECT_EQ(joining_->begun(), 1u) << "the last one alone";
  EXPECT_EQ(joining_->urgencies(), (std::set{Urgency::kAhead}));
  EXPECT_EQ(joining_->run_urgencies(), (std::set{Urgency::kAhead}));
  ASSERT_TRUE(ReadsRight(17 * kChunk, 3 * kChunk));
  EXPECT_EQ(joining_->run_urgencies(), (std::set{Urgency::kReader, Urgency::kAhead}));
}

TEST_F(ChunkRunsTest, AReaderDoesNotFailWithAFetchOfTheWholeThatHeJoined) {
  OpenJoining(8);
  std::atomic<int> fetches{0};
  joining_->on_produce = [&](uint64_t) {
    if (++fetches > 1) return joining_->failing.store(false);
    while (counters_->joined.load() == 0) std::this_thread::yield();
    joining_->failing = true;
  };
  std::thread reader;
  std::thread fetcher([this] { EXPECT_FALSE(cache_->Fetch(3, 3, Soon())); });
  while (fetches == 0) std::this_thread::yield();
  reader = std::thread([this] { EXPECT_TRUE(ReadsChunk(3)); });
  fetcher.join();
  reader.join();
  EXPECT_EQ(joining_->produced(3), 2u);
  EXPECT_EQ(joining_->urgencies(), (std::set{Urgency::kReader, Urgency::kAhead}));
}

TEST_F(ChunkRunsTest, WhoReadsInOrderIsReadAheadFor) {
  OpenJoining(100);
  joining_->most_joined = 8;
  for (uint64_t chunk = 0; chunk < 100; ++chunk) {
    EXPECT_TRUE(ReadsChunk(chunk));
    joining_->RunPosted();
  }
  EXPECT_EQ(joining_->begun(), 3u) << "those before the first stretch";
  for (uint64_t chunk = 0; chunk < 100; ++chunk) EXPECT_EQ(joining_->TimesFetched(chunk), 1u);
  EXPECT_LE(joining_->runs().size(), 16u);
  EXPECT_EQ(counters_->ahead_bytes.load(), 97 * kChunk);
  EXPECT_EQ(counters_->ahead_used_bytes.load(), 97 * kChunk);
  cache_.reset();
  EXPECT_EQ(counters_->ahead_wasted_bytes.load(), 0u);
}

TEST_F(ChunkRunsTest, WhatWasFetchedAheadAndNeverReadIsCounted) {
  OpenJoining(100);
  for (uint64_t chunk = 0; chunk < 3; ++chunk) EXPECT_TRUE(ReadsChunk(chunk));
  joining_->RunPosted();
  EXPECT_EQ(counters_->ahead_bytes.load(), 2u << 20) << "the first stretch";
  cache_.reset();
  EXPECT_EQ(counters_->ahead_wasted_bytes.load(), 2u << 20);
  EXPECT_EQ(counters_->ahead_used_bytes.load(), 0u);
}

TEST_F(ChunkRunsTest, SparseReadsFetchNothingAhead) {
  OpenJoining(1000);
  for (uint64_t chunk = 0; chunk < 1000; chunk += 37) EXPECT_TRUE(ReadsRight(chunk * kChunk, 10));
  EXPECT_EQ(joining_->posted(), 0u);
  EXPECT_EQ(counters_->ahead_bytes.load(), 0u);
}

TEST_F(ChunkRunsTest, AReaderDoesNotFailWithWhatWasFetchedAheadForHim) {
  OpenJoining(100);
  for (uint64_t chunk = 0; chunk < 3; ++chunk) EXPECT_TRUE(ReadsChunk(chunk));
  joining_->away = true;
  std::thread reader;
  joining_->on_run = [&] {
    if (reader.joinable()) return;
    reader = std::thread([this] { EXPECT_TRUE(ReadsChunk(3)); });
    while (counters_->joined.load() == 0) std::this_thread::yield();
  };
  joining_->RunPosted();
  reader.join();
  EXPECT_EQ(joining_->produced(3), 1u);
}

class SmallCacheTest : public ChunkRunsTest {
 protected:
  void OpenWithLimit(uint64_t limit, uint64_t blocks, uint64_t flat) {
    cache_.reset();
    if (budget_) budget_->Clear(layer_.PathName());
    joining_ = std::make_shared<JoiningOwner>(flat / (blocks * 4096), blocks);
    owner_ = joining_;
    budget_ = CacheBudget::Open(folder_.path(), limit);
    auto opened = LayerCache::Open(folder_.path(), layer_, owner_, counters_, {.budget = budget_});
    ASSERT_TRUE(opened) << opened.error().message;
    cache_ = std::move(opened).value();
  }
  // Reads a layer of `flat` bytes in order. The most bytes that were fetched ahead at a time.
  uint64_t AheadWithLimit(uint64_t limit, uint64_t blocks, uint64_t flat = 12u << 20) {
    OpenWithLimit(limit, blocks, flat);
    std::vector<uint8_t> out(blocks * 4096);
    uint64_t most = 0;
    for (uint64_t at = 0; at < owner_->flat_size(); at += out.size()) {
      EXPECT_TRUE(cache_->Read(at, out, Soon()));
      const uint64_t before = counters_->ahead_bytes.load();
      joining_->RunPosted();
      most = std::max(most, counters_->ahead_bytes.load() - before);
    }
    return most;
  }
  std::shared_ptr<CacheBudget> budget_;
};

TEST_F(SmallCacheTest, AStretchIsAPartOfASmallCacheWhateverTheSizeOfItsChunks) {
  EXPECT_EQ(AheadWithLimit(CacheBudget::kUnlimited, 16), 64 * kChunk) << "chunks at a time";
  EXPECT_EQ(AheadWithLimit(CacheBudget::kUnlimited, 256, 40u << 20), 16u << 20);
  EXPECT_EQ(AheadWithLimit(32u << 20, 256), 2u << 20);
  EXPECT_EQ(AheadWithLimit(32u << 20, 16), 2u << 20);
  EXPECT_EQ(AheadWithLimit(32u << 20, 1024), 0u) << "a chunk of 4 MiB is too much";
  EXPECT_EQ(AheadWithLimit(8u << 20, 256), 0u);
}

TEST_F(SmallCacheTest, WhatIsFetchedAheadIsUsedOrEvictedOrStillThere) {
  EXPECT_GT(AheadWithLimit(32u << 20, 16), 0u);
  budget_->Clear(layer_.PathName());
  EXPECT_EQ(counters_->ahead_used_bytes.load() + counters_->ahead_wasted_bytes.load(),
            counters_->ahead_bytes.load());
}

TEST_F(SmallCacheTest, WhatWasFetchedAheadAndCouldNotBeKeptIsWasted) {
  OpenWithLimit(32u << 20, 16, 12u << 20);
  for (uint64_t chunk = 0; chunk < 3; ++chunk) EXPECT_TRUE(ReadsChunk(chunk));
  budget_->SetPinned({layer_.PathName()});
  CacheBudget::Account other(budget_, Digest::Sha256(AsBytes("another layer")));
  const auto all = other.Reserve(budget_->limit() - budget_->used());
  ASSERT_TRUE(all) << all.error().message;
  joining_->RunPosted();
  EXPECT_EQ(counters_->ahead_bytes.load(), 2u << 20);
  EXPECT_EQ(counters_->ahead_wasted_bytes.load(), 2u << 20);
  EXPECT_TRUE(ReadsChunk(3));
  EXPECT_EQ(counters_->ahead_used_bytes.load(), 0u) << "it was fetched again";
}

TEST_F(ChunkRunsTest, NothingIsFetchedAheadWhereNothingCanBeKept) {
  ASSERT_TRUE(WriteFileAtomically(folder_.path() + "/file", AsBytes("x")));
  joining_ = std::make_shared<JoiningOwner>(50, 16);
  owner_ = joining_;
  OpenIn(folder_.path() + "/file/cache");
  for (uint64_t chunk = 0; chunk < 50; ++chunk) EXPECT_TRUE(ReadsChunk(chunk));
  EXPECT_EQ(joining_->posted(), 0u);
}

TEST_F(ChunkRunsTest, WhatIsPostedMayOutliveTheCache) {
  OpenJoining(100);
  for (uint64_t chunk = 0; chunk < 3; ++chunk) EXPECT_TRUE(ReadsChunk(chunk));
  cache_.reset();
  joining_->RunPosted();
  EXPECT_TRUE(joining_->runs().empty());
}

}  // namespace
}  // namespace lamina
