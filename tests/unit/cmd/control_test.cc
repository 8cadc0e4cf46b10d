#include "cmd/control.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/file.h"
#include "cmd/engine.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

class ControlTest : public ::testing::Test {
 protected:
  ControlTest()
      : folder_(std::move(TemporaryFolder::Create("lamina-control")).value()),
        engine_(std::move(Engine::Open(folder_.path() + "/store", {})).value()),
        server_(std::move(ControlServer::Start(*engine_)).value()) {}
  Result<Json> Ask(const Json& request) {
    return AskDaemon(engine_->paths().ControlSocket(), request, [](const Json&) {});
  }

  TemporaryFolder folder_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlTest, AnswersARequestAndSaysWhyItCannot) {
  auto list = Ask({{"command", "ls"}});
  ASSERT_TRUE(list) << list.error().message;
  EXPECT_TRUE(list->at("images").empty());
  auto missing = Ask({{"command", "resolve"}, {"reference", "localhost/nothing:1"}});
  EXPECT_EQ(missing.error().code, Code::kNotFound);
  EXPECT_NE(missing.error().message.find("localhost/nothing"), std::string::npos);
}

TEST_F(ControlTest, RefusesWhatItDoesNotUnderstand) {
  EXPECT_EQ(Ask({{"command", "dance"}}).error().code, Code::kUnsupported);
  EXPECT_EQ(Ask({{"command", "add"}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask({{"command", "add"}, {"sources", {1}}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask({{"command", "add"}, {"sources", {"floppy:A"}}}).error().code, Code::kInvalid);
  EXPECT_EQ(Ask(Json::array({1, 2})).error().code, Code::kUnsupported);
}

TEST_F(ControlTest, TheSocketIsForItsOwnerOnly) {
  struct stat st {};
  ASSERT_EQ(::stat(engine_->paths().ControlSocket().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(ControlTest, ManyClientsAreServedAtTheSameTime) {
  std::vector<std::thread> clients;
  std::atomic<int> served{0};
  for (int i = 0; i < 32; ++i)
    clients.emplace_back([&] { served += Ask({{"command", "ls"}}).has_value() ? 1 : 0; });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(served, 32);
}

TEST_F(ControlTest, NobodyListensAfterItHasEnded) {
  const std::string path = engine_->paths().ControlSocket();
  server_.reset();
  EXPECT_EQ(AskDaemon(path, {{"command", "ls"}}, [](const Json&) {}).error().code, Code::kNotFound);
}

TEST_F(ControlTest, AStoreHasOneHolder) {
  auto second = Engine::Open(folder_.path() + "/store", {});
  EXPECT_EQ(second.error().code, Code::kUnavailable);
}

}  // namespace
}  // namespace lamina
