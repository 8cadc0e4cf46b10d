// [S73], [S26] Whole reads of an image, from its tag to its last byte, while the network
// plays faults: whatever comes, what is read is right or an error that names its cause, and faults
// that end leave nothing behind. A seed makes a scenario; a failure prints it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/fakes/scripted_registry.h"
#include "tests/faults/scripted_layer.h"
#include "tests/faults/watchdog.h"
#include "tests/support/sanitizers.h"

namespace lamina {
namespace {

using fakes::Effect;
using fakes::Fault;
using fakes::ScriptedRegistry;
using testing::ScriptedLayer;
using testing::Watchdog;

// Each fault is met in fifty; the other seeds are for the builds that are fast.
constexpr int kRandomScenarios = testing::kThreadSanitizer ? 60 : 200;
constexpr int kAtATime = testing::kThreadSanitizer ? 12 : 16;  // they wait more than they work
constexpr std::chrono::seconds kHung{240};
constexpr uint64_t kReadBytes = 70'000;

using Random = std::minstd_rand;

uint64_t Below(Random& random, uint64_t bound) {
  return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random);
}

std::string Names(const std::vector<Fault>& faults) {
  std::string out;
  for (const Fault fault : faults) out += (out.empty() ? "" : ", ") + std::string(FaultName(fault));
  return out;
}

// Is a client that keeps its promises sure to get over these in one operation?
bool AreToBeSurvived(const std::vector<Fault>& played) {
  int again = 0;
  int silences = 0;
  int refusals = 0;
  int redirects = 0;
  for (const Fault fault : played) {
    if (EffectOf(fault) == Effect::kLasting) return false;
    again += EffectOf(fault) == Effect::kAgain;
    silences +=
        fault == Fault::kSilent || fault == Fault::kSilentInBody || fault == Fault::kDribble;
    refusals += fault == Fault::kTokenEnded || fault == Fault::kSignatureEnded;
    redirects += fault == Fault::kRelativeRedirect || fault == Fault::kForeignRedirect;
  }
  // Three attempts are repeated; a stream's patience is three stalls, its pauses included.
  return again <= 2 && silences <= 1 && refusals <= 1 && redirects <= 4;
}

// One image read from beginning to end by one client.
class Scenario {
 public:
  Scenario(int seed, ScriptedLayer::Packing packing, ScriptedRegistry::Form form)
      : random_(static_cast<uint32_t>(seed)),
        layer_(packing),
        registry_(layer_.image(), form),
        repository_(
            Registry::Create(registry_.host(), registry_.Options())->Repository("team/app")) {}

  // Each operation meets up to three faults: the next of all kinds, so that each is met, and
  // others.
  void RunRandom(size_t first) {
    Run(4, [&, next = first]() mutable {
      std::vector<Fault> faults = {static_cast<Fault>(next++ % fakes::kFaults)};
      for (uint64_t left = Below(random_, 3); left > 0; --left)
        faults.push_back(static_cast<Fault>(Below(random_, fakes::kFaults)));
      registry_.Play(std::move(faults));
    });
  }
  // Each operation meets this one until it has failed.
  void RunForEver(Fault fault) {
    Run(1, [&] { registry_.PlayForEver(fault); });
  }
  const std::vector<Fault>& played() const { return played_; }

 private:
  void Run(int reads, const std::function<void()>& arm) {
    const auto source = repository_;
    Step(arm, "tag", [&] { return layer_.CheckTag(*source); });
    Step(arm, "manifest", [&] { return layer_.CheckManifest(*source); });
    Step(arm, "config", [&] { return layer_.CheckConfig(*source); });
    Step(arm, "pass", [&] { return layer_.CheckPass(source); });
    layer_.ForgetBytes();
    for (; reads > 0; --reads) {
      const uint64_t offset = Below(random_, layer_.flat_size());
      Step(arm, "read", [&] { return layer_.CheckRead(source, offset, kReadBytes); });
    }
    EXPECT_EQ(registry_.Leak(), "");
  }

