// Large streams of a registry in pieces that come beside each other.

#include "fetch/split_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "fetch/registry_blob.h"
#include "fetch/registry_hosts.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPiece = SplitStream::kPiece;

const std::string& LargeBlob() {
  static const std::string blob = PatternBytes(5 * kPiece + 12345);
  return blob;
}

RegistryOptions WithMemory(uint64_t bytes = 64u << 20) {
  RegistryOptions options = ShortTimeouts();
  options.memory = std::make_shared<Quota>(bytes, bytes / 4);
  return options;
}

// A blob that is always split, on a server; digests of large blobs take their time, and the
// descriptor needs none that fits.
struct SplitBlob {
  SplitBlob(HttpServer::Handler handler, const RegistryOptions& options, uint64_t size,
            RegistryBlob::StreamOptions stream = {.split_from = -1})
      : server(std::move(handler)),
        session(
            std::make_shared<RegistrySession>(OriginEndpoint(server.host(), "team/app", false, {}),
                                              options, std::make_shared<RegistryCounters>())) {
    Descriptor descriptor = DescriptorOf("large");
    descriptor.size = size;
    blob = std::make_unique<RegistryBlob>(session, "team/app", descriptor, stream);
  }
  void ExpectWhole(const std::string& bytes) const {
    std::string out;
    ASSERT_TRUE(StreamInto(*blob, 0, &out));
    EXPECT_TRUE(out == bytes);
  }
  HttpServer server;
  std::shared_ptr<RegistrySession> session;
  std::unique_ptr<RegistryBlob> blob;
};

std::multiset<std::string> RangesOf(const HttpServer& server) {
  std::multiset<std::string> ranges;
  for (const FakeRequest& request : server.requests()) ranges.insert(request.Header("range"));
  return ranges;
}

// [S84]
TEST(SplitStreamTest, ALargeBlobComesInPiecesEachOnceAndInOrder) {
  const std::string& blob = LargeBlob();
  const RegistryOptions options = WithMemory();
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, options,
                 blob.size());
  std::string out;
  const Status done = StreamInto(*fake.blob, 0, &out);
  ASSERT_TRUE(done) << Stringify(done);
  EXPECT_TRUE(out == blob);
  std::multiset<std::string> expected;
  for (uint64_t at = 0; at < blob.size(); at += kPiece)
    expected.insert("bytes=" + std::to_string(at) + "-" +
                    std::to_string(std::min<uint64_t>(blob.size(), at + kPiece) - 1));
  EXPECT_EQ(RangesOf(fake.server), expected);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
  EXPECT_LE(options.memory->most_used(), SplitStream::kHelpers * kPiece);
  EXPECT_EQ(options.memory->used(), 0u);
}

TEST(SplitStreamTest, TheSinkGetsSmallSlices) {
  const std::string& blob = LargeBlob();
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, WithMemory(),
                 blob.size());
  size_t largest = 0;
  ASSERT_TRUE(fake.blob->Stream(0, [&](ByteSpan bytes) -> Status {
    largest = std::max(largest, bytes.size());
    return {};
  }));
  EXPECT_LE(largest, SplitStream::kSlice);
}

// Each helper has a share of the memory, and one host has half of it.
TEST(SplitStreamTest, ManyStreamsHaveNoMoreHelpersThanThereIsMemory) {
  const std::string& blob = LargeBlob();
  RegistryOptions options = WithMemory();
  options.connections = 64;
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  int most = 0;
  SplitBlob fake(
      [&](const FakeRequest& request) {
        if (const auto range = request.Range(); range && range->first > 0) {
          std::unique_lock lock(mutex);
          most = std::max(most, ++inside);
          changed.notify_all();
          // 4 streams and 3 pieces of 24 MiB, half of what is not for readers.
          changed.wait_for(lock, std::chrono::minutes(1), [&] { return most >= 7; });
          --inside;
        }
        return ServeBlob(request, blob);
      },
      options, blob.size());
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      std::string out;
      if (StreamInto(*fake.blob, 0, &out) && out == blob) ++right;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 4);
  EXPECT_EQ(most, 7);
  EXPECT_EQ(options.memory->most_used(), SplitStream::kHelpers * kPiece);
  EXPECT_EQ(options.memory->used(), 0u);
}

TEST(SplitStreamTest, AServerWithoutRangesSendsItOnce) {
  const std::string& blob = LargeBlob();
  SplitBlob fake([&](const FakeRequest&) { return Bytes(blob); }, WithMemory(), blob.size());
  fake.ExpectWhole(blob);
  EXPECT_EQ(fake.server.requests().size(), 1u);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
}

TEST(SplitStreamTest, SmallBlobsAreNotSplit) {
  const std::string blob = PatternBytes(SplitStream::kLeast - 1);
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, WithMemory(),
                 blob.size());
  fake.ExpectWhole(blob);
  EXPECT_EQ(RangesOf(fake.server), (std::multiset<std::string>{""}));
}

// Two requests: the head, which tells, and the rest.
TEST(SplitStreamTest, AStreamThatIsFastEnoughForItsSinkIsLeftAlone) {
  const std::string& blob = LargeBlob();
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, WithMemory(),
                 blob.size(), {.split_from = 1});
  fake.ExpectWhole(blob);
  EXPECT_EQ(fake.server.requests().size(), 2u);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
}

