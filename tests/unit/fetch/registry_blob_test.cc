// Blobs over HTTP ranges against a fake server with faults.

#include "fetch/registry_blob.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <barrier>
#include <thread>

#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;

TEST(RegistryBlobTest, ReadsRangesByteForByteOverOneConnection) {
  const std::string blob = PatternBytes(300000);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  const auto source = fake.Blob(blob);
  EXPECT_EQ(source->size(), blob.size());
  for (const size_t offset : {0u, 1u, 4096u, 250000u, 299999u}) {
    const size_t size = std::min<size_t>(10000, blob.size() - offset);
    std::string out;
    ASSERT_TRUE(ReadInto(*source, offset, size, &out).has_value());
    EXPECT_EQ(out, blob.substr(offset, size));
  }
  EXPECT_EQ(fake.server.connections(), 1);
  const FakeRequest request = fake.server.requests().at(0);
  EXPECT_EQ(request.target, "/v2/team/app/blobs/" + DescriptorOf(blob).digest.ToString());
  EXPECT_EQ(request.Header("range"), "bytes=0-9999");
  EXPECT_EQ(request.Header("accept-encoding"), "identity");
  EXPECT_EQ(request.Header("user-agent"), "lamina");
  EXPECT_EQ(request.Header("authorization"), "");
  EXPECT_EQ(fake.registry->counters().requests, 5u);
  EXPECT_EQ(fake.registry->counters().range_requests, 5u);
  EXPECT_EQ(fake.registry->counters().blob_bytes, 4 * 10000u + 1u);
}

TEST(RegistryBlobTest, RefusesRangesBeyondTheEndWithoutARequest) {
  const std::string blob = PatternBytes(100);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  std::string out;
  const auto source = fake.Blob(blob);
  EXPECT_EQ(ReadInto(*source, 90, 11, &out).error().code, Code::kInvalid);
  EXPECT_EQ(ReadInto(*source, UINT64_MAX, 2, &out).error().code, Code::kInvalid);
  EXPECT_EQ(StreamInto(*source, 101, &out).error().code, Code::kInvalid);
  EXPECT_TRUE(ReadInto(*source, 100, 0, &out).has_value());
  EXPECT_TRUE(StreamInto(*source, 100, &out).has_value());
  EXPECT_EQ(fake.server.requests().size(), 0u);
}

TEST(RegistryBlobTest, TakesItsPartOfAWholeBlobAndLeavesTheRest) {
  const std::string blob = PatternBytes(16u << 20);
  FakeRegistry fake([&](const FakeRequest&) { return Bytes(blob); });
  const auto source = fake.Blob(blob);
  std::string out;
  ASSERT_TRUE(ReadInto(*source, 100000, 5000, &out).has_value());
  EXPECT_EQ(out, blob.substr(100000, 5000));
  EXPECT_LT(fake.registry->counters().blob_bytes, 2u << 20);
  EXPECT_EQ(fake.server.requests().size(), 1u);
}

TEST(RegistryBlobTest, StreamsFromTheMiddleOfAServerWithoutRanges) {
  const std::string blob = PatternBytes(500000);
  FakeRegistry fake([&](const FakeRequest&) { return Bytes(blob); });
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.Blob(blob), 123456, &out).has_value());
  EXPECT_EQ(out, blob.substr(123456));
}

FakeResponse Part(const std::string& blob, const std::string& content_range, size_t from,
                  size_t size) {
  FakeResponse response;
  response.status = 206;
  response.headers = {{"Content-Range", content_range}};
  response.body = blob.substr(from, size);
  return response;
}

TEST(RegistryBlobTest, RefusesEveryRangeButTheOneItAskedFor) {
  const std::string blob = PatternBytes(1000);
  for (const char* range : {"bytes 101-200/1000", "bytes 100-198/1000", "bytes 100-200/1000",
                            "bytes 100-199/1001", "bytes 100-199/*", "100-199/1000", ""}) {
    FakeRegistry fake([&](const FakeRequest&) { return Part(blob, range, 100, 100); });
    std::string out;
    const Status status = ReadInto(*fake.Blob(blob), 100, 100, &out);
    ASSERT_FALSE(status.has_value()) << range;
    EXPECT_EQ(status.error().code, Code::kCorrupt) << range;
    EXPECT_EQ(out, std::string(100, '\0')) << "bytes of an answer that does not fit were used";
    EXPECT_EQ(fake.server.requests().size(), 4u) << range;
  }
}

