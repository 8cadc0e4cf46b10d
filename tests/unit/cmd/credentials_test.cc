#include "cmd/credentials.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

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
  // A helper that is this shell script.
  void Helper(const std::string& name, const std::string& script) {
    const std::string file = "helpers/docker-credential-" + name;
    Write(file, "#!/bin/sh\n" + script + "\n");
    ASSERT_EQ(::chmod(Path(file).c_str(), 0700), 0);
  }
  void Helpers(const std::string& list) { Write(kLastConf, "credential-helpers = " + list); }
  static bool IsWarned(const std::string& text) {
    for (const std::string& line : RecentLogLines())
      if (line.find(text) != std::string::npos) return true;
    return false;
  }

  // It wins over whatever else the machine has.
  static constexpr const char* kLastConf = "home/.config/containers/registries.conf.d/zz.conf";
  TemporaryFolder folder_;
  HelperPlaces places_{.folders = {folder_.path() + "/helpers", "/usr/bin", "/bin"}};
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

TEST_F(CredentialsTest, AKeyWithASchemeIsOneOfItsHost) {
  Write("auth.json", R"({"auths": {"https://one.example/v1/": {"identitytoken": "1"},
                                   "https://two.example:5000/v2/": {"identitytoken": "2"},
                                   "http://three.example": {"identitytoken": "3"},
                                   "https://four.example/v1/": {"identitytoken": "url"},
                                   "four.example": {"identitytoken": "plain"},
                                   "https://index.docker.io/v2/": {"identitytoken": "hub"}}})");
  EXPECT_EQ(CredentialsOfHost("one.example").identity_token, "1");
  EXPECT_EQ(CredentialsOfHost("one.example/team/app").identity_token, "1");
  EXPECT_EQ(CredentialsOfHost("two.example:5000").identity_token, "2");
  EXPECT_TRUE(CredentialsOfHost("two.example").empty());
  EXPECT_EQ(CredentialsOfHost("three.example").identity_token, "3");
  EXPECT_EQ(CredentialsOfHost("four.example").identity_token, "plain");
  EXPECT_EQ(CredentialsOfHost("docker.io/library/debian").identity_token, "hub");
  EXPECT_TRUE(CredentialsOfHost("one.example.org").empty());
}

TEST_F(CredentialsTest, ReadsPlainUsernameAndPassword) {
  Write("auth.json", R"({"auths": {"r.example": {"username": "alice", "password": "secret"},
      "both.example": {"auth": "Ym9iOng=", "username": "alice", "password": "secret"}}})");
  const RegistryCredentials found = CredentialsOfHost("r.example");
  EXPECT_EQ(found.username, "alice");
  EXPECT_EQ(found.password, "secret");
  EXPECT_EQ(CredentialsOfHost("both.example").username, "bob");
}

// [S116]
TEST_F(CredentialsTest, WhatIsWrongInAFileCostsThatMemberAlone) {
  Write("auth.json", R"({"credsStore": null, "credHelpers": {"r.example": 7},
      "auths": {"r.example/app": "c2VjcmV0OnNlY3JldA==", "null.example": null,
                "pair.example": {"auth": "c2VjcmV0", "identitytoken": ["c2VjcmV0"]},
                "r.example": {"auth": "Ym9iOng=", "email": null, "identitytoken": null}}})");
  EXPECT_EQ(CredentialsOfHost("r.example/app").username, "bob");
  EXPECT_TRUE(CredentialsOfHost("null.example").empty());
  EXPECT_TRUE(CredentialsOfHost("pair.example").empty());
  EXPECT_TRUE(IsWarned("'r.example' is no text"));
  EXPECT_TRUE(IsWarned("'r.example/app' is no object"));
  EXPECT_TRUE(IsWarned("'auth' is no user:password in base64"));
  EXPECT_FALSE(IsWarned("null.example"));
  EXPECT_FALSE(IsWarned("c2Vj"));
}

// [S116]
TEST_F(CredentialsTest, ABadListCostsThatListAlone) {
  Write("auth.json", R"({"credHelpers": [], "credsStore": 1, "auths": {"r.example":
      {"auth": "Ym9iOng="}}})");
  EXPECT_EQ(CredentialsOfHost("r.example").username, "bob");
  Write("auth.json", R"({"auths": []})");
  EXPECT_TRUE(CredentialsOfHost("r.example").empty());
}

// [S115] All but the one below /run, for which see mount.credentials.
TEST_F(CredentialsTest, TheFilesAreAskedInTheirOrder) {
  const std::vector<std::string> files{"auth.json", "run/containers/auth.json",
                                       "config/containers/auth.json", "docker/config.json",
                                       "home/.docker/config.json"};
  for (const std::string& file : files)
    Write(file, R"({"auths": {"r.example": {"identitytoken": ")" + file + R"("}}})");
  for (const std::string& file : files) {
    EXPECT_EQ(CredentialsOfHost("r.example").identity_token, file);
    ASSERT_EQ(::unlink(Path(file).c_str()), 0);
  }
  EXPECT_TRUE(CredentialsOfHost("r.example").empty());
}

TEST_F(CredentialsTest, WithoutAFolderOfConfigurationTheHomesIsRead) {
  ::unsetenv("XDG_CONFIG_HOME");
  Write("home/.config/containers/auth.json", R"({"auths": {"r.example": {"auth": "Ym9iOng="}}})");
  EXPECT_EQ(CredentialsOfHost("r.example").username, "bob");
}

// [S117]
TEST_F(CredentialsTest, HelpersOfRegistriesConfAreAskedInTheirOrder) {
  Helper("keeps", R"(printf '{"Username": "helper", "Secret": "s"}')");
  Helper("empty", "echo credentials not found in native keychain; exit 1");
  Helper("fails", "exit 3");
  Write("auth.json", R"({"auths": {"r.example": {"auth": "Ym9iOng="}}})");
  const auto user = [&] { return CredentialsOfHost("r.example", places_).username; };
  EXPECT_EQ(user(), "bob");
  Helpers(R"(["keeps", "containers-auth.json"])");
  EXPECT_EQ(user(), "helper");
  EXPECT_EQ(CredentialsOfHost("r.example", places_).found_in,
            "docker-credential-keeps of " + Path(kLastConf));
  Helpers(R"(["empty", "fails", "containers-auth.json", "keeps"])");
  EXPECT_EQ(user(), "bob");
  EXPECT_TRUE(IsWarned("docker-credential-fails"));
  Helpers(R"(["empty"])");
  EXPECT_EQ(user(), "");
  Helpers("[]");
  EXPECT_EQ(user(), "bob");
  Helpers("7");
  EXPECT_EQ(user(), "bob");
  EXPECT_TRUE(IsWarned("credential-helpers is no list"));
}

TEST_F(CredentialsTest, HelpersAreAskedForDockerHubByBothOfItsNames) {
  Helper("podman", R"(read -r server
[ "$server" = docker.io ] && printf '{"Username": "hub", "Secret": "s"}' && exit
echo credentials not found in native keychain; exit 1)");
  Write("auth.json", R"({"credsStore": "podman"})");
  EXPECT_EQ(CredentialsOfHost("docker.io/library/debian", places_).username, "hub");
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