TEST(SplitStreamTest, WithoutMemoryItIsOneStream) {
  const std::string& blob = LargeBlob();
  const RegistryOptions options = WithMemory();
  const auto all = options.memory->TryTake(64u << 20, Urgency::kReader);
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, options,
                 blob.size());
  fake.ExpectWhole(blob);
  EXPECT_EQ(fake.server.connections(), 1);
}

// [S84] Each piece breaks once in its middle and goes on there.
TEST(SplitStreamTest, ABrokenPieceGoesOnFromItsLastByte) {
  const std::string& blob = LargeBlob();
  std::mutex mutex;
  std::set<std::string> broken;
  SplitBlob fake(
      [&](const FakeRequest& request) {
        FakeResponse response = ServeBlob(request, blob);
        const auto range = request.Range();
        std::lock_guard lock(mutex);
        if (range && range->first % kPiece == 0 && broken.insert(request.Header("range")).second)
          response.cut_after = response.body.size() / 2;
        return response;
      },
      WithMemory(), blob.size());
  std::string out;
  const Status done = StreamInto(*fake.blob, 0, &out);
  ASSERT_TRUE(done) << Stringify(done);
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(broken.size(), 6u);
  EXPECT_EQ(fake.session->counters().retries, 6u);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size()) << "no byte came twice";
}

TEST(SplitStreamTest, ItFailsAsAStreamDoesWhereTheRegistryRefuses) {
  const std::string& blob = LargeBlob();
  SplitBlob fake(
      [&](const FakeRequest& request) {
        const auto range = request.Range();
        if (range && range->first >= 2 * kPiece) return Failing(404, "BLOB_UNKNOWN");
        return ServeBlob(request, blob);
      },
      WithMemory(), blob.size());
  std::string out;
  const Status done = StreamInto(*fake.blob, 0, &out);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kNotFound) << Stringify(done);
  EXPECT_TRUE(out == blob.substr(0, 2 * kPiece));
}

TEST(SplitStreamTest, AnErrorOfTheSinkEndsIt) {
  const std::string& blob = LargeBlob();
  const RegistryOptions options = WithMemory();
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, options,
                 blob.size());
  uint64_t taken = 0;
  const Status done = fake.blob->Stream(0, [&](ByteSpan bytes) -> Status {
    if ((taken += bytes.size()) > 3 * kPiece) return Error{Code::kCancelled, "enough"};
    return {};
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kCancelled);
  EXPECT_THAT(done.error().message, HasSubstr("enough"));
  EXPECT_EQ(options.memory->used(), 0u);
}

// --- servers that cannot be asked for parts ------------------------------------------------------

TEST(SplitStreamTest, WhereTheWholeComesInsteadOfAPartThereAreNoMoreParts) {
  const std::string& blob = LargeBlob();
  SplitBlob fake(
      [&](const FakeRequest& request) {
        const auto range = request.Range();
        return range && range->first > 0 ? Bytes(blob) : ServeBlob(request, blob);
      },
      WithMemory(), blob.size());
  std::string out;
  const Status done = StreamInto(*fake.blob, 0, &out);
  ASSERT_TRUE(done) << Stringify(done);
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(fake.session->counters().blob_bytes, kPiece + blob.size());
  EXPECT_LE(fake.server.requests().size(), 2 + SplitStream::kHelpers);
  EXPECT_EQ(fake.session->counters().retries, 0u);
}

TEST(SplitStreamTest, WhoseRangesAreWrongIsAskedForAll) {
  const std::string& blob = LargeBlob();
  for (const bool from_the_first : {true, false}) {
    SplitBlob fake(
        [&](const FakeRequest& request) {
          FakeResponse response = ServeBlob(request, blob);
          const auto range = request.Range();
          if (range && (from_the_first || range->first > 0))
            response.headers = {{"Content-Range", "bytes 1-100/1000"}};
          return response;
        },
        WithMemory(), blob.size());
    std::string out;
    const Status done = StreamInto(*fake.blob, 0, &out);
    ASSERT_TRUE(done) << Stringify(done);
    EXPECT_TRUE(out == blob);
    EXPECT_EQ(RangesOf(fake.server).count(""), 1u);
    EXPECT_EQ(fake.session->counters().blob_bytes, (from_the_first ? 0 : kPiece) + blob.size());
  }
}

TEST(SplitStreamTest, WhoRefusesRangesIsAskedForAll) {
  const std::string& blob = LargeBlob();
  for (const int status : {416, 400, 501}) {
    for (const uint64_t from : {uint64_t{0}, kPiece, 3 * kPiece}) {
      SplitBlob fake(
          [&](const FakeRequest& request) {
            const auto range = request.Range();
            return range && range->first >= from ? Failing(status, "RANGE_INVALID")
                                                 : ServeBlob(request, blob);
          },
          WithMemory(), blob.size());
      std::string out;
      const Status done = StreamInto(*fake.blob, 0, &out);
      ASSERT_TRUE(done) << Stringify(done);
      EXPECT_TRUE(out == blob);
      // Where a helper found out, the one request for the rest may begin before what is refused.
      const size_t plain = RangesOf(fake.server).count("");
      EXPECT_LE(plain, 1u);
      EXPECT_GE(plain, from <= kPiece ? 1u : 0u);
    }
  }
}

