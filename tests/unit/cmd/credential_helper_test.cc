#include "cmd/credential_helper.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/file.h"
#include "base/log.h"
#include "base/user.h"
#include "cmd/credentials.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CredentialHelperTest : public ::testing::Test {
 protected:
  CredentialHelperTest()
      : folder_(std::move(TemporaryFolder::Create("lamina-helper")).value()),
        places_{{folder_.path(), "/usr/bin", "/bin"}, {std::chrono::milliseconds(5000), 10'000}} {}

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }
  // docker-credential-NAME does this.
  void Helper(const std::string& name, const std::string& script) {
    const std::string path = Path("docker-credential-" + name);
    ASSERT_TRUE(WriteFileAtomically(path, AsBytes("#!/bin/sh\n" + script + "\n")));
    ASSERT_EQ(::chmod(path.c_str(), 0755), 0);
  }
  Result<RegistryCredentials> Ask(const std::string& name) {
    return AskCredentialHelper(name, "r.example", places_);
  }
  void ExpectError(const std::string& name, Code code, const std::string& words) {
    const auto answer = Ask(name);
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, code);
    EXPECT_THAT(answer.error().message, HasSubstr(words));
    EXPECT_THAT(answer.error().message, Not(HasSubstr("hidden")));
  }

  TemporaryFolder folder_;
  HelperPlaces places_;
};

TEST_F(CredentialHelperTest, GivesTheServerAndTakesUserAndSecret) {
  Helper("a.b_c-1", R"(read server; echo "{\"Username\":\"$1\",\"Secret\":\"$server\"}")");
  const auto found = Ask("a.b_c-1");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->username, "get");
  EXPECT_EQ(found->password, "r.example");
  EXPECT_EQ(found->identity_token, "");
}

TEST_F(CredentialHelperTest, ATokenIsAnIdentityToken) {
  Helper("t", R"(echo '{"Username":"<token>","Secret":"abc"}')");
  const auto found = Ask("t");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->identity_token, "abc");
  EXPECT_TRUE(found->password.empty());
}

TEST_F(CredentialHelperTest, KeepingNothingIsNoError) {
  Helper("none", "echo 'credentials not found in native keychain'; exit 1");
  const auto found = Ask("none");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_TRUE(found->empty());
}

TEST_F(CredentialHelperTest, WhatFailsIsAnErrorWithoutItsAnswer) {
  Helper("fails", "echo hidden; echo hidden >&2; exit 3");
  ExpectError("fails", Code::kDenied, "docker-credential-fails ended with 3");
  Helper("killed", "kill -9 $$");
  ExpectError("killed", Code::kDenied, "ended with 137");
  Helper("garbage", "echo '{\"Username\": \"hidden\"'");
  ExpectError("garbage", Code::kInvalid, "no Username or no Secret");
  Helper("list", "echo '[\"hidden\"]'");
  ExpectError("list", Code::kInvalid, "no Username or no Secret");
  Helper("number", R"(echo '{"Username":"hidden","Secret":1}')");
  ExpectError("number", Code::kInvalid, "no Username or no Secret");
  Helper("long", "yes hidden");
  ExpectError("long", Code::kLimit, "more than 10000 bytes");
  ExpectError("absent", Code::kNotFound, "there is no docker-credential-absent");
}

TEST_F(CredentialHelperTest, ANameThatLeadsElsewhereIsRefused) {
  Helper("x", "echo '{\"Username\":\"u\",\"Secret\":\"s\"}'");
  for (const char* name : {"", "../x", "x y", "x;id", "$x", "x/../x"})
    ExpectError(name, Code::kInvalid, "is no name of a credential helper");
}

TEST_F(CredentialHelperTest, HasAnEnvironmentAndDescriptorsOfItsOwn) {
  ::setenv("LAMINA_SECRET_OF_A_TEST", "x", 1);
  ::setenv("LD_PRELOAD_OF_A_TEST", "x", 1);
  ASSERT_TRUE(WriteFileAtomically(Path("marker"), {}));
  const UniqueFd open(::open(Path("marker").c_str(), O_RDONLY));  // without O_CLOEXEC
  Helper("env", R"(names=$(env | grep OF_A_TEST); fds=$(ls -l /proc/$$/fd | grep -o marker)
echo "{\"Username\":\"u$names\",\"Secret\":\"[$fds][$PATH]\"}")");
  const auto found = Ask("env");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->username, "u");
  EXPECT_EQ(found->password, "[][" + folder_.path() + ":/usr/bin:/bin]");
}

