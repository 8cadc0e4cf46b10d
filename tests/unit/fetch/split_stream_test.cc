// Large streams of a registry in pieces that come beside each other.

#include "fetch/split_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <set>

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
            double split_from = -1)
      : server(std::move(handler)),
        session(
            std::make_shared<RegistrySession>(OriginEndpoint(server.host(), "team/app", false, {}),
                                              options, std::make_shared<RegistryCounters>())) {
    Descriptor descriptor = DescriptorOf("large");
    descriptor.size = size;
    blob = std::make_unique<RegistryBlob>(session, "team/app", descriptor, split_from);
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
  EXPECT_LE(options.memory->most_used(), (SplitStream::kHelpers + 1) * kPiece);
  EXPECT_EQ(options.memory->used(), 0u);
}

TEST(SplitStreamTest, AServerWithoutRangesSendsItOnce) {
  const std::string& blob = LargeBlob();
  SplitBlob fake([&](const FakeRequest&) { return Bytes(blob); }, WithMemory(), blob.size());
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.blob, 0, &out));
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(fake.server.requests().size(), 1u);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
}

TEST(SplitStreamTest, SmallBlobsAreNotSplit) {
  const std::string blob = PatternBytes(SplitStream::kLeast - 1);
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, WithMemory(),
                 blob.size());
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.blob, 0, &out));
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(RangesOf(fake.server), (std::multiset<std::string>{""}));
}

// Two requests: the head, which tells, and the rest.
TEST(SplitStreamTest, AStreamThatIsFastEnoughForItsSinkIsLeftAlone) {
  const std::string& blob = LargeBlob();
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, WithMemory(),
                 blob.size(), /*split_from=*/1);
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.blob, 0, &out));
  EXPECT_TRUE(out == blob);
  EXPECT_EQ(fake.server.requests().size(), 2u);
  EXPECT_EQ(fake.session->counters().blob_bytes, blob.size());
}

TEST(SplitStreamTest, WithoutMemoryItIsOneStream) {
  const std::string& blob = LargeBlob();
  const RegistryOptions options = WithMemory();
  const auto all = options.memory->TryTake(64u << 20, Urgency::kReader);
  SplitBlob fake([&](const FakeRequest& request) { return ServeBlob(request, blob); }, options,
                 blob.size());
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.blob, 0, &out));
  EXPECT_TRUE(out == blob);
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

}  // namespace
}  // namespace lamina
