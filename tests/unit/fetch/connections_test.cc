// How many exchanges with one host there are at a time, and who comes first.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "fetch/http.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

// Answers of blobs wait while it is closed; how many are at work at a time is counted.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    most_ = std::max(most_, ++inside_);
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --inside_;
  }
  void WaitForInside(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(1), [&] { return inside_ >= count; });
    ASSERT_EQ(inside_, count);
  }
  int most() {
    std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int inside_ = 0;
  int most_ = 0;
};

class ConnectionsTest : public testing::Test {
 protected:
  FakeResponse Answer(const FakeRequest& request) {
    if (request.path().find("/blobs/") == std::string::npos)
      return Bytes(R"({"name":"team/app","tags":["a"]})");
    gate_.Pass();
    return ServeBlob(request, blob_);
  }
  std::unique_ptr<FakeRegistry> Serve(RegistryOptions options) {
    return std::make_unique<FakeRegistry>(
        [this](const FakeRequest& request) { return Answer(request); }, std::move(options));
  }
  void StartStreams(FakeRegistry& fake, int count) {
    for (int i = 0; i < count; ++i)
      threads_.emplace_back([this, &fake] {
        std::string out;
        const Status done = StreamInto(*fake.Blob(blob_), 0, &out);
        if (done && out == blob_) ++right_;
      });
  }
  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  const std::string blob_ = PatternBytes(200000);
  Gate gate_;
  std::atomic<int> right_{0};
  std::vector<std::thread> threads_;
};

TEST_F(ConnectionsTest, NoMoreThanTheLimitHoweverManyAsk) {
  RegistryOptions options = ShortTimeouts();
  options.connections = 3;
  const auto fake = Serve(options);
  for (int i = 0; i < 32; ++i)
    threads_.emplace_back([&] {
      std::string out;
      if (ReadInto(*fake->Blob(blob_), 100, 5000, &out) && out == blob_.substr(100, 5000)) ++right_;
    });
  gate_.WaitForInside(3);
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 32);
  EXPECT_EQ(gate_.most(), 3);
  EXPECT_LE(fake->server.connections(), 3);
}

// [S83]
TEST_F(ConnectionsTest, NamesAndReadsAreServedWhileManyStreamsRun) {
  const auto fake = Serve(ShortTimeouts());
  StartStreams(*fake, 16);
  gate_.WaitForInside(6);  // of 8, two are for readers
  const auto tags = fake->repository()->ListTags(Soon());
  EXPECT_TRUE(tags) << tags.error().message;
  EXPECT_EQ(gate_.most(), 6);
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 16);
  EXPECT_LE(fake->server.connections(), 8);
}

TEST_F(ConnectionsTest, OfSeveralConnectionsOneIsForReaders) {
  for (const int connections : {2, 3}) {
    RegistryOptions options = ShortTimeouts();
    options.connections = static_cast<size_t>(connections);
    Gate gate;
    FakeRegistry fake(
        [&](const FakeRequest& request) {
          if (request.path().find("/blobs/") == std::string::npos)
            return Bytes(R"({"name":"team/app","tags":["a"]})");
          gate.Pass();
          return ServeBlob(request, blob_);
        },
        options);
    StartStreams(fake, 6);
    gate.WaitForInside(connections - 1);
    const auto tags = fake.repository()->ListTags(Soon());
    EXPECT_TRUE(tags) << tags.error().message;
    gate.Open();
    Join();
    EXPECT_EQ(gate.most(), connections - 1);
  }
  EXPECT_EQ(right_, 12);
}

TEST_F(ConnectionsTest, AHostMayHaveALimitOfItsOwn) {
  RegistryOptions options = ShortTimeouts();
  HttpServer server([this](const FakeRequest& request) { return Answer(request); });
  options.connections_of[server.host()] = 1;
  const auto registry = Registry::Create(server.host(), options);
  for (int i = 0; i < 4; ++i)
    threads_.emplace_back([&] {
      std::string out;
      const auto source = *registry->Repository("team/app")->OpenBlob(DescriptorOf(blob_));
      if (ReadInto(*source, 0, 10, &out)) ++right_;
    });
  gate_.WaitForInside(1);
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 4);
  EXPECT_EQ(gate_.most(), 1);
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(ConnectionsTest, WhoWaitsForHisTurnWaitsToHisDeadline) {
  RegistryOptions options = ShortTimeouts();
  options.connections = 1;
  const auto fake = Serve(options);
  StartStreams(*fake, 1);
  gate_.WaitForInside(1);
  std::string out;
  const Status read =
      ReadInto(*fake->Blob(blob_), 0, 10, &out, Deadline::After(std::chrono::milliseconds(50)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kTimeout);
  EXPECT_NE(read.error().message.find("connections that there may be"), std::string::npos)
      << read.error().message;
  EXPECT_EQ(fake->registry->counters().range_requests, 0u) << "what had no turn is no request";
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 1);
}

TEST_F(ConnectionsTest, AStreamThatWaitsForItsTurnSeesThatItIsNotWanted) {
  RegistryOptions options = ShortTimeouts();
  options.connections = 1;
  const auto fake = Serve(options);
  StartStreams(*fake, 1);
  gate_.WaitForInside(1);
  const Status done = fake->Blob(blob_)->Stream(0, [](ByteSpan) -> Status {
    return Error{Code::kCancelled, "enough"};
  });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, Code::kCancelled);
  EXPECT_EQ(done.error().message, "enough");
  EXPECT_EQ(fake->server.requests().size(), 1u);
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 1);
  EXPECT_EQ(fake->registry->counters().requests, 1u) << "what had no turn is no request";
}

