#include "base/user.h"

#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace lamina {
namespace {

// Puts HOME back as it was.
class UserTest : public ::testing::Test {
 protected:
  UserTest() : home_(EnvironmentOf("HOME")), listed_(::getpwuid(::geteuid())->pw_dir) {}
  ~UserTest() override { ::setenv("HOME", home_.c_str(), 1); }

  const std::string home_;
  const std::string listed_;
};

TEST_F(UserTest, TheEnvironmentSaysWhereHomeIs) {
  ::setenv("HOME", "/of/the/environment", 1);
  EXPECT_EQ(HomeFolder(), "/of/the/environment");
}

TEST_F(UserTest, WithoutAFolderInHomeTheListOfUsersSays) {
  ::unsetenv("HOME");
  EXPECT_EQ(HomeFolder(), listed_);
  for (const char* none : {"", "below/somewhere"}) {
    ::setenv("HOME", none, 1);
    EXPECT_EQ(HomeFolder(), listed_);
  }
}

}  // namespace
}  // namespace lamina