TEST(RegistryBlobTest, ReadsOnAfterOneWrongRange) {
  const std::string blob = PatternBytes(1000);
  std::atomic<int> calls{0};
  FakeRegistry fake([&](const FakeRequest& request) {
    return calls++ == 0 ? Part(blob, "bytes 0-99/1000", 0, 100) : ServeBlob(request, blob);
  });
  std::string out;
  ASSERT_TRUE(ReadInto(*fake.Blob(blob), 100, 100, &out).has_value());
  EXPECT_EQ(out, blob.substr(100, 100));
  EXPECT_EQ(fake.registry->counters().retries, 1u);
}

TEST(RegistryBlobTest, UnderstandsAMultipartAnswerOfOnePart) {
  const std::string blob = PatternBytes(100000);
  FakeRegistry fake([&](const FakeRequest& request) {
    const auto range = *request.Range();
    FakeResponse response;
    response.status = 206;
    response.headers = {{"Content-Type", "multipart/byteranges; boundary=CloudFront:0F"}};
    response.body =
        "\r\n--CloudFront:0F\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes " +
        std::to_string(range.first) + "-" + std::to_string(range.second - 1) + "/100000\r\n\r\n" +
        blob.substr(range.first, range.second - range.first) + "\r\n--CloudFront:0F--\r\n";
    return response;
  });
  const auto source = fake.Blob(blob);
  std::string out;
  for (const size_t offset : {10u, 50000u}) {
    const Status status = ReadInto(*source, offset, 40000, &out);
    ASSERT_TRUE(status.has_value()) << Stringify(status);
    EXPECT_EQ(out, blob.substr(offset, 40000));
  }
  EXPECT_EQ(fake.server.connections(), 1);
}

TEST(RegistryBlobTest, RefusesAMultipartAnswerOfAnotherPart) {
  const std::string blob = PatternBytes(1000);
  for (const char* head : {"--x\r\nContent-Range: bytes 0-99/1000\r\n\r\n", "--x\r\n\r\n",
                           "--y\r\nContent-Range: bytes 100-199/1000\r\n\r\n", "no head at all"}) {
    FakeRegistry fake([&](const FakeRequest&) {
      FakeResponse response = Bytes(head + blob.substr(100, 100));
      response.status = 206;
      response.headers = {{"Content-Type", "multipart/byteranges; boundary=x"}};
      return response;
    });
    std::string out;
    const Status status = ReadInto(*fake.Blob(blob), 100, 100, &out);
    ASSERT_FALSE(status.has_value()) << head;
    EXPECT_EQ(status.error().code, Code::kCorrupt);
  }
}

TEST(RegistryBlobTest, StreamGoesOnWhereTheConnectionBroke) {
  const std::string blob = PatternBytes(1000000);
  std::atomic<int> calls{0};
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response = ServeBlob(request, blob);
    if (calls++ < 6) response.cut_after = 100000;
    return response;
  });
  std::string out;
  const Status status = StreamInto(*fake.Blob(blob), 0, &out);
  ASSERT_TRUE(status.has_value()) << Stringify(status);
  EXPECT_EQ(out, blob);
  const auto requests = fake.server.requests();
  ASSERT_EQ(requests.size(), 7u);  // more breaks than attempts: progress counts them anew
  EXPECT_EQ(requests[0].Header("range"), "");
  EXPECT_EQ(requests[1].Header("range"), "bytes=100000-999999");
  EXPECT_EQ(requests[6].Header("range"), "bytes=600000-999999");
  EXPECT_EQ(fake.registry->counters().blob_bytes, blob.size());
}

TEST(RegistryBlobTest, StreamGivesUpWhereNothingComes) {
  const std::string blob = PatternBytes(1000);
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response = ServeBlob(request, blob);
    response.cut_after = 0;
    return response;
  });
  std::string out;
  const Status status = StreamInto(*fake.Blob(blob), 0, &out);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("team/app"));
  EXPECT_LE(fake.server.requests().size(), 4u);
  EXPECT_GE(fake.server.requests().size(), 2u);
}

TEST(RegistryBlobTest, ReadGoesOnWhereTheConnectionBroke) {
  const std::string blob = PatternBytes(200000);
  std::atomic<int> calls{0};
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response = ServeBlob(request, blob);
    if (calls++ == 0) response.cut_after = 30000;
    return response;
  });
  std::string out;
  ASSERT_TRUE(ReadInto(*fake.Blob(blob), 1000, 100000, &out).has_value());
  EXPECT_EQ(out, blob.substr(1000, 100000));
  const auto requests = fake.server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].Header("range"), "bytes=31000-100999");
}

