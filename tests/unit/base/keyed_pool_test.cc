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

void NoThread(const std::function<void()>&) {
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

TEST(KeyedPoolTest, WhatFindsNoThreadOfItsOwnWaitsForOneThatLives) {
  std::promise<void> release;
  const auto held = release.get_future().share();
  int started = 0;
  KeyedPool pool({.start_thread = [&](const std::function<void()>& body) {
    if (++started > 1) NoThread(body);
    std::thread(body).detach();
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
