#include "fetch/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace lamina {
namespace {

struct Seen {
  std::vector<uint64_t> sizes;  // of the stretches
  std::set<uint64_t> chunks;    // fetched ahead
  bool twice = false;
};

constexpr uint64_t kMiB = 1u << 20;  // and each chunk has so many bytes

void Read(ReadAhead& ahead, uint64_t chunk, Seen* seen, uint64_t chunks = ~uint64_t{0}) {
  const auto stretch = ahead.Note(chunk);
  if (!stretch) return;
  const uint64_t end = std::min(chunks, stretch->first + stretch->bytes / kMiB);
  ahead.SetEnd(stretch->first, end);
  seen->sizes.push_back(end - stretch->first);
  for (uint64_t n = stretch->first; n < end; ++n)
    seen->twice = !seen->chunks.insert(n).second || seen->twice;
}

TEST(ReadAheadTest, AStretchDoublesUpToTheLimitAndEndsWithTheLayer) {
  ReadAhead ahead(100, 16 * kMiB);
  Seen seen;
  for (uint64_t chunk = 0; chunk < 100; ++chunk) Read(ahead, chunk, &seen, 100);
  EXPECT_EQ(seen.sizes, (std::vector<uint64_t>{2, 4, 8, 16, 16, 16, 16, 16, 3}));
  EXPECT_FALSE(seen.twice);
  EXPECT_EQ(*seen.chunks.begin(), 3u) << "the third chunk in order is the first sign";
  EXPECT_EQ(seen.chunks.size(), 97u);
}

TEST(ReadAheadTest, NoMoreThanTwoStretchesAreAheadOfTheReader) {
  ReadAhead ahead(1000, 16 * kMiB);
  Seen seen;
  for (uint64_t chunk = 0; chunk < 900; ++chunk) {
    Read(ahead, chunk, &seen);
    if (seen.chunks.empty()) continue;
    EXPECT_LE(*seen.chunks.rbegin(), chunk + 32);
  }
}

TEST(ReadAheadTest, SparseReadsCauseNone) {
  ReadAhead ahead(100'000, 16 * kMiB);
  Seen seen;
  uint64_t at = 7;
  for (int i = 0; i < 2000; ++i) Read(ahead, at = (at * 48271 + 11) % 100'000, &seen);
  EXPECT_TRUE(seen.sizes.empty());
}

TEST(ReadAheadTest, TwoChunksInOrderAreNoSign) {
  ReadAhead ahead(1000, 16 * kMiB);
  Seen seen;
  for (uint64_t chunk = 0; chunk < 900; chunk += 10) {
    Read(ahead, chunk, &seen);
    Read(ahead, chunk + 1, &seen);
  }
  EXPECT_TRUE(seen.sizes.empty());
}

TEST(ReadAheadTest, ReadersBesideEachOtherAreToldApart) {
  ReadAhead ahead(10'000, 16 * kMiB);
  Seen seen;
  for (uint64_t step = 0; step < 50; ++step)
    for (const uint64_t begin : {0, 2000, 4000, 6000}) Read(ahead, begin + step, &seen);
  EXPECT_FALSE(seen.twice);
  EXPECT_GE(seen.chunks.size(), 4 * 47u);
}

// The kernel sends its own read-ahead beside the read that caused it.
TEST(ReadAheadTest, ReadsThatOvertakeEachOtherAreInOrder) {
  ReadAhead ahead(200, 16 * kMiB);
  Seen seen;
  for (uint64_t chunk = 0; chunk < 100; chunk += 2) {
    Read(ahead, chunk + 1, &seen);
    Read(ahead, chunk, &seen);
  }
  EXPECT_FALSE(seen.twice);
  EXPECT_GE(seen.chunks.size(), 90u);
}

TEST(ReadAheadTest, TheNextStretchBeginsWhereTheLastOneEnded) {
  ReadAhead ahead(100, 16 * kMiB);
  Seen seen;
  for (const uint64_t chunk : {0, 1}) Read(ahead, chunk, &seen);
  const auto stretch = ahead.Note(2);
  ASSERT_TRUE(stretch);
  EXPECT_EQ(stretch->first, 3u);
  EXPECT_EQ(stretch->bytes, 2 * kMiB);
  EXPECT_FALSE(ahead.Note(3)) << "nobody knows yet where the next one begins";
  ahead.SetEnd(3, 7);  // further than was wanted
  Read(ahead, 4, &seen);
  EXPECT_EQ(seen.chunks, (std::set<uint64_t>{7, 8, 9, 10}));
}

TEST(ReadAheadTest, WhereNothingWasFetchedTheNextReaderIsReadAheadForAgain) {
  ReadAhead ahead(100, 16 * kMiB);
  Seen seen;
  for (const uint64_t chunk : {0, 1}) Read(ahead, chunk, &seen);
  ASSERT_TRUE(ahead.Note(2));
  ahead.SetEnd(3, 3);
  Read(ahead, 3, &seen);
  EXPECT_EQ(*seen.chunks.begin(), 4u);
}

TEST(ReadAheadTest, WithoutRoomNothingIsReadAhead) {
  ReadAhead ahead(100, 0);
  Seen seen;
  for (uint64_t chunk = 0; chunk < 100; ++chunk) Read(ahead, chunk, &seen);
  EXPECT_TRUE(seen.sizes.empty());
}

}  // namespace
}  // namespace lamina