TEST(RegistryBlobTest, ABlobOfAnotherSizeIsCorrupt) {
  const std::string blob = PatternBytes(1000);
  for (const bool length : {true, false}) {
    for (const size_t size : {999u, 1001u}) {
      FakeRegistry fake([&](const FakeRequest& request) {
        if (request.Range() && request.Range()->first >= size) return Failing(416, "RANGE_INVALID");
        FakeResponse response = Bytes(PatternBytes(size));
        response.content_length = length;
        return response;
      });
      std::string out;
      const Status status = StreamInto(*fake.Blob(blob), 0, &out);
      ASSERT_FALSE(status.has_value()) << size << length;
      EXPECT_EQ(status.error().code, Code::kCorrupt) << Stringify(status);
    }
  }
}

TEST(RegistryBlobTest, TheSinksErrorEndsTheStreamAndIsReturned) {
  const std::string blob = PatternBytes(5u << 20);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  int calls = 0;
  const Status status = fake.Blob(blob)->Stream(0, [&](ByteSpan) -> Status {
    if (++calls < 3) return {};
    return Error{Code::kUnavailable, "the sink is full"};
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "the sink is full");
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(fake.server.requests().size(), 1u);
}

TEST(RegistryBlobTest, AnExceptionOfTheSinkBecomesAnError) {
  const std::string blob = PatternBytes(1000);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  const Status status =
      fake.Blob(blob)->Stream(0, [&](ByteSpan) -> Status { throw std::runtime_error("oh"); });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kInternal);
}

TEST(RegistryBlobTest, ASlowSinkIsNoStall) {
  const std::string blob = PatternBytes(2u << 20);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); },
                    QuickStalls());
  size_t taken = 0;
  bool slept = false;
  const Status status = fake.Blob(blob)->Stream(0, [&](ByteSpan bytes) -> Status {
    if (!slept)
      std::this_thread::sleep_for(std::chrono::milliseconds(900));  // three stall timeouts
    slept = true;
    taken += bytes.size();
    return {};
  });
  EXPECT_TRUE(status.has_value()) << Stringify(status);
  EXPECT_EQ(taken, blob.size());
  EXPECT_EQ(fake.server.requests().size(), 1u);
}

TEST(RegistryBlobTest, AStalledTransferIsLeftAndGoesOn) {
  const std::string blob = PatternBytes(200000);
  std::atomic<int> calls{0};
  FakeRegistry fake(
      [&](const FakeRequest& request) {
        FakeResponse response = ServeBlob(request, blob);
        if (calls++ == 0) response.silent_after = 70000;
        return response;
      },
      QuickStalls());
  std::string out;
  ASSERT_TRUE(StreamInto(*fake.Blob(blob), 0, &out).has_value());
  EXPECT_EQ(out, blob);
  EXPECT_EQ(fake.server.requests().at(1).Header("range"), "bytes=70000-199999");
}

TEST(RegistryBlobTest, AServerThatDribblesIsLeft) {
  const std::string blob = PatternBytes(200000);
  FakeRegistry fake(
      [&](const FakeRequest& request) {
        FakeResponse response = ServeBlob(request, blob);
        response.dribble_after = 100;
        return response;
      },
      QuickStalls());
  std::string out;
  const Status streamed = StreamInto(*fake.Blob(blob), 0, &out);
  ASSERT_FALSE(streamed.has_value());
  EXPECT_EQ(streamed.error().code, Code::kUnavailable);
  EXPECT_THAT(streamed.error().message, testing::HasSubstr(" B in 300 ms"));
  EXPECT_EQ(out, blob.substr(0, out.size())) << "each attempt goes on where the last one ended";
  EXPECT_GT(out.size(), 200u);
  EXPECT_LT(out.size(), 2000u);
}

TEST(RegistryBlobTest, AfterAStallTheConnectionsBesideItAreNotTrusted) {
  const std::string blob = PatternBytes(1000);
  std::barrier together(2);
  std::atomic<int> calls{0};
  FakeRegistry fake(
      [&](const FakeRequest& request) {
        const int call = calls++;
        if (call < 2) together.arrive_and_wait();  // two connections at once
        FakeResponse response = ServeBlob(request, blob);
        response.silent = call == 2;
        return response;
      },
      QuickStalls());
  const auto source = fake.Blob(blob);
  std::string out;
  std::string out_of_other;
  std::thread other([&] { EXPECT_TRUE(ReadInto(*source, 0, 10, &out_of_other).has_value()); });
  EXPECT_TRUE(ReadInto(*source, 0, 10, &out).has_value());
  other.join();
  EXPECT_TRUE(ReadInto(*source, 20, 10, &out).has_value());
  EXPECT_EQ(out, blob.substr(20, 10));
  EXPECT_EQ(fake.server.connections(), 3);
}

