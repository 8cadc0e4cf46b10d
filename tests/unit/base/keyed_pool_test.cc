#include "base/keyed_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <system_error>

namespace lamina {
namespace {

TEST(KeyedPoolTest, RunsEveryJobBeforeStopReturns) {
  std::atomic<int> done{0};
  KeyedPool pool({.max_threads = 4, .per_key = 2});
  for (int i = 0; i < 1000; ++i) pool.Post(std::to_string(i % 7), [&] { ++done; });
  pool.Stop();
  EXPECT_EQ(done, 1000);
}

TEST(KeyedPoolTest, NeverRunsMoreOfOneKeyThanAllowed) {
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  KeyedPool pool({.max_threads = 16, .per_key = 3});
  for (int i = 0; i < 300; ++i) {
    pool.Post("k", [&] {
      const int now = ++running;
      int seen = most;
      while (now > seen && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --running;
    });
  }
  pool.Stop();
  EXPECT_LE(most, 3);
  EXPECT_GE(most, 1);
}

TEST(KeyedPoolTest, AStuckKeyDoesNotDelayAnother) {
  std::promise<void> release;
  auto held = release.get_future().share();
  KeyedPool pool({.max_threads = 8, .per_key = 2});
  for (int i = 0; i < 10; ++i) pool.Post("dead", [held] { held.wait(); });
  std::promise<void> other;
  pool.Post("alive", [&] { other.set_value(); });
  EXPECT_EQ(other.get_future().wait_for(std::chrono::seconds(30)), std::future_status::ready);
  release.set_value();
}

// Jobs that end when the test says so.
class HeldJobs {
 public:
  explicit HeldJobs(KeyedPool& pool) : pool_(pool) {}
  ~HeldJobs() {
    release_.set_value();
    pool_.Stop();
  }
  void Post(const std::string& key, PoolShare share) {
    pool_.Post(
        key,
        [this] {
          ++running_;
          held_.wait();
        },
        share);
  }
  void WaitForRunning(int count) const {
    while (running_ < count) std::this_thread::yield();
  }
  int running() const { return running_; }

 private:
  KeyedPool& pool_;
  std::promise<void> release_;
  std::shared_future<void> held_ = release_.get_future().share();
  std::atomic<int> running_{0};
};

bool Runs(KeyedPool& pool, const std::string& key, PoolShare share) {
  auto ran = std::make_shared<std::promise<void>>();
  pool.Post(
      key, [ran] { ran->set_value(); }, share);
  return ran->get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready;
}

TEST(KeyedPoolTest, RegistriesLeaveThreadsToLocalJobs) {
  KeyedPool pool({.max_threads = 8, .per_key = 4, .for_local = 2, .for_strangers = 8});
  HeldJobs held(pool);
  for (int i = 0; i < 40; ++i) held.Post("dead " + std::to_string(i), PoolShare::kRegistry);
  held.WaitForRunning(6);
  EXPECT_TRUE(Runs(pool, "local", PoolShare::kLocal));
  EXPECT_EQ(held.running(), 6);
}

TEST(KeyedPoolTest, StrangersTakeTheirShareAlone) {
  KeyedPool pool({.max_threads = 8, .per_key = 4, .for_local = 2, .for_strangers = 3});
  HeldJobs held(pool);
  for (int i = 0; i < 40; ++i) held.Post("stranger " + std::to_string(i), PoolShare::kStranger);
  held.WaitForRunning(3);
  EXPECT_TRUE(Runs(pool, "known", PoolShare::kRegistry));
  EXPECT_TRUE(Runs(pool, "local", PoolShare::kLocal));
  EXPECT_EQ(held.running(), 3);
}

TEST(KeyedPoolTest, KeysWithManyJobsLeaveThreadsToOthers) {
  KeyedPool pool({.max_threads = 20, .per_key = 16, .for_local = 0, .for_strangers = 20});
  HeldJobs held(pool);
  for (int i = 0; i < 16; ++i) held.Post("dead", PoolShare::kRegistry);
  for (int i = 0; i < 16; ++i) held.Post("dead too", PoolShare::kRegistry);
  // Ten of the first take half of the threads, four of the second are few.
  held.WaitForRunning(14);
  EXPECT_TRUE(Runs(pool, "alive", PoolShare::kRegistry));
  EXPECT_EQ(held.running(), 14);
}

std::thread NoThread(const std::function<void()>&) {
  throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
}

TEST(KeyedPoolTest, WithoutAnyThreadJobsRunInTheCaller) {
  std::atomic<int> done{0};
  KeyedPool pool({.start_thread = NoThread});
  pool.Post("k", [&] {
    ++done;
    pool.Post("k", [&] { ++done; });  // left to the caller, who runs this one
  });
  EXPECT_EQ(done, 2);
  pool.Stop();
}

TEST(KeyedPoolTest, WhatMayBeLostIsDroppedWhereThereIsNoThread) {
  int threads = 0;
  const auto start = [&](const std::function<void()>& body) {
    return ++threads > 1 ? std::thread(body) : NoThread(body);
  };
  KeyedPool pool({.drops_above = 64, .start_thread = start});
  std::atomic<int> lost{0};
  std::atomic<int> ran{0};
  EXPECT_FALSE(pool.Post("k", [&] { ++lost; }));
  EXPECT_TRUE(pool.Post("k", [&] { ++ran; })) << "by now there are threads";
  pool.Stop();
  EXPECT_FALSE(pool.Post("k", [&] { ++lost; }));
  EXPECT_EQ(ran, 1);
  EXPECT_EQ(lost, 0);
}

TEST(KeyedPoolTest, WhatMayBeLostIsRefusedWhereMuchWaits) {
  std::promise<void> release;
  const auto held = release.get_future().share();
  std::atomic<int> ran{0};
  KeyedPool pool({.max_threads = 4, .per_key = 1, .for_local = 4, .drops_above = 3});
  std::promise<void> running;
  ASSERT_TRUE(pool.Post("k", [&] {
    running.set_value();
    held.wait();
  }));
  running.get_future().wait();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pool.Post("k", [&] { ++ran; }));
  EXPECT_FALSE(pool.Post("k", [&] { ++ran; }));
  EXPECT_TRUE(pool.Post("other", [&] { ++ran; }));
  release.set_value();
  pool.Stop();
  EXPECT_EQ(ran, 4);
}

TEST(KeyedPoolTest, WhatFindsNoThreadOfItsOwnWaitsForOneThatLives) {
  std::promise<void> release;
  const auto held = release.get_future().share();
  int started = 0;
  KeyedPool pool({.start_thread = [&](const std::function<void()>& body) {
    return ++started > 1 ? NoThread(body) : std::thread(body);
  }});
  std::promise<void> running;
  pool.Post("k", [&] {
    running.set_value();
    held.wait();
  });
  running.get_future().wait();
  std::promise<std::thread::id> ran;
  pool.Post("other", [&] { ran.set_value(std::this_thread::get_id()); });
  EXPECT_EQ(started, 2);
  release.set_value();
  EXPECT_NE(ran.get_future().get(), std::this_thread::get_id());
  pool.Stop();
}

TEST(KeyedPoolTest, SurvivesAThrowingJob) {
  std::atomic<int> done{0};
  KeyedPool pool({.max_threads = 1, .per_key = 1});
  pool.Post("k", [] { throw std::runtime_error("test"); });
  pool.Post("k", [&] { ++done; });
  pool.Stop();
  EXPECT_EQ(done, 1);
}

}  // namespace
}  // namespace lamina
