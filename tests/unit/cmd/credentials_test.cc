#include "cmd/credentials.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "base/log.h"

namespace lamina {
namespace {

// Every place where a file is looked for is moved into a folder of the test's own.
class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() : folder_(std::move(TemporaryFolder::Create("lamina-credentials")).value()) {
    ::setenv("REGISTRY_AUTH_FILE", Path("auth.json").c_str(), 1);
    ::setenv("XDG_RUNTIME_DIR", Path("run").c_str(), 1);
    ::setenv("XDG_CONFIG_HOME", Path("config").c_str(), 1);
    ::setenv("DOCKER_CONFIG", Path("docker").c_str(), 1);
    ::setenv("HOME", Path("home").c_str(), 1);
  }
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  void Write(const std::string& name, const std::string& text) {
    const std::string path = Path(name);
    ASSERT_TRUE(MakeFolders(path.substr(0, path.rfind('/'))));
    ASSERT_TRUE(WriteFileAtomically(path, AsBytes(text)));
  }
  TemporaryFolder folder_;
};

TEST_F(CredentialsTest, ReadsUserAndPassword) {
  // printf 'alice:pa:ss' | base64
  Write("auth.json", R"({"auths": {"localhost:5000": {"auth": "YWxpY2U6cGE6c3M="}}})");
  const RegistryCredentials found = CredentialsOfHost("localhost:5000");
  EXPECT_EQ(found.username, "alice");
  EXPECT_EQ(found.password, "pa:ss");
  EXPECT_TRUE(CredentialsOfHost("localhost:5001").empty());
}

TEST_F(CredentialsTest, KnowsDockerHubByItsOldName) {
  // printf 'bob:x' | base64
  Write("docker/config.json",
        R"({"auths": {"https://index.docker.io/v1/": {"auth": "Ym9iOng="}}})");
  EXPECT_EQ(CredentialsOfHost("docker.io").username, "bob");
}

TEST_F(CredentialsTest, TheLongestPrefixOfARepositoryWins) {
  Write("auth.json", R"({"auths": {"quay.io": {"identitytoken": "host"},
                                   "quay.io/team": {"identitytoken": "team"},
                                   "quay.io/team/app": {"identitytoken": "app"}}})");
  EXPECT_EQ(CredentialsOfHost("quay.io/team/app").identity_token, "app");
  EXPECT_EQ(CredentialsOfHost("quay.io/team/app/part").identity_token, "app");
  EXPECT_EQ(CredentialsOfHost("quay.io/team/other").identity_token, "team");
  EXPECT_EQ(CredentialsOfHost("quay.io/teams").identity_token, "host");
  EXPECT_EQ(CredentialsOfHost("quay.io").identity_token, "host");
  EXPECT_TRUE(CredentialsOfHost("example.org/quay.io/team").empty());
}

TEST_F(CredentialsTest, TheFirstFileThatNamesTheRegistryWins) {
  Write("home/.docker/config.json", R"({"auths": {"r.example": {"auth": "Ym9iOng="}}})");
  Write("config/containers/auth.json", R"({"auths": {"r.example": {"identitytoken": "t"}}})");
  EXPECT_EQ(CredentialsOfHost("r.example").identity_token, "t");
}

TEST_F(CredentialsTest, ABrokenFileIsPassedOverAndItsTextIsNotLogged) {
  Write("auth.json", R"({"auths": {"r.example": {"auth": "c2VjcmV0OnNlY3JldA==")");
  Write("docker/config.json", R"({"auths": {"r.example": {"auth": "Ym9iOng="}}})");
  EXPECT_EQ(CredentialsOfHost("r.example").username, "bob");
  bool told = false;
  for (const std::string& line : RecentLogLines()) {
    told = told || line.find("auth.json") != std::string::npos;
    EXPECT_EQ(line.find("c2Vj"), std::string::npos);
  }
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace lamina