TEST(RegistryBlobTest, ASilentServerEndsWithTheDeadline) {
  FakeRegistry fake(
      [](const FakeRequest&) {
        FakeResponse response;
        response.silent = true;
        return response;
      },
      QuickStalls());
  std::string out;
  const auto source = fake.Blob(PatternBytes(1000));
  const Status status =
      ReadInto(*source, 0, 10, &out, Deadline::After(std::chrono::milliseconds(150)));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kTimeout) << Stringify(status);
  const Status stalled =
      ReadInto(*source, 0, 10, &out, Deadline::After(std::chrono::milliseconds(500)));
  ASSERT_FALSE(stalled.has_value());
  EXPECT_THAT(stalled.error().code, testing::AnyOf(Code::kTimeout, Code::kUnavailable));
  const Status streamed = StreamInto(*source, 0, &out);
  ASSERT_FALSE(streamed.has_value());
  EXPECT_THAT(streamed.error().code, testing::AnyOf(Code::kTimeout, Code::kUnavailable));
}

TEST(RegistryBlobTest, KeepsTheRedirectForLaterRanges) {
  const std::string blob = PatternBytes(1000);
  HttpServer store([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  FakeRegistry fake(
      [&](const FakeRequest&) { return RedirectTo(store.url() + "/signed?key=secret"); });
  const auto source = fake.Blob(blob);
  std::string out;
  for (size_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(ReadInto(*source, i * 100, 100, &out).has_value());
    EXPECT_EQ(out, blob.substr(i * 100, 100));
  }
  EXPECT_EQ(fake.server.requests().size(), 1u);
  EXPECT_EQ(store.requests().size(), 5u);
  EXPECT_EQ(store.requests().at(4).target, "/signed?key=secret");
}

TEST(RegistryBlobTest, AsksTheRegistryAgainWhenASignedUrlHasEnded) {
  const std::string blob = PatternBytes(1000);
  std::atomic<int> signatures{0};
  HttpServer store([&](const FakeRequest& request) {
    // Each signature serves two requests.
    static std::map<std::string, int> uses;
    return ++uses[request.query()] <= 2 ? ServeBlob(request, blob) : Failing(403, "EXPIRED");
  });
  FakeRegistry fake([&](const FakeRequest&) {
    return RedirectTo(store.url() + "/signed?n=" + std::to_string(++signatures));
  });
  const auto source = fake.Blob(blob);
  std::string out;
  for (size_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(ReadInto(*source, i * 100, 100, &out).has_value());
    EXPECT_EQ(out, blob.substr(i * 100, 100));
  }
  EXPECT_EQ(fake.server.requests().size(), 3u);
  EXPECT_EQ(store.requests().size(), 8u);
}

TEST(RegistryBlobTest, ARefusalByTheTargetIsAnsweredOnceByTheRegistryAndThenReported) {
  HttpServer store([&](const FakeRequest&) { return Failing(403, "AccessDenied"); });
  FakeRegistry fake(
      [&](const FakeRequest&) { return RedirectTo(store.url() + "/signed?key=secret"); });
  std::string out;
  const Status status = ReadInto(*fake.Blob(PatternBytes(1000)), 0, 100, &out);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kDenied);
  EXPECT_THAT(status.error().message, HasSubstr(store.host()));
  EXPECT_THAT(status.error().message, testing::Not(HasSubstr("secret")));
  EXPECT_EQ(fake.server.requests().size(), 2u);
  EXPECT_EQ(store.requests().size(), 2u);
}

TEST(RegistryBlobTest, ManyThreadsReadAtOnce) {
  const std::string blob = PatternBytes(1u << 20);
  FakeRegistry fake([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  const auto source = fake.Blob(blob);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 16; ++t)
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 10; ++i) {
        std::string out;
        const size_t offset = (t * 61 + i * 7919) % (blob.size() - 5000);
        if (!ReadInto(*source, offset, 5000, &out) || out != blob.substr(offset, 5000)) ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(fake.registry->counters().range_requests, 160u);
  EXPECT_EQ(fake.registry->counters().blob_bytes, 160u * 5000u);
  EXPECT_LE(fake.server.connections(), 160);
}

}  // namespace
}  // namespace lamina