TEST_F(ConnectionsTest, AStreamThatGetsNoTurnTriesAgain) {
  RegistryOptions options = ShortTimeouts();
  options.connections = 1;
  options.longest_turn = std::chrono::milliseconds(10);
  options.attempts = 1000;
  const auto fake = Serve(options);
  StartStreams(*fake, 2);
  gate_.WaitForInside(1);
  while (fake->registry->counters().retries < 2) std::this_thread::yield();
  gate_.Open();
  Join();
  EXPECT_EQ(right_, 2);
  EXPECT_EQ(fake->server.requests().size(), 2u);
}

// Takes any answer, and is told while none comes.
class Listener : public HttpReceiver {
 public:
  explicit Listener(std::function<void()> idle = [] {}) : idle_(std::move(idle)) {}
  Result<Next> Begin(const HttpResponse&) override { return Next::kMore; }
  Result<Next> Receive(ByteSpan) override { return Next::kMore; }
  Status Idle() override {
    idle_();
    return {};
  }

 private:
  const std::function<void()> idle_;
};

TEST_F(ConnectionsTest, AnExchangeBeginsWithItsTurn) {
  HttpServer server([this](const FakeRequest&) {
    gate_.Pass();
    return Bytes("x");
  });
  HttpOptions options;
  options.connections = 1;
  HttpClient client(options);
  const auto perform = [&](Listener& listener) {
    HttpRequest request{.url = *Url::Parse(server.url() + "/x"), .headers = {}, .form = {}};
    request.receiver = &listener;
    return client.Perform(request, Soon());
  };
  threads_.emplace_back([&] {
    Listener first;
    EXPECT_EQ(perform(first).end, HttpOutcome::End::kAnswered);
  });
  gate_.WaitForInside(1);
  const auto came = Deadline::Clock::now();
  Deadline::Clock::time_point waited;
  Listener second([&] {
    waited = Deadline::Clock::now();
    gate_.Open();
  });
  const HttpOutcome outcome = perform(second);
  Join();
  EXPECT_EQ(outcome.end, HttpOutcome::End::kAnswered);
  EXPECT_TRUE(outcome.asked);
  EXPECT_GE(outcome.began, waited);
  EXPECT_GE(outcome.queued, waited - came);
}

// Its patience is for three silences of 300 ms; it waits for its turn for longer. The first answer
// then is that it has to ask again.
TEST_F(ConnectionsTest, WhatAStreamWaitsForItsTurnCostsNoneOfItsPatience) {
  RegistryOptions options = QuickStalls();
  options.connections = 1;
  std::atomic<int> asked{0};
  FakeRegistry fake(
      [&](const FakeRequest& request) {
        return ++asked == 2 ? Failing(503, "UNAVAILABLE") : ServeBlob(request, blob_);
      },
      options);
  std::atomic<bool> holds{false};
  std::atomic<bool> ends{false};
  threads_.emplace_back([&] {  // a slow sink is no stall, and keeps the turn
    EXPECT_TRUE(fake.Blob(blob_)->Stream(0, [&](ByteSpan) -> Status {
      holds = true;
      while (!ends) std::this_thread::yield();
      return {};
    }));
  });
  while (!holds) std::this_thread::yield();
  const auto blob = fake.Blob(blob_);
  std::string out;
  int waited = 0;  // half a second each
  const Status done = blob->Stream(0, [&](ByteSpan bytes) -> Status {
    if (bytes.empty() && ++waited == 3) ends = true;
    out += AsText(bytes);
    return {};
  });
  ends = true;
  Join();
  EXPECT_TRUE(done) << Stringify(done);
  EXPECT_TRUE(out == blob_);
  EXPECT_EQ(asked, 3);
  EXPECT_GT(blob->queued().count(), 0);
}

// No descriptor can be opened while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{3, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

// A host that is away is asked once: that the broken answer is followed by another attempt shows
// that it is not taken to be.
TEST_F(ConnectionsTest, AHostIsNotAwaySinceWeHaveNoDescriptors) {
  std::atomic<bool> breaks{true};
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response = ServeBlob(request, blob_);
    response.no_answer = breaks.exchange(false);
    return response;
  });
  std::string out;
  {
    const NoDescriptors none;
    const Deadline longer_than_a_silence = Deadline::After(std::chrono::milliseconds(2500));
    while (!longer_than_a_silence.passed()) {
      const Status read = ReadInto(*fake.Blob(blob_), 0, 10, &out);
      ASSERT_FALSE(read);
      EXPECT_EQ(read.error().code, Code::kUnavailable) << Stringify(read);
      EXPECT_NE(read.error().message.find("file descriptor"), std::string::npos);
    }
  }
  const Status read = ReadInto(*fake.Blob(blob_), 0, 10, &out);
  EXPECT_TRUE(read) << Stringify(read);
  EXPECT_EQ(out, blob_.substr(0, 10));
  EXPECT_EQ(fake.server.requests().size(), 2u);
}

}  // namespace
}  // namespace lamina
