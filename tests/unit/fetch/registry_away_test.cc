// What the registry client does of hosts that say nothing, and of such as want to be left alone.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;

constexpr std::chrono::milliseconds kShort{1000};  // slow enough to count as silence

// A port of loopback whose connections are never made, as in a network that drops everything: its
// queue is full and nobody takes from it.
class BlackHole {
 public:
  BlackHole() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    EXPECT_EQ(::bind(listener_.get(), Address(), size), 0);
    EXPECT_EQ(::listen(listener_.get(), 0), 0);
    EXPECT_EQ(::getsockname(listener_.get(), Address(), &size), 0);
    while (waiting_.size() < 8 && Connect()) {
    }
    EXPECT_LT(waiting_.size(), 8u) << "the queue takes everybody";
  }
  std::string host() const { return "127.0.0.1:" + std::to_string(ntohs(address_.sin_port)); }

 private:
  sockaddr* Address() { return reinterpret_cast<sockaddr*>(&address_); }
  // Is the connection made in time?
  bool Connect() {
    UniqueFd& fd =
        waiting_.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(fd.get(), Address(), sizeof(address_));
    pollfd ready{fd.get(), POLLOUT, 0};
    return ::poll(&ready, 1, 300) == 1;
  }

  UniqueFd listener_;
  sockaddr_in address_{};
  std::vector<UniqueFd> waiting_;
};

RegistryOptions OfShortWaits() {
  RegistryOptions options = ShortTimeouts();
  options.connect_timeout = kShort;
  options.stall_timeout = kShort;
  return options;
}

FakeResponse Silence() {
  FakeResponse response;
  response.silent = true;
  return response;
}

// [S88]
TEST(RegistryAwayTest, WhatIsKnownToBeAwayFailsAtOnceForEverybody) {
  const BlackHole hole;
  const auto registry = Registry::Create(hole.host(), OfShortWaits());
  const auto repository = registry->Repository("team/app");
  ASSERT_FALSE(repository->FetchTag("one", Soon()).has_value());
  const auto began = std::chrono::steady_clock::now();
  const uint64_t asked = registry->counters().requests;
  for (int i = 0; i < 50; ++i) {
    const auto answer = repository->FetchTag("one", Soon());
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, Code::kUnavailable);
    EXPECT_THAT(answer.error().message, HasSubstr("not asked, since it is away"));
    EXPECT_THAT(answer.error().message, HasSubstr(hole.host()));
  }
  // Nothing was sent but probes, at most one a second, however long this takes.
  const auto seconds = (std::chrono::steady_clock::now() - began) / std::chrono::seconds(1);
  EXPECT_LE(registry->counters().requests, asked + 1 + static_cast<uint64_t>(seconds));
}

