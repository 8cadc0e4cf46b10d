// [S75] A token that ends while many read: every reader gets its bytes, and one token is asked for.

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "tests/fakes/scripted_registry.h"
#include "tests/faults/scripted_layer.h"
#include "tests/faults/watchdog.h"

namespace lamina {
namespace {

using fakes::Fault;
using fakes::ScriptedRegistry;
using testing::ScriptedLayer;

constexpr int kReaders = 64;
constexpr uint64_t kStride = 1u << 20;  // about the size of a chunk: each reader has its own

class MovableWallClock : public WallClock {
 public:
  int64_t NowNs() const override { return now_ns; }
  std::atomic<int64_t> now_ns{1'700'000'000'000'000'000};
};

class TokenReadersTest : public ::testing::Test {
 protected:
  TokenReadersTest() { NewClient(); }
  void NewClient() {
    RegistryOptions options = registry_.Options();
    options.clock = &clock_;
    options.stall_timeout = std::chrono::seconds(20);
    source_ = Registry::Create(registry_.host(), std::move(options))->Repository("team/app");
  }
  // All at the same time, each somewhere else.
  void ReadByAll() {
    const auto opened = layer_.store().Get(layer_.Request(source_));
    ASSERT_TRUE(opened) << opened.error().message;
    std::barrier together(kReaders);
    std::vector<std::thread> readers;
    for (int i = 0; i < kReaders; ++i)
      readers.emplace_back([&, i] {
        const uint64_t offset = static_cast<uint64_t>(i) * kStride + 1000;
        std::string out(5000, '?');
        together.arrive_and_wait();
        const Status read =
            (*opened)->cache().Read(offset, {reinterpret_cast<uint8_t*>(out.data()), out.size()},
                                    Deadline::After(std::chrono::seconds(60)));
        ASSERT_TRUE(read) << read.error().message;
        EXPECT_TRUE(out == layer_.flat().substr(offset, out.size())) << "wrong bytes at " << offset;
      });
    for (std::thread& reader : readers) reader.join();
  }

  const testing::Watchdog watchdog_{std::chrono::seconds(240)};
  MovableWallClock clock_;
  ScriptedLayer layer_{ScriptedLayer::Packing::kNone, std::vector<size_t>(kReaders + 1, kStride)};
  ScriptedRegistry registry_{layer_.image(), {.tokens = true, .redirects = false}};
  std::shared_ptr<RepositorySource> source_;
};

TEST_F(TokenReadersTest, ATokenThatEndsUnderManyReadersIsAskedForOnce) {
  ASSERT_TRUE(layer_.CheckPass(source_));
  EXPECT_EQ(registry_.token_requests(), 1);
  EXPECT_EQ(registry_.refusals(), 1);
  layer_.ForgetBytes();
  ASSERT_TRUE(layer_.CheckRead(source_, kReaders * kStride, 1));  // the token has served
  layer_.ForgetBytes();
  registry_.Play({Fault::kTokenEnded});
  ReadByAll();
  EXPECT_EQ(registry_.Stop().size(), 1u);
  EXPECT_EQ(registry_.token_requests(), 2);
  EXPECT_GE(registry_.refusals(), 2);
}

TEST_F(TokenReadersTest, ATokenIsRenewedBeforeItEndsWithoutARefusal) {
  ASSERT_TRUE(layer_.CheckPass(source_));
  layer_.ForgetBytes();
  clock_.now_ns += int64_t{3595} * 1'000'000'000;  // of 3600 s
  ReadByAll();
  EXPECT_EQ(registry_.token_requests(), 2);
  EXPECT_EQ(registry_.refusals(), 1);
}

TEST_F(TokenReadersTest, ManyFirstReadersAskForOneToken) {
  ASSERT_TRUE(layer_.CheckPass(source_));
  layer_.ForgetBytes();
  const int before = registry_.token_requests();
  NewClient();
  ReadByAll();
  EXPECT_EQ(registry_.token_requests(), before + 1);
}

}  // namespace
}  // namespace lamina