TEST(SplitStreamTest, AStreamThatIsNotSplitAsksAnewNowAndThen) {
  const std::string& blob = LargeBlob();
  const RegistryBlob::StreamOptions stream{.split_from = 1, .turn_bytes = 2 * kPiece};
  for (const bool memory : {true, false}) {
    SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); },
                   memory ? WithMemory() : ShortTimeouts(), blob.size(), stream);
    std::string out;
    ASSERT_TRUE(StreamInto(*fake.blob, 0, &out));
    EXPECT_TRUE(out == blob);
    EXPECT_EQ(fake.server.requests().size(), memory ? 4u : 3u);
    EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
    EXPECT_EQ(fake.server.connections(), 1);
  }
  SplitBlob without([&](const FakeRequest&) { return Bytes(blob); }, ShortTimeouts(), blob.size(),
                    stream);
  std::string out;
  ASSERT_TRUE(StreamInto(*without.blob, 0, &out));
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(without.server.requests().size(), 1u);
}

// --- who wants no more ---------------------------------------------------------------------------

// The timeouts are longer than any test may take.
RegistryOptions Patient(RegistryOptions options) {
  options.stall_timeout = std::chrono::hours(1);
  return options;
}

Status StreamUntilNothingComes(BlobSource& blob) {
  return blob.Stream(0, [](ByteSpan bytes) -> Status {
    if (bytes.empty()) return Error{Code::kCancelled, "enough"};
    return {};
  });
}

// While one who has leave asks a host that was away nobody else gets it; the pieces of a stream
// need none of their own, and are tried as often as ever once the first has come.
TEST(SplitStreamTest, LeaveIsAskedOnceForAStream) {
  RegistryOptions options = WithMemory();
  options.stall_timeout = std::chrono::milliseconds(600);
  options.attempts = 2;
  std::atomic<bool> silent{true};
  std::atomic<int> broken{1};
  const std::string& blob = LargeBlob();
  const SplitBlob split(
      [&](const FakeRequest& request) {
        FakeResponse response = ServeBlob(request, blob);
        response.silent = silent;
        const auto range = request.Range();
        response.no_answer = !silent && range && range->first > 0 && broken-- > 0;
        return response;
      },
      options, blob.size());
  std::string out;
  // Refused where nobody may ask: it is known to be away.
  const Deadline hung = Deadline::After(std::chrono::minutes(1));
  const auto is_known = [&] {
    const size_t asked = split.server.requests().size();
    EXPECT_FALSE(ReadInto(*split.blob, 0, 10, &out));
    return split.server.requests().size() == asked;
  };
  while (!is_known() && !hung.passed()) std::this_thread::yield();
  silent = false;
  Status done;
  do {
    out.clear();
    done = StreamInto(*split.blob, 0, &out);
  } while (!done && out.empty() && !hung.passed());
  EXPECT_TRUE(done) << Stringify(done);
  EXPECT_TRUE(out == blob);
}

TEST(SplitStreamTest, WhoWaitsForAPieceSeesThatItIsNotWanted) {
  const std::string& blob = LargeBlob();
  const RegistryOptions options = Patient(WithMemory());
  SplitBlob fake(
      [&](const FakeRequest& request) {
        FakeResponse response = ServeBlob(request, blob);
        if (request.Range()->first >= 2 * kPiece) response.silent_after = 1000;
        return response;
      },
      options, blob.size());
  const Status done = StreamUntilNothingComes(*fake.blob);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kCancelled) << Stringify(done);
  EXPECT_EQ(options.memory->used(), 0u);
}

TEST(SplitStreamTest, WhoWaitsForASilentServerSeesThatItIsNotWanted) {
  const std::string blob = PatternBytes(100000);
  for (const uint64_t after : {uint64_t{0}, uint64_t{1000}}) {
    SplitBlob fake(
        [&](const FakeRequest& request) {
          FakeResponse response = ServeBlob(request, blob);
          if (after == 0) response.silent = true;
          response.silent_after = after;
          return response;
        },
        Patient(ShortTimeouts()), blob.size());
    const Status done = StreamUntilNothingComes(*fake.blob);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().code, Code::kCancelled) << Stringify(done);
  }
}

TEST(SplitStreamTest, WhoWaitsForTheNextAttemptSeesThatItIsNotWanted) {
  const std::string blob = PatternBytes(1000);
  SplitBlob fake(
      [&](const FakeRequest&) {
        FakeResponse response = Failing(503, "BUSY");
        response.headers.emplace_back("Retry-After", "3000");
        return response;
      },
      Patient(ShortTimeouts()), blob.size());
  const Status done = StreamUntilNothingComes(*fake.blob);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kCancelled) << Stringify(done);
  EXPECT_EQ(fake.server.requests().size(), 1u);
}

}  // namespace
}  // namespace lamina
