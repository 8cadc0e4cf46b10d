#include "base/quota.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace lamina {
namespace {

using Share = Quota::Share;

Deadline Soon() { return Deadline::After(std::chrono::minutes(1)); }
Deadline Passed() { return Deadline::After(std::chrono::milliseconds(0)); }

TEST(QuotaTest, GivesNoMoreThanThereIsAndTakesItBack) {
  Quota quota(10, 0);
  {
    const auto some = quota.Take(7, Urgency::kStream, Soon());
    ASSERT_TRUE(some);
    EXPECT_FALSE(quota.TryTake(4, Urgency::kReader));
    EXPECT_FALSE(quota.Take(4, Urgency::kReader, Passed()));
    EXPECT_TRUE(quota.TryTake(3, Urgency::kReader));
    EXPECT_EQ(quota.used(), 7u);
  }
  EXPECT_EQ(quota.used(), 0u);
  EXPECT_EQ(quota.most_used(), 10u);
}

TEST(QuotaTest, APartIsForReadersAlone) {
  Quota quota(10, 3);
  const auto stream = quota.TryTake(7, Urgency::kStream);
  ASSERT_TRUE(stream);
  EXPECT_FALSE(quota.TryTake(1, Urgency::kAhead));
  EXPECT_TRUE(quota.TryTake(3, Urgency::kReader));
}

TEST(QuotaTest, WhoWantsMoreThanThereIsGetsAll) {
  Quota quota(10, 3);
  EXPECT_TRUE(quota.TryTake(1000, Urgency::kReader));
  const auto share = quota.TryTake(1000, Urgency::kStream);
  ASSERT_TRUE(share);
  EXPECT_EQ(quota.used(), 7u);
  EXPECT_EQ(quota.most_used(), 10u);
}

TEST(QuotaTest, AShareThatMovesIsGivenBackOnce) {
  Quota quota(10, 0);
  auto first = quota.TryTake(4, Urgency::kReader);
  Share moved = *std::move(first);
  first.reset();
  EXPECT_EQ(quota.used(), 4u);
  moved = Share();
  EXPECT_EQ(quota.used(), 0u);
}

// The reader comes last and is served first; nobody is forgotten.
TEST(QuotaTest, ReadersAreServedBeforeTheOthers) {
  Quota quota(1, 0);
  auto held = quota.TryTake(1, Urgency::kReader);
  std::atomic<int> waiting{0};
  std::mutex mutex;
  std::vector<Urgency> served;
  std::vector<std::thread> threads;
  const auto wait = [&](Urgency urgency) {
    threads.emplace_back([&, urgency] {
      ++waiting;
      const auto share = quota.Take(1, urgency, Soon());
      ASSERT_TRUE(share);
      std::lock_guard lock(mutex);
      served.push_back(urgency);
    });
  };
  for (const Urgency urgency : {Urgency::kStream, Urgency::kAhead, Urgency::kReader}) wait(urgency);
  while (waiting < 3 || quota.waiting() < 3) std::this_thread::yield();
  held.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, (std::vector<Urgency>{Urgency::kReader, Urgency::kAhead, Urgency::kStream}));
}

TEST(QuotaTest, WhoGivesUpHoldsUpNobody) {
  Quota quota(2, 0);
  auto held = quota.TryTake(1, Urgency::kReader);
  std::thread large([&] {
    EXPECT_FALSE(quota.Take(2, Urgency::kReader, Deadline::After(std::chrono::milliseconds(50))));
  });
  while (quota.waiting() == 0) std::this_thread::yield();
  const auto small = quota.Take(1, Urgency::kStream, Soon());
  EXPECT_TRUE(small);
  large.join();
}

TEST(QuotaTest, AnOwnerHasAtMostHalf) {
  Quota quota(16, 4);
  const auto stream = quota.TryTake(1000, Urgency::kStream, "a");
  ASSERT_TRUE(stream);
  EXPECT_EQ(quota.used(), 6u);
  EXPECT_FALSE(quota.TryTake(1, Urgency::kAhead, "a"));
  const auto reader = quota.TryTake(2, Urgency::kReader, "a");
  ASSERT_TRUE(reader) << "a part of the owner's, too, is for readers alone";
  EXPECT_FALSE(quota.TryTake(1, Urgency::kReader, "a"));
  EXPECT_FALSE(quota.Take(1, Urgency::kReader, Passed(), "a"));
  EXPECT_TRUE(quota.TryTake(8, Urgency::kReader, "b"));
}

TEST(QuotaTest, WhatAnOwnerGivesBackHeMayTakeAgain) {
  Quota quota(10, 0);
  for (int i = 0; i < 3; ++i) {
    auto share = quota.TryTake(5, Urgency::kReader, "a");
    ASSERT_TRUE(share);
    Share moved = *std::move(share);
    share.reset();
    EXPECT_FALSE(quota.TryTake(1, Urgency::kReader, "a"));
  }
  EXPECT_EQ(quota.used(), 0u);
}

TEST(QuotaTest, WhoWaitsForHisOwnerHoldsUpNobodyElse) {
  Quota quota(10, 0);
  auto held = quota.TryTake(4, Urgency::kReader, "a");
  std::atomic<bool> served{false};
  std::thread second([&] {
    EXPECT_TRUE(quota.Take(2, Urgency::kReader, Soon(), "a"));
    served = true;
  });
  while (quota.waiting() == 0) std::this_thread::yield();
  EXPECT_FALSE(quota.TryTake(1, Urgency::kStream, "a")) << "it comes behind its owner's own";
  EXPECT_TRUE(quota.TryTake(5, Urgency::kStream, "b"));
  EXPECT_TRUE(quota.Take(6, Urgency::kStream, Soon()));
  EXPECT_FALSE(served);
  held.reset();
  second.join();
  EXPECT_EQ(quota.used(), 0u);
}

TEST(QuotaTest, WhoLooksAtSomethingElseMeanwhileKeepsHisPlace) {
  Quota quota(1, 0);
  auto held = quota.TryTake(1, Urgency::kReader);
  Quota::Waiting first(quota, 1, Urgency::kStream);
  Quota::Waiting second(quota, 1, Urgency::kStream);
  EXPECT_FALSE(first.Until(Passed()));
  held.reset();
  EXPECT_FALSE(second.Until(Passed()));
  EXPECT_FALSE(quota.TryTake(1, Urgency::kStream));
  EXPECT_TRUE(first.Until(Passed()));
  EXPECT_TRUE(second.Until(Passed()));
  EXPECT_FALSE(second.Until(Passed())) << "there is one share for one place";
  EXPECT_EQ(quota.waiting(), 0u);
}

TEST(QuotaTest, ManyThreadsNeverHaveMoreThanTheLimit) {
  Quota quota(8, 2);
  std::atomic<uint64_t> have{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i)
    threads.emplace_back([&, i] {
      const auto urgency = static_cast<Urgency>(i % 3);
      for (int n = 0; n < 500; ++n) {
        const uint64_t amount = 1 + static_cast<uint64_t>(i + n) % 4;
        const auto share = quota.Take(amount, urgency, Soon(),
                                      i % 4 == 0  ? ""
                                      : i % 4 < 3 ? "a"
                                                  : "b");
        ASSERT_TRUE(share);
        if ((have += amount) > 8) over = true;
        have -= amount;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(over);
  EXPECT_EQ(quota.used(), 0u);
  EXPECT_LE(quota.most_used(), 8u);
}

}  // namespace
}  // namespace lamina
