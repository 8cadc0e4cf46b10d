#include "base/keyed_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>

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
