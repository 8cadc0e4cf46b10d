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
    const auto began = now_.load();
    Pass(wait);
    health_.Failed(began, {Code::kUnavailable, "no connection"});
    return true;
  }
  void Pass(milliseconds time) { now_ = now_.load() + time; }
  void BecomeAway() {
    ASSERT_TRUE(AskInVain(seconds(5)));
    ASSERT_TRUE(AskInVain(seconds(5)));
  }

  std::atomic<HostHealth::Clock::time_point> now_{HostHealth::Clock::time_point(seconds(1000))};
  std::atomic<int> probes_{0};
  HostHealth::Probe probe_ = [](HostHealth&, const std::atomic<bool>&) {};  // hears nothing
  HostHealth health_{[this](HostHealth& health, const std::atomic<bool>& stopping) {
                       ++probes_;
                       probe_(health, stopping);
                     },
                     [this] { return now_.load(); }};
};

TEST_F(HostHealthTest, AShortBreakIsNobodysBusiness) {
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  Pass(milliseconds(500));
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, OneThatRefusesAtOnceIsAskedOnceEach) {
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  Pass(seconds(3));
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  for (int i = 0; i < 5; ++i) {
    const auto leave = Ask();
    ASSERT_TRUE(leave.has_value());
    EXPECT_TRUE(leave->once());
  }
}

// [S88]
TEST_F(HostHealthTest, OfASlowOneThatIsAwayEverybodyIsRefusedWhileItIsProbedMoreAndMoreSeldom) {
  BecomeAway();
  const auto asked = Ask();
  ASSERT_FALSE(asked.has_value());
  EXPECT_EQ(asked.error().message, "no connection");
  EXPECT_EQ(asked.error().code, Code::kUnavailable);
  EXPECT_EQ(probes_, 1);
  EXPECT_FALSE(Ask().has_value());
  EXPECT_EQ(probes_, 1);
  int expected = 1;
  for (const int rest : {1, 2, 4, 8, 16, 30, 30}) {
    Pass(seconds(rest) - milliseconds(1));
    EXPECT_FALSE(Ask().has_value());
    EXPECT_EQ(probes_, expected) << rest;
    Pass(milliseconds(1));
    EXPECT_FALSE(Ask().has_value());
    EXPECT_EQ(probes_, ++expected) << rest;
  }
}

// [S88]
TEST_F(HostHealthTest, AProbeThatIsAnsweredLetsInWhoeverWaitsForIt) {
  BecomeAway();
  probe_ = [](HostHealth& health, const std::atomic<bool>&) { health.Heard(); };
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, NobodyWaitsForAProbeThatTakesLongAndItEndsWithTheHealth) {
  BecomeAway();
  std::atomic<bool> seen{false};
  probe_ = [&](HostHealth&, const std::atomic<bool>& stopping) {
    while (!stopping) std::this_thread::sleep_for(milliseconds(1));
    seen = true;
  };
  {
    HostHealth health(probe_, [this] { return now_.load(); });
    for (int i = 0; i < 2; ++i) {
      const auto began = now_.load();
      Pass(seconds(5));
      health.Failed(began, {Code::kUnavailable, "no connection"});
    }
    EXPECT_FALSE(health.Ask(Deadline::After(seconds(20))).has_value());
    EXPECT_FALSE(seen);
  }
  EXPECT_TRUE(seen);
}

TEST_F(HostHealthTest, RequestsBesideEachOtherConfirmNothing) {
  const auto began = now_.load();
  Pass(seconds(5));
  for (int i = 0; i < 3; ++i) health_.Failed(began, {Code::kUnavailable, "no connection"});
  EXPECT_TRUE(Ask().has_value());
  EXPECT_EQ(probes_, 0);
}

// [S88]
TEST_F(HostHealthTest, WhatIsAwayStaysSoHoweverLongNobodyAsks) {
  BecomeAway();
  Pass(std::chrono::hours(24));
  EXPECT_FALSE(Ask().has_value());
  EXPECT_EQ(probes_, 1);
}

// [S111]
TEST_F(HostHealthTest, AHostIsLeftAloneForAsLongAsItAsksButNotForMoreThanFiveMinutes) {
  EXPECT_FALSE(health_.Paused().has_value());
  health_.LeaveAlone(std::chrono::hours(1), "too much");
  health_.LeaveAlone(seconds(1), "again");
  const auto pause = health_.Paused();
  ASSERT_TRUE(pause.has_value());
  EXPECT_EQ(pause->left, std::chrono::minutes(5));
  EXPECT_EQ(pause->reason, "too much");
  Pass(std::chrono::minutes(5));
  EXPECT_FALSE(health_.Paused().has_value());
}

TEST_F(HostHealthTest, OneRequestThatStalledRefusesNobodyBeforeItIsCertain) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  auto first = std::make_optional(Ask());
  ASSERT_TRUE(first->has_value());
  std::vector<std::thread> others;
  std::atomic<int> let = 0;
  for (int i = 0; i < 8; ++i)
    others.emplace_back([&] {
      const auto leave = Ask();
      if (leave && !leave->once()) ++let;
    });
  health_.Heard();
  first.reset();
  for (std::thread& other : others) other.join();
  EXPECT_EQ(let, 8);
}

TEST_F(HostHealthTest, NobodyWaitsLongForWhoAsksFirstNorIsRefusedForHim) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  const auto first = Ask();
  ASSERT_TRUE(first.has_value());
  const auto other = Ask();
  ASSERT_TRUE(other.has_value());
  EXPECT_FALSE(other->once());
}

TEST_F(HostHealthTest, TimeInWhichNobodyAskedIsNoSilence) {
  ASSERT_TRUE(AskInVain(milliseconds(600)));
  Pass(seconds(30));
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
  const auto began = now_.load();
  Pass(seconds(9));
  health_.Heard();
  Pass(seconds(1));
  health_.Failed(began, {Code::kUnavailable, "no byte in time"});
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, ACallerWithoutTimeLearnsNothing) {
  for (int i = 0; i < 10; ++i) {
    const auto began = now_.load();
    Pass(milliseconds(400));
    health_.Failed(began, {Code::kTimeout, "no answer in time"});
  }
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
}

TEST_F(HostHealthTest, WhatWasLongAgoIsForgotten) {
  ASSERT_TRUE(AskInVain(seconds(5)));
  Pass(seconds(61));
  const auto leave = Ask();
  ASSERT_TRUE(leave.has_value());
  EXPECT_FALSE(leave->once());
  ASSERT_TRUE(AskInVain(milliseconds(1)));
  EXPECT_FALSE(Ask()->once());
}

}  // namespace
}  // namespace lamina
