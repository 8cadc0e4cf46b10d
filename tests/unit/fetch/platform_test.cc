#include "fetch/platform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/fetch/oci_tools.h"

namespace lamina {
namespace {

using ::testing::HasSubstr;

std::string Normal(std::string_view text) {
  const auto platform = Platform::Parse(text);
  return platform ? platform->ToString() : "error";
}

// The platforms of `offered` that run where `wanted` is asked, best first.
std::vector<std::string> Runs(std::string_view wanted, std::vector<std::string> offered) {
  const auto match = [&](const std::string& text) {
    return PlatformMatch(*Platform::Parse(wanted), *Platform::Parse(text));
  };
  std::erase_if(offered, [&](const std::string& text) { return match(text) == 0; });
  std::stable_sort(offered.begin(), offered.end(),
                   [&](const auto& a, const auto& b) { return match(a) > match(b); });
  return offered;
}

using Names = std::vector<std::string>;

TEST(PlatformTest, ReadsWhatUsersWrite) {
  EXPECT_EQ(Normal("linux/amd64"), "linux/amd64");
  EXPECT_EQ(Normal("arm64"), "linux/arm64");
  EXPECT_EQ(Normal("Linux/AArch64"), "linux/arm64");
  EXPECT_EQ(Normal("linux/x86_64"), "linux/amd64");
  EXPECT_EQ(Normal("i686"), "linux/386");
  EXPECT_EQ(Normal("armhf"), "linux/arm/v7");
  EXPECT_EQ(Normal("linux/armel"), "linux/arm/v6");
  EXPECT_EQ(Normal("linux/arm/6"), "linux/arm/v6");
  EXPECT_EQ(Normal("windows/amd64"), "windows/amd64");
  EXPECT_EQ(Normal("macos/arm64"), "darwin/arm64");
  EXPECT_EQ(Normal("linux/amd64/v3"), "linux/amd64/v3");
}

TEST(PlatformTest, ABaselineHasOneSpelling) {
  EXPECT_EQ(*Platform::Parse("linux/arm64/v8"), *Platform::Parse("arm64"));
  EXPECT_EQ(*Platform::Parse("linux/arm64/v8.0"), *Platform::Parse("arm64"));
  EXPECT_EQ(*Platform::Parse("linux/amd64/v1"), *Platform::Parse("amd64"));
  EXPECT_EQ(*Platform::Parse("linux/arm"), *Platform::Parse("linux/arm/v7"));
}

TEST(PlatformTest, RefusesWhatIsNoPlatform) {
  const std::string long_name(65, 'a');
  for (const std::string text : {"", "/", "linux/", "/amd64", "linux//v7", "linux/arm/v7/x", "vax",
                                 "a b/c", "linux/arm\n64", "linux/\xc3\xa9", "linux/am:d64"})
    EXPECT_FALSE(Platform::Parse(text).has_value()) << text;
  EXPECT_FALSE(Platform::Parse("linux/" + long_name).has_value());
  EXPECT_THAT(Platform::Parse("linux/\x1b[31m").error().message, HasSubstr("\\x1b"));
}

TEST(PlatformTest, TheHostIsWhatDebianCallsIt) {
  std::string debian = RunTool("dpkg --print-architecture");
  debian.resize(debian.find('\n'));
  EXPECT_EQ(Platform::Host(), *Platform::Parse("linux/" + debian));
  EXPECT_EQ(*Platform::Parse("linux"), Platform::Host());
}

TEST(PlatformTest, AnArmCoreRunsOlderOnes) {
  const Names all = {"linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm/v8", "linux/arm64"};
  EXPECT_EQ(Runs("linux/arm/v7", all), (Names{"linux/arm/v7", "linux/arm/v6", "linux/arm/v5"}));
  EXPECT_EQ(Runs("linux/arm/v6", all), (Names{"linux/arm/v6", "linux/arm/v5"}));
  EXPECT_EQ(Runs("linux/arm/v8", all),
            (Names{"linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"}));
  EXPECT_EQ(Runs("linux/arm/v5", {"linux/arm/v4", "linux/arm/v5"}), Names{"linux/arm/v5"});
}

TEST(PlatformTest, Arm64DoesNotRunArmUnlessAsked) {
  EXPECT_EQ(Runs("arm64", {"linux/arm/v7", "linux/arm/v8", "linux/arm64/v8"}),
            Names{"linux/arm64/v8"});
  EXPECT_EQ(Runs("linux/arm/v7", {"linux/arm64", "linux/arm/v7"}), Names{"linux/arm/v7"});
}

TEST(PlatformTest, Arm64VersionsIncludeOlderOnes) {
  EXPECT_EQ(Runs("arm64", {"linux/arm64/v8.1", "linux/arm64/v9", "linux/arm64"}),
            Names{"linux/arm64"});
  EXPECT_EQ(Runs("linux/arm64/v8.2", {"linux/arm64", "linux/arm64/v8.1", "linux/arm64/v8.2"}),
            (Names{"linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64"}));
  EXPECT_EQ(Runs("linux/arm64/v9", {"linux/arm64", "linux/arm64/v8.5", "linux/arm64/v8.6",
                                    "linux/arm64/v9", "linux/arm64/v9.1"}),
            (Names{"linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64"}));
}

TEST(PlatformTest, Amd64LevelsIncludeLowerOnesAnd386IsNeverChosen) {
  const Names all = {"linux/386", "linux/amd64", "linux/amd64/v2", "linux/amd64/v3",
                     "linux/amd64/v4"};
  EXPECT_EQ(Runs("linux/amd64/v3", all),
            (Names{"linux/amd64/v3", "linux/amd64/v2", "linux/amd64"}));
  EXPECT_EQ(Runs("amd64", all), Names{"linux/amd64"});
  EXPECT_EQ(Runs("linux/386", all), Names{"linux/386"});
}

TEST(PlatformTest, OperatingSystemsDoNotMix) {
  EXPECT_EQ(PlatformMatch(*Platform::Parse("linux/amd64"), *Platform::Parse("windows/amd64")), 0);
}

TEST(PlatformTest, UnknownMatchesNothing) {
  const Platform unknown{"unknown", "unknown", "", "", {}};
  EXPECT_EQ(PlatformMatch(unknown, unknown), 0);
  EXPECT_EQ(PlatformMatch(Platform::Host(), unknown), 0);
  EXPECT_EQ(PlatformMatch({}, {}), 0);
}

TEST(PlatformTest, OddVariantsMatchOnlyThemselves) {
  const Platform wanted{"linux", "arm64", "v8", "", {}};
  for (const char* variant : {"v", "v8.", "v8.x", "v88", "w8", "v8.1.1", "\xff", "v-8"})
    EXPECT_EQ(PlatformMatch(wanted, {"linux", "arm64", variant, "", {}}), 0) << variant;
  EXPECT_GT(
      PlatformMatch({"linux", "riscv64", "rva22", "", {}}, {"linux", "riscv64", "rva22", "", {}}),
      0);
  EXPECT_EQ(PlatformMatch({"linux", "riscv64", "", "", {}}, {"linux", "riscv64", "rva22", "", {}}),
            0);
}

}  // namespace
}  // namespace lamina
