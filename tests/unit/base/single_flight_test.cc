#include "base/single_flight.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/set_once.h"

namespace lamina {
namespace {

TEST(SingleFlightTest, CallsOfOneKeyNeverOverlapAndEveryCallerIsAnswered) {
  SingleFlight<std::string, int> flights;
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  std::atomic<int> calls{0};
  std::atomic<int> answered{0};
  const std::function<Result<int>()> call = [&]() -> Result<int> {
    most = std::max(most.load(), ++running);
    std::this_thread::yield();
    --running;
    return ++calls;
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round)
        answered += flights.Do("k", call).has_value() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(most, 1);
  EXPECT_EQ(answered, 16 * 200);
  EXPECT_LE(calls, 16 * 200);
}

TEST(SingleFlightTest, ACallThatIsHeldHoldsUpNoOtherKey) {
  SingleFlight<std::string, int> flights;
  std::promise<void> release;
  std::promise<void> begun;
  std::thread leader([&] {
    const auto answer = flights.Do("held", [&]() -> Result<int> {
      begun.set_value();
      release.get_future().wait();
      return 7;
    });
    EXPECT_EQ(*answer, 7);
  });
  begun.get_future().wait();
  EXPECT_EQ(*flights.Do("other", []() -> Result<int> { return 1; }), 1);
  release.set_value();
  leader.join();
}

TEST(SingleFlightTest, FailuresAreDeliveredAndNotRemembered) {
  SingleFlight<int, int> flights;
  EXPECT_EQ(flights.Do(1,
                       []() -> Result<int> {
                         return Error{Code::kTimeout, "t"};
                       })
                .error()
                .code,
            Code::kTimeout);
  EXPECT_EQ(*flights.Do(1, []() -> Result<int> { return 2; }), 2);
}

TEST(SingleFlightTest, AThrowingCallIsAnInternalError) {
  SingleFlight<int, int> flights;
  EXPECT_EQ(flights.Do(1, []() -> Result<int> { throw std::runtime_error("boom"); }).error().code,
            Code::kInternal);
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
