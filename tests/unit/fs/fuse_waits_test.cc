#include "fs/fuse_waits.h"

#include <gtest/gtest.h>

#include <thread>

#include "fs/fuse_adapter.h"
#include "fs/fuse_calls.h"

namespace lamina {
namespace {

const Error kLate{Code::kTimeout, "late"};

TEST(RecentFailuresTest, KnowsTheNameAndTheRangeThatFailed) {
  RecentFailures recent(std::chrono::hours(1));
  recent.Put({5, "name", 0, 0}, kLate);
  recent.Put({6, "", 4096, 8192}, kLate);
  ASSERT_TRUE(recent.Find({5, "name", 0, 0}));
  EXPECT_EQ(recent.Find({5, "name", 0, 0})->message, "late");
  EXPECT_FALSE(recent.Find({5, "other", 0, 0}));
  EXPECT_FALSE(recent.Find({6, "name", 0, 0}));
  EXPECT_TRUE(recent.Find({6, "", 0, 4097}));
  EXPECT_TRUE(recent.Find({6, "", 5000, 5001}));
  EXPECT_FALSE(recent.Find({6, "", 0, 4096}));
  EXPECT_FALSE(recent.Find({6, "", 8192, 9000}));
}

TEST(RecentFailuresTest, ForgetsAfterAWhileAndIsBounded) {
  RecentFailures none(std::chrono::milliseconds(0));
  none.Put({5, "name", 0, 0}, kLate);
  EXPECT_FALSE(none.Find({5, "name", 0, 0}));
  RecentFailures recent(std::chrono::hours(1));
  for (NodeId node = 1; node <= 5000; ++node) recent.Put({node, "name", 0, 0}, kLate);
  EXPECT_FALSE(recent.Find({1, "name", 0, 0}));
  EXPECT_TRUE(recent.Find({5000, "name", 0, 0}));
}

TEST(WaitBoundsTest, CallsWhatIsStillThereWhenItsDeadlinePasses) {
  WaitBounds bounds;
  const auto kept = std::make_shared<ParkedCall>();
  const auto later = std::make_shared<ParkedCall>();
  auto gone = std::make_shared<ParkedCall>();
  bounds.Watch(Deadline::After(std::chrono::milliseconds(0)), kept);
  bounds.Watch(Deadline::After(std::chrono::milliseconds(0)), gone);
  bounds.Watch(Deadline::After(std::chrono::milliseconds(1)), kept);
  bounds.Watch(Deadline::After(std::chrono::hours(1)), later);
  gone.reset();
  std::vector<std::shared_ptr<ParkedCall>> expired;
  bounds.Run([&](const std::shared_ptr<ParkedCall>& call) {
    expired.push_back(call);
    if (expired.size() == 2) bounds.Stop();
  });
  EXPECT_EQ(expired, (std::vector<std::shared_ptr<ParkedCall>>{kept, kept}));
}

}  // namespace
}  // namespace lamina
