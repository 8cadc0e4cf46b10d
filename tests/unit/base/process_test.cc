#include "base/process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace lamina {
namespace {

// A child that sleeps until it is killed.
class ProcessTest : public ::testing::Test {
 protected:
  ProcessTest() : child_(::fork()) {
    if (child_ != 0) return;
    for (;;) ::pause();
  }
  ~ProcessTest() override { End(); }
  void End() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  pid_t child_;
};

TEST_F(ProcessTest, ANameGoesThroughTextAndBack) {
  const auto self = ProcessId::Self();
  ASSERT_TRUE(self) << self.error().message;
  EXPECT_EQ(self->pid, ::getpid());
  EXPECT_GT(self->start_ticks, 0u);
  EXPECT_EQ(*ProcessId::Parse(self->ToString()), *self);
  for (const char* wrong : {"", "1", "1 ", "-1 2", "0 2", "1 2 3", "1 x", "x 1"})
    EXPECT_FALSE(ProcessId::Parse(wrong)) << wrong;
}

TEST_F(ProcessTest, AWatchTellsWhetherTheProcessHasEnded) {
  const auto watch = ProcessWatch::Open(*ProcessId::Of(child_));
  ASSERT_TRUE(watch) << watch.error().message;
  EXPECT_FALSE(*watch->WaitForEnd(Deadline::After(std::chrono::milliseconds(1))));
  ::kill(child_, SIGKILL);
  EXPECT_TRUE(*watch->WaitForEnd(Deadline::After(std::chrono::hours(1))));
}

TEST_F(ProcessTest, AProcessThatOnlyHasTheNumberIsAnotherOne) {
  ProcessId other = *ProcessId::Of(child_);
  ++other.start_ticks;
  EXPECT_EQ(ProcessWatch::Open(other).error().code, Code::kNotFound);
  const ProcessId gone = *ProcessId::Of(child_);
  End();
  EXPECT_EQ(ProcessWatch::Open(gone).error().code, Code::kNotFound);
  EXPECT_EQ(ProcessId::Of(gone.pid).error().code, Code::kNotFound);
}

}  // namespace
}  // namespace lamina