TEST_F(CredentialHelperTest, OneThatHangsIsEndedWithWhatItStarted) {
  places_.bounds.time = std::chrono::milliseconds(500);
  Helper("hangs", "sleep 1000 & echo $! > " + Path("child") + "; wait");
  ExpectError("hangs", Code::kTimeout, "has not answered in time");
  const auto child = ReadWholeFile(Path("child"), 100);
  ASSERT_TRUE(child);
  const std::string stat = "/proc/" + child->substr(0, child->find('\n')) + "/stat";
  for (int i = 0; i < 500 && FileExists(stat); ++i) {
    const auto text = ReadWholeFile(stat, 4096);  // a zombie until its new parent takes it
    if (!text || text->find(") Z ") != std::string::npos) break;
    ::usleep(10'000);
  }
  const auto text = ReadWholeFile(stat, 4096);
  EXPECT_TRUE(!text || text->find(") Z ") != std::string::npos) << *text;
}

TEST_F(CredentialHelperTest, OneThatGivesItsOutputAwayIsEndedToo) {
  places_.bounds.time = std::chrono::milliseconds(500);
  Helper("closes", "exec 1>&-; sleep 1000");
  ExpectError("closes", Code::kTimeout, "has not ended in time");
}

TEST_F(CredentialHelperTest, WithoutHomeItIsToldTheUsersListedHome) {
  const std::string home = EnvironmentOf("HOME");
  ::unsetenv("HOME");
  Helper("home", R"(echo "{\"Username\":\"$HOME\",\"Secret\":\"s\"}")");
  const auto found = AskCredentialHelper("home", "r.example", places_);
  ::setenv("HOME", home.c_str(), 1);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->username, ::getpwuid(::geteuid())->pw_dir);
}

class HelperOfFileTest : public CredentialHelperTest {
 protected:
  HelperOfFileTest() {
    for (const char* name : {"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "HOME"})
      ::setenv(name, Path("none").c_str(), 1);
    ::setenv("REGISTRY_AUTH_FILE", Path("auth.json").c_str(), 1);
    Helper("one", R"(read s; echo "{\"Username\":\"one\",\"Secret\":\"$s\"}")");
    Helper("all", R"(read s; echo "{\"Username\":\"all\",\"Secret\":\"$s\"}")");
    Helper("none", "echo 'credentials not found'; exit 1");
    Helper("fails", "exit 1");
  }
  RegistryCredentials Find(const std::string& file, const std::string& name) {
    EXPECT_TRUE(WriteFileAtomically(Path("auth.json"), AsBytes(file)));
    return CredentialsOfHost(name, places_);
  }
};

TEST_F(HelperOfFileTest, TheHelperOfTheRegistryThenTheOneForAll) {
  const std::string file =
      R"({"credHelpers": {"r.example:5000": "one"}, "credsStore": "all", "auths": {"r.example": {"auth": "Ym9iOng="}}})";
  EXPECT_EQ(Find(file, "r.example:5000/team/app").username, "one");
  EXPECT_EQ(Find(file, "r.example:5000/team/app").password, "r.example:5000");
  EXPECT_EQ(Find(file, "r.example/team/app").username, "all");
}

TEST_F(HelperOfFileTest, DockerHubHasItsOldName) {
  const auto found =
      Find(R"({"credHelpers": {"https://index.docker.io/v1/": "one"}})", "docker.io");
  EXPECT_EQ(found.username, "one");
  EXPECT_EQ(found.password, "https://index.docker.io/v1/");
}

TEST_F(HelperOfFileTest, WhereTheHelperHasNothingTheFileCounts) {
  const std::string auths = R"(, "auths": {"r.example": {"auth": "Ym9iOng="}}})";
  EXPECT_EQ(Find(R"({"credsStore": "none")" + auths, "r.example").username, "bob");
  EXPECT_EQ(Find(R"({"credsStore": "fails")" + auths, "r.example").username, "bob");
  EXPECT_THAT(RecentLogLines().back(), HasSubstr("no credentials for r.example by the helper"));
}

}  // namespace
}  // namespace lamina