  // The operation while faults are played; where it fails, again without them, as the next reader
  // would.
  void Step(const std::function<void()>& arm, const char* name,
            const std::function<Status()>& operation) {
    arm();
    const Status first = operation();
    const std::vector<Fault> played = registry_.Stop();
    played_.insert(played_.end(), played.begin(), played.end());
    SCOPED_TRACE(std::string(name) + " with " + Names(played));
    if (first) return;
    const Error& error = first.error();
    EXPECT_FALSE(AreToBeSurvived(played)) << error.message;
    EXPECT_NE(error.code, Code::kInternal) << error.message;
    EXPECT_TRUE(error.message.find(registry_.host()) != std::string::npos ||
                error.message.find("sha256:") != std::string::npos)
        << error.message;
    const Status second = operation();
    EXPECT_TRUE(second) << second.error().message << " without a fault, after " << error.message;
  }

  Random random_;
  ScriptedLayer layer_;
  ScriptedRegistry registry_;
  std::shared_ptr<RepositorySource> repository_;
  std::vector<Fault> played_;
};

// Runs body(i) for i in [0, count), several at a time.
void RunMany(int count, const std::function<void(int)>& body) {
  const Watchdog watchdog(kHung);
  std::atomic<int> next{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kAtATime; ++i)
    threads.emplace_back([&] {
      for (int number; (number = next++) < count;) body(number);
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(NetworkFaultsTest, RandomFaultsNeverGiveAWrongByte) {
  std::array<std::atomic<int>, fakes::kFaults> played{};
  RunMany(kRandomScenarios, [&](int number) {
    SCOPED_TRACE("seed " + std::to_string(number));
    Scenario scenario(static_cast<uint32_t>(number),
                      static_cast<ScriptedLayer::Packing>(number % 3),
                      {.tokens = number % 2 == 0, .redirects = number % 4 < 2});
    scenario.RunRandom(static_cast<size_t>(number));
    for (const Fault fault : scenario.played()) ++played[static_cast<size_t>(fault)];
  });
  for (size_t i = 0; i < fakes::kFaults; ++i)
    EXPECT_GT(played[i], 0) << FaultName(static_cast<Fault>(i)) << " was never played";
}

TEST(NetworkFaultsTest, AFaultThatNeverEndsIsAnErrorUntilItDoes) {
  RunMany(static_cast<int>(fakes::kFaults), [&](int number) {
    const auto fault = static_cast<Fault>(number);
    SCOPED_TRACE("for ever " + std::string(FaultName(fault)));
    Scenario scenario(number, ScriptedLayer::Packing::kNone,
                      {.tokens = true, .redirects = fault == Fault::kSignatureEnded});
    scenario.RunForEver(fault);
    EXPECT_FALSE(scenario.played().empty());
  });
}

TEST(NetworkFaultsTest, WrongBytesAreFetchedTwiceAgainAndNoMore) {
  ScriptedLayer layer(ScriptedLayer::Packing::kGzip);
  ScriptedRegistry registry(layer.image(), {});
  const auto source = Registry::Create(registry.host(), registry.Options())->Repository("team/app");
  const auto expect_three = [&](const std::function<Status()>& operation) {
    registry.PlayForEver(Fault::kWrongByte);
    const Status failed = operation();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::kCorrupt) << failed.error().message;
    EXPECT_EQ(registry.Stop().size(), 3u) << failed.error().message;
    EXPECT_TRUE(operation());
  };
  expect_three([&] { return layer.CheckTag(*source); });
  expect_three([&] { return layer.CheckManifest(*source); });
  expect_three([&] { return layer.CheckConfig(*source); });
  expect_three([&] { return layer.CheckPass(source); });
  layer.ForgetBytes();
  expect_three([&] { return layer.CheckRead(source, 0, 1); });
}

}  // namespace
}  // namespace lamina
