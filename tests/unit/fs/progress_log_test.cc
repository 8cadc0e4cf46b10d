#include "fs/progress_log.h"

#include <gtest/gtest.h>

namespace lamina {
namespace {

using std::chrono::seconds;

TEST(ProgressLogTest, ALineEveryTenSecondsAndNoneBefore) {
  const ProgressLog::Time start{};
  ProgressLog log("layer 3", 400u << 20, start);
  EXPECT_EQ(log.Line(1, start + seconds(9)), std::nullopt);
  EXPECT_EQ(log.Line(100u << 20, start + seconds(10)),
            "indexing layer 3: 100.0 MiB of 400.0 MiB, 25 %");
  EXPECT_EQ(log.Line(120u << 20, start + seconds(19)), std::nullopt);
  EXPECT_EQ(log.Line(400u << 20, start + seconds(25)),
            "indexing layer 3: 400.0 MiB of 400.0 MiB, 100 %");
  EXPECT_EQ(log.Line(400u << 20, start + seconds(34)), std::nullopt);
}

TEST(ProgressLogTest, ALayerWithoutBytesIsWholeAtOnce) {
  ProgressLog log("layer 0", 0, {});
  EXPECT_EQ(log.Line(0, ProgressLog::Time(seconds(11))), "indexing layer 0: 0 B of 0 B, 100 %");
}

}  // namespace
}  // namespace lamina
