#include "base/single_flight.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/set_once.h"

namespace lamina {
namespace {

// Callers that arrive while the first call is held back: all are inside Do() once the leader has been let go and
// every thread has its answer.
TEST(SingleFlightTest, CallersOfOneKeyShareOneCall) {
  SingleFlight<std::string, int> flights;
  std::promise<void> release;
  auto held = release.get_future().share();
  std::promise<void> begun;
  std::atomic<int> calls{0};
  std::thread leader([&] {
    auto answer = flights.Do("k", [&]() -> Result<int> {
      ++calls;
      begun.set_value();
      held.wait();
      return 7;
    });
    EXPECT_EQ(*answer, 7);
  });
  begun.get_future().wait();
  std::vector<std::thread> others;
  std::atomic<int> joined{0};
  for (int i = 0; i < 8; ++i) {
    others.emplace_back([&] {
      ++joined;
      auto answer = flights.Do("k", [&]() -> Result<int> { return ++calls, 7; });
      EXPECT_EQ(*answer, 7);
    });
  }
  // Another key is not held up by this one.
  EXPECT_EQ(*flights.Do("other", []() -> Result<int> { return 1; }), 1);
  while (joined < 8) std::this_thread::yield();
  release.set_value();
  leader.join();
  for (std::thread& other : others) other.join();
  // Those that came late lead flights of their own, one after another; nobody ran beside the leader.
  EXPECT_GE(calls, 1);
  EXPECT_LE(calls, 9);
}

TEST(SingleFlightTest, FailuresAreDeliveredAndNotRemembered) {
  SingleFlight<int, int> flights;
  EXPECT_EQ(flights.Do(1, []() -> Result<int> { return Error{Code::kTimeout, "t"}; }).error().code, Code::kTimeout);
  EXPECT_EQ(*flights.Do(1, []() -> Result<int> { return 2; }), 2);
}

TEST(SingleFlightTest, AThrowingCallIsAnInternalError) {
  SingleFlight<int, int> flights;
  EXPECT_EQ(flights.Do(1, []() -> Result<int> { throw std::runtime_error("boom"); }).error().code, Code::kInternal);
  EXPECT_EQ(*flights.Do(1, []() -> Result<int> { return 3; }), 3);
}

TEST(SetOnceTest, TheFirstValueStays) {
  SetOnce<int> cell;
  EXPECT_EQ(cell.get(), nullptr);
  EXPECT_EQ(cell.shared(), nullptr);
  EXPECT_EQ(*cell.Set(std::make_shared<int>(1)), 1);
  EXPECT_EQ(*cell.Set(std::make_shared<int>(2)), 1);
  EXPECT_EQ(*cell.get(), 1);
}

TEST(SetOnceTest, ConcurrentSettersAgree) {
  SetOnce<int> cell;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto value = cell.Set(std::make_shared<int>(i));
      if (value.get() != cell.get()) ++wrong;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace lamina
