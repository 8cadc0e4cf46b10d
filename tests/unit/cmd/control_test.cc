#include "cmd/control.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "cmd/engine.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::hours kNever{1};

class ControlTest : public ::testing::Test {
 protected:
  ControlTest() : folder_(std::move(TemporaryFolder::Create("lamina-control")).value()) {}
  std::string Socket() const { return folder_.path() + "/control.sock"; }

  void Start(RequestHandler handler, const ControlLimits& limits = {}) {
    server_ = std::move(ControlServer::Start(Socket(), std::move(handler), limits)).value();
  }
  Result<Json> Ask(const Json& request) {
    auto client = ControlClient::Connect(Socket());
    if (!client) return client.error();
    if (!client->has_value()) return Error{Code::kNotFound, "no daemon"};
    return (*client)->Ask(request, {.progress = [](const Json&) { return true; }, .data = nullptr});
  }
  // A client that says and reads what it wants.
  UniqueFd Connect() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, Socket().c_str());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void Say(const UniqueFd& client, const std::string& text) {
    EXPECT_EQ(::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  static std::string ReadAll(const UniqueFd& client) {
    std::string all;
    char piece[65536];
    for (ssize_t got; (got = ::recv(client.get(), piece, sizeof piece, 0)) > 0;)
      all.append(piece, static_cast<size_t>(got));
    return all;
  }

  TemporaryFolder folder_;
  std::unique_ptr<ControlServer> server_;
};

// The requests of a real engine.
class EngineControlTest : public ControlTest {
 protected:
  EngineControlTest() : engine_(std::move(Engine::Open(folder_.path() + "/store", {})).value()) {
    Start([this](const Json& request, const Replies& replies) {
      return Perform(*engine_, request, replies);
    });
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineControlTest, AnswersARequestAndSaysWhyItCannot) {
  auto list = Ask({{"command", "ls"}});
  ASSERT_TRUE(list) << list.error().message;
  EXPECT_TRUE(list->at("images").empty());
  auto missing = Ask({{"command", "resolve"}, {"reference", "localhost/nothing:1"}});
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find("localhost/nothing"), std::string::npos);
}

TEST_F(EngineControlTest, RefusesWhatItDoesNotUnderstand) {
  EXPECT_EQ(Ask({{"command", "dance"}}).error().code, Code::kUnsupported);
  EXPECT_EQ(Ask({{"command", "add"}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask({{"command", "add"}, {"sources", {1}}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask({{"command", "add"}, {"sources", {"floppy:A"}}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask(Json::array({1, 2})).error().code, Code::kUnsupported);
}

TEST_F(EngineControlTest, AStoreHasOneHolder) {
  auto second = Engine::Open(folder_.path() + "/store", {});
  EXPECT_EQ(second.error().code, Code::kUnavailable);
}

Result<Json> Echo(const Json& request, const Replies&) { return request; }

TEST_F(ControlTest, TheSocketIsForItsOwnerOnly) {
  Start(Echo);
  struct stat st {};
  ASSERT_EQ(::stat(Socket().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(ControlTest, ManyClientsAreServedAtTheSameTime) {
  Start(Echo);
  std::vector<std::thread> clients;
  std::atomic<int> served{0};
  for (int i = 0; i < 32; ++i)
    clients.emplace_back([&, i] {
      served += *Ask({{"number", i}}) == Json{{"number", i}} ? 1 : 0;
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served, 32);
}

TEST_F(ControlTest, ADaemonsNotFoundIsNotItsAbsence) {
  Start([](const Json&, const Replies&) -> Result<Json> {
    return Error{Code::kNotFound, "nobody knows it"};
  });
  auto client = ControlClient::Connect(Socket());
  ASSERT_TRUE(client && client->has_value());
  EXPECT_EQ((*client)
                ->Ask({}, {.progress = [](const Json&) { return true; }, .data = nullptr})
                .error()
                .message,
            "nobody knows it");
}

TEST_F(ControlTest, DataComesInOrderBeforeTheAnswer) {
  std::string sent;
  for (int i = 0; i < 500'000; ++i) sent += std::to_string(i) + "\n";
  Start([&](const Json&, const Replies& replies) -> Result<Json> {
    RETURN_IF_ERROR(replies.data(AsBytes(sent).first(10)));
    replies.progress({{"what", "between"}});
    RETURN_IF_ERROR(replies.data({}));
    RETURN_IF_ERROR(replies.data(AsBytes(sent).subspan(10)));
    return Json{{"bytes", sent.size()}};
  });
  auto client = ControlClient::Connect(Socket());
  ASSERT_TRUE(client && client->has_value());
  std::string got;
  const auto answer = (*client)->Ask({}, {.progress = [](const Json&) { return true; },
                                          .data = [&](ByteSpan bytes) -> Status {
                                            got += AsText(bytes);
                                            return {};
                                          }});
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ((*answer)["bytes"], sent.size());
  EXPECT_TRUE(got == sent);
}

TEST_F(ControlTest, WhoTakesNoDataIsLeft) {
  std::atomic<bool> refused{false};
  Start(
      [&](const Json&, const Replies& replies) -> Result<Json> {
        const std::string piece(1 << 20, 'x');
        for (;;)
          if (Status sent = replies.data(AsBytes(piece)); !sent) {
            refused = true;
            return std::move(sent).error();
          }
      },
      {.answer_wait = std::chrono::seconds(1), .data_wait = std::chrono::seconds(2)});
  const UniqueFd client = Connect();
  Say(client, "{}\n");
  while (!refused) std::this_thread::yield();
}

TEST_F(ControlTest, NobodyListensAfterItHasEnded) {
  Start(Echo);
  server_.reset();
  const auto client = ControlClient::Connect(Socket());
  ASSERT_TRUE(client) << client.error().message;
  EXPECT_FALSE(client->has_value());
}

TEST_F(ControlTest, WhatARequestThrowsIsAnAnswer) {
  Start([](const Json& request, const Replies&) -> Result<Json> {
    if (request.value("throw", false)) throw std::runtime_error("out of luck");
    return request;
  });
  const auto failed = Ask({{"throw", true}});
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("out of luck"), std::string::npos);
  EXPECT_TRUE(Ask({{"throw", false}}));
}

TEST_F(ControlTest, ARequestThatDripsHasOneDeadline) {
  Start(Echo, {.request_wait = std::chrono::milliseconds(300)});
  const UniqueFd client = Connect();
  // Every byte comes well within the wait; a server without an end of it reads for ever.
  while (::send(client.get(), " ", 1, MSG_NOSIGNAL) == 1)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(ReadAll(client), "");
}

TEST_F(ControlTest, EndsAlthoughAClientHasNotSaidWhatItWants) {
  Start(Echo, {.request_wait = kNever});
  const UniqueFd client = Connect();
  Say(client, "{");
  server_.reset();
  EXPECT_EQ(ReadAll(client), "");
}

TEST_F(ControlTest, EndsAlthoughAClientDoesNotReadItsAnswer) {
  std::atomic<bool> performed{false};
  Start(
      [&](const Json&, const Replies&) -> Result<Json> {
        performed = true;
        return Json(std::string(16u << 20, 'x'));
      },
      {.answer_wait = kNever});
  const UniqueFd client = Connect();
  Say(client, "{}\n");
  while (!performed) std::this_thread::yield();
  server_.reset();
  EXPECT_LT(ReadAll(client).size(), 16u << 20);
}

TEST_F(ControlTest, AClientThatDoesNotReadHoldsNoWorkUpAndGetsItsAnswer) {
  std::atomic<bool> performed{false};
  Start([&](const Json&, const Replies& replies) -> Result<Json> {
    // Far more than a socket holds.
    for (int i = 0; i < 20'000; ++i)
      replies.progress({{"what", "walking"}, {"text", std::string(100, 'x')}});
    performed = true;
    return Json("there");
  });
  const UniqueFd client = Connect();
  Say(client, "{}\n");
  while (!performed) std::this_thread::yield();
  EXPECT_TRUE(ReadAll(client).ends_with("{\"result\":\"there\"}\n"));
}

TEST_F(ControlTest, WorkInHandIsToldThatNobodyWantsItAnyMore) {
  std::atomic<bool> begun{false};
  Start([&](const Json&, const Replies& replies) -> Result<Json> {
    begun = true;
    while (replies.progress({{"what", "waiting"}})) std::this_thread::yield();
    return Error{Code::kCancelled, "left"};
  });
  const UniqueFd client = Connect();
  Say(client, "{}\n");
  while (!begun) std::this_thread::yield();
  server_.reset();
}

TEST_F(ControlTest, MoreClientsThanItServesAreToldToComeAgain) {
  Start(Echo, {.clients = 2});
  {
    const UniqueFd one = Connect();
    const UniqueFd two = Connect();
    EXPECT_EQ(Ask({}).error().code, Code::kUnavailable);
  }
  // Those two have gone: there is room again once the server has seen it.
  while (!Ask({})) std::this_thread::yield();
}

TEST_F(ControlTest, WaitsWhereDescriptorsAreShort) {
  Start(Echo);
  ASSERT_TRUE(Ask({}));
  const UniqueFd client = Connect();
  Say(client, "{}\n");
  // The server has accepted it, or finds no descriptor for it below: none is free.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd waiting(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, Socket().c_str());
  EXPECT_EQ(ReadAll(client), "{\"result\":{}}\n");
  const auto warnings = [] {
    size_t found = 0;
    for (const std::string& line : RecentLogLines())
      found += line.find("cannot accept") != std::string::npos ? 1 : 0;
    return found;
  };
  // A sanitizer that meets a class for the first time looks at its memory through a pipe, and would
  // get none below: it has met the log's classes before.
  LogWarning("descriptors run short");
  ASSERT_EQ(warnings(), 0u);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_EQ(::connect(waiting.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  while (warnings() == 0) std::this_thread::yield();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  Say(waiting, "{}\n");
  EXPECT_EQ(ReadAll(waiting), "{\"result\":{}}\n");
  EXPECT_EQ(warnings(), 1u);
}

}  // namespace
}  // namespace lamina