// [S88]
TEST(RegistryAwayTest, AHostThatIsBackIsAskedAgain) {
  std::atomic<bool> silent{true};
  FakeRegistry fake([&](const FakeRequest&) { return silent ? Silence() : Bytes("{}"); },
                    OfShortWaits());
  ASSERT_FALSE(fake.repository()->FetchTag("one", Soon()).has_value());
  ASSERT_FALSE(fake.repository()->FetchTag("one", Soon()).has_value());
  silent = false;
  for (int tries = 0; tries < 200; ++tries) {
    if (fake.repository()->FetchTag("one", Soon())) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  FAIL() << "it is never asked again";
}

// [S88]
TEST(RegistryAwayTest, APlaceThatIsRedirectedToAndAwayFailsAtOnceToo) {
  const BlackHole hole;
  FakeRegistry fake([&](const FakeRequest&) { return RedirectTo("http://" + hole.host() + "/b"); },
                    OfShortWaits());
  const auto source = fake.Blob(PatternBytes(1000));
  std::string out;
  ASSERT_FALSE(ReadInto(*source, 0, 10, &out).has_value());
  const auto began = std::chrono::steady_clock::now();
  const auto sent_there = [&] {
    return fake.registry->counters().requests - fake.server.requests().size();
  };
  const uint64_t asked = sent_there();
  for (int i = 0; i < 50; ++i) {
    const Status read = ReadInto(*source, 0, 10, &out);
    ASSERT_FALSE(read.has_value());
    EXPECT_THAT(read.error().message, HasSubstr("not asked, since it is away"));
    EXPECT_THAT(read.error().message, HasSubstr(hole.host()));
  }
  const auto seconds = (std::chrono::steady_clock::now() - began) / std::chrono::seconds(1);
  EXPECT_LE(sent_there(), asked + 1 + static_cast<uint64_t>(seconds));
  EXPECT_FALSE(fake.repository()->FetchTag("one", Soon()).has_value());
  const Status alive = fake.registry->Ping(Soon());
  EXPECT_THAT(alive.error().message, HasSubstr(hole.host())) << "the registry itself is not away";
}

// [S88]
TEST(RegistryAwayTest, ARegistryThatIsAwayDoesNotMatterToWhomItHasSentElsewhereBefore) {
  const std::string blob = PatternBytes(1000);
  HttpServer store([&](const FakeRequest& request) { return ServeBlob(request, blob); });
  std::atomic<bool> silent{false};
  FakeRegistry fake(
      [&](const FakeRequest&) { return silent ? Silence() : RedirectTo(store.url() + "/blob"); },
      OfShortWaits());
  const auto source = fake.Blob(blob);
  std::string out;
  ASSERT_TRUE(ReadInto(*source, 0, 10, &out).has_value());
  silent = true;
  ASSERT_FALSE(fake.repository()->FetchTag("one", Soon()).has_value());
  const auto away = fake.repository()->FetchTag("one", Soon());
  ASSERT_FALSE(away.has_value());
  EXPECT_THAT(away.error().message, HasSubstr("not asked, since it is away"));
  const Status read = ReadInto(*source, 500, 10, &out);
  ASSERT_TRUE(read.has_value()) << Stringify(read);
  EXPECT_EQ(out, blob.substr(500, 10));
}

// [S112]
TEST(RegistryAwayTest, WhoHasALastAnswerWaitsForOneSilenceOnly) {
  std::atomic<int> failures{1};
  FakeRegistry broken(
      [&](const FakeRequest&) { return failures-- > 0 ? Failing(502, "") : Bytes("{}"); });
  EXPECT_TRUE(broken.registry->Repository("team/app", "one", /*hasty=*/true)
                  ->FetchTag("one", Soon())
                  .has_value())
      << "what fails at once is asked again";
  RegistryOptions options = OfShortWaits();
  options.stall_timeout = std::chrono::milliseconds(2500);
  FakeRegistry silent([](const FakeRequest&) { return Silence(); }, options);
  const auto hasty = silent.registry->Repository("team/app", "one", /*hasty=*/true);
  EXPECT_FALSE(hasty->TagDigest("one", Soon()).has_value());
  EXPECT_EQ(silent.server.requests().size(), 1u);
}

// [S111]
TEST(RegistryAwayTest, AHostThatWantsToBeLeftAloneIsLeftAloneByEverybody) {
  std::atomic<const char*> after = "3600";
  FakeRegistry fake([&](const FakeRequest& request) {
    if (request.path() != "/v2/") return Bytes("{}");
    FakeResponse response = Failing(429, "TOOMANYREQUESTS");
    response.headers.emplace_back("Retry-After", after.load());
    return response;
  });
  ASSERT_FALSE(fake.registry->Ping(Soon()).has_value());
  for (int i = 0; i < 3; ++i) {
    const auto refused = fake.repository()->FetchTag("one", Soon());
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Code::kUnavailable);
    EXPECT_THAT(refused.error().message, HasSubstr("429"));
  }
  EXPECT_EQ(fake.server.requests().size(), 1u);

  // Who may wait for so long does.
  after = "1";
  const auto other = Registry::Create(fake.server.host(), ShortTimeouts());
  ASSERT_FALSE(other->Ping(Deadline::After(std::chrono::milliseconds(500))).has_value());
  EXPECT_TRUE(other->Repository("team/app")->FetchTag("one", Soon()).has_value());
}

}  // namespace
}  // namespace lamina
