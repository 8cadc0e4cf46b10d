#include "fetch/host_health.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace lamina {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class HostHealthTest : public testing::Test {
 protected:
  Result<HostHealth::Leave> Ask() { return health_.Ask(Deadline::After(seconds(20))); }

  // Asks, and hears nothing for `wait`. False where it was not let.
  bool AskInVain(milliseconds wait) {
    const auto leave = Ask();
    if (!leave) return false;
    const auto began = now_;
    now_ += wait;
    health_.Failed(began, {Code::kUnavailable, "no connection"});
    return true;
  }

  HostHealth::Clock::time_point now_{seconds(1000)};
  HostHealth health_{[this] { return now_; }};
};

TEST_F(HostHealthTest, AShortBreakIsNobodysBusiness) {
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  now_ += milliseconds(500);
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, OneThatRefusesAtOnceIsAskedOnceEach) {
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  now_ += seconds(3);
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  for (int i = 0; i < 5; ++i) {
    const auto leave = Ask();
    ASSERT_TRUE(leave.has_value());
    EXPECT_TRUE(leave->once());
  }
}

TEST_F(HostHealthTest, OfASlowOneOneAsksAndTheOthersAreRefused) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  ASSERT_TRUE(AskInVain(seconds(5)));   // whoever probes
  EXPECT_FALSE(AskInVain(seconds(5)));  // it has a moment's rest
  now_ += seconds(2);
  {
    const auto probe = Ask();
    ASSERT_TRUE(probe.has_value());
    EXPECT_TRUE(probe->once());
    const auto other = Ask();
    ASSERT_FALSE(other.has_value());
    EXPECT_EQ(other.error().message, "no connection");
    EXPECT_EQ(other.error().code, Code::kUnavailable);
  }
  EXPECT_TRUE(Ask().has_value());  // whoever probed has gone
}

TEST_F(HostHealthTest, OneRequestThatStalledRefusesNobodyBeforeItIsCertain) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  auto probe = std::make_optional(Ask());
  ASSERT_TRUE(probe->has_value());
  std::vector<std::thread> others;
  std::atomic<int> let = 0;
  for (int i = 0; i < 8; ++i)
    others.emplace_back([&] {
      const auto leave = Ask();
      if (leave && !leave->once()) ++let;
    });
  health_.Heard();
  probe.reset();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(let, 8);
}

TEST_F(HostHealthTest, NobodyWaitsForAProbeForLongNorIsRefusedForIt) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  const auto probe = Ask();
  ASSERT_TRUE(probe.has_value());
  const auto other = Ask();
  ASSERT_TRUE(other.has_value());
  EXPECT_FALSE(other->once());
}

TEST_F(HostHealthTest, APartOfAnAnswerEndsTheProbeThatStillRuns) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  ASSERT_TRUE(AskInVain(seconds(5)));
  now_ += seconds(2);
  const auto probe = Ask();
  ASSERT_TRUE(probe.has_value());
  ASSERT_FALSE(Ask().has_value());
  health_.Heard();
  const auto other = Ask();
  ASSERT_TRUE(other.has_value());
  EXPECT_FALSE(other->once());
}

TEST_F(HostHealthTest, AProbeThatIsOverDoesNotEndAnothers) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  auto first = std::make_optional(Ask());
  ASSERT_TRUE(first->has_value());
  health_.Heard();
  ASSERT_TRUE(AskInVain(seconds(5)));
  ASSERT_TRUE(AskInVain(seconds(5)));
  now_ += seconds(2);
  const auto second = Ask();
  ASSERT_TRUE(second.has_value());
  first.reset();
  EXPECT_FALSE(Ask().has_value());
}

TEST_F(HostHealthTest, TimeInWhichNobodyAskedIsNoSilence) {
  ASSERT_TRUE(AskInVain(milliseconds(600)));
  now_ += seconds(30);
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, AnAnswerEndsIt) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  health_.Heard();
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, OneSilentRequestAmongAnswersSaysNothing) {
  const auto began = now_;
  now_ += seconds(9);
  health_.Heard();
  now_ += seconds(1);
  health_.Failed(began, {Code::kUnavailable, "no byte in time"});
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, ACallerWithoutTimeLearnsNothing) {
  for (int i = 0; i < 10; ++i) {
    const auto began = now_;
    now_ += milliseconds(400);
    health_.Failed(began, {Code::kTimeout, "no answer in time"});
  }
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, WhatWasLongAgoIsForgotten) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  now_ += seconds(61);
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  EXPECT_FALSE(Ask()->once());
}

}  // namespace
}  // namespace lamina
