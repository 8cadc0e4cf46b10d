#include "fetch/hosts_toml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kFile = "/etc/hosts.d/docker.io/hosts.toml";

HostsToml Parsed(std::string_view text) {
  auto parsed = ParseHostsToml(text, kFile);
  EXPECT_TRUE(parsed.has_value()) << (parsed ? "" : parsed.error().message);
  return parsed ? *parsed : HostsToml();
}

std::string ErrorOf(std::string_view text) {
  const auto parsed = ParseHostsToml(text, kFile);
  return parsed ? "no error" : parsed.error().message;
}

TEST(HostsTomlTest, HostsStandInTheOrderOfTheFile) {
  const HostsToml parsed = Parsed(R"(
    server = "https://registry-1.docker.io"
    [host."https://z.example"]
    [host."https://a.example"]
    [host."http://m.example:5000"])");
  ASSERT_EQ(parsed.hosts.size(), 3u);
  EXPECT_EQ(parsed.hosts[0].url, "https://z.example");
  EXPECT_EQ(parsed.hosts[1].url, "https://a.example");
  EXPECT_EQ(parsed.hosts[2].url, "http://m.example:5000");
  EXPECT_EQ(parsed.server.url, "https://registry-1.docker.io");
  EXPECT_TRUE(parsed.server.resolve && parsed.server.pull);
}

TEST(HostsTomlTest, TellsEverythingOfAHost) {
  const HostsToml parsed = Parsed(R"(
    [host."mirror.example/v2/hub"]
      capabilities = ["pull"]
      ca = ["ca.crt", "/abs/other.pem"]
      client = [["client.cert", "client.key"], ["second.cert", ""]]
      skip_verify = true
      override_path = true
      dial_timeout = "1m1.5s"
      [host."mirror.example/v2/hub".header]
        x-one = "1"
        x-two = ["2", "3"])");
  ASSERT_EQ(parsed.hosts.size(), 1u);
  const HostsTomlHost& host = parsed.hosts[0];
  EXPECT_EQ(ApiUrl(host), "https://mirror.example/v2/hub");
  EXPECT_TRUE(host.pull);
  EXPECT_FALSE(host.resolve);
  EXPECT_THAT(host.tls.ca_files, ElementsAre("/etc/hosts.d/docker.io/ca.crt", "/abs/other.pem"));
  EXPECT_EQ(host.tls.client_cert, "/etc/hosts.d/docker.io/client.cert");
  EXPECT_EQ(host.tls.client_key, "/etc/hosts.d/docker.io/client.key");
  EXPECT_TRUE(host.tls.skip_verify);
  EXPECT_EQ(host.connect_timeout, std::chrono::milliseconds(61500));
  EXPECT_THAT(host.headers, ElementsAre("x-one: 1", "x-two: 2", "x-two: 3"));
}

TEST(HostsTomlTest, TheApiIsBelowV2UnlessThePathSaysOtherwise) {
  const auto api = [](const std::string& url, bool override_path) {
    HostsTomlHost host;
    host.url = url;
    host.override_path = override_path;
    return ApiUrl(host);
  };
  EXPECT_EQ(api("https://a.example", false), "https://a.example/v2");
  EXPECT_EQ(api("https://a.example", true), "https://a.example/v2");
  EXPECT_EQ(api("https://a.example/p", false), "https://a.example/p/v2");
  EXPECT_EQ(api("https://a.example/p", true), "https://a.example/p");
  EXPECT_EQ(api("https://a.example/p/v2", false), "https://a.example/p/v2");
}

TEST(HostsTomlTest, OneTextStandsForAListOfOne) {
  const HostsToml parsed =
      Parsed("ca = \"ca.pem\"\nclient = \"both.pem\"\n[host.\"https://a.example\"]\n");
  EXPECT_THAT(parsed.server.tls.ca_files, ElementsAre("/etc/hosts.d/docker.io/ca.pem"));
  EXPECT_EQ(parsed.server.tls.client_cert, "/etc/hosts.d/docker.io/both.pem");
  EXPECT_EQ(parsed.server.tls.client_key, "");
  EXPECT_TRUE(parsed.server.url.empty());
}

TEST(HostsTomlTest, WhatIsWrongIsNamed) {
  EXPECT_THAT(ErrorOf("="), HasSubstr(std::string(kFile) + ": line 1"));
  EXPECT_THAT(ErrorOf("host = 1"), HasSubstr("host is no table"));
  EXPECT_THAT(ErrorOf("server = \"ftp://a.example\""), HasSubstr("ftp"));
  EXPECT_THAT(ErrorOf("server = \"https://user:secret@a.example\""),
              testing::Not(HasSubstr("no error")));
  EXPECT_THAT(ErrorOf("[host.\"https://a.example\"]\ncapabilities = [\"fly\"]"),
              HasSubstr("line 1: capabilities is 'fly'"));
  EXPECT_THAT(ErrorOf("[host.\"https://a.example\"]\nskip_verify = 1"), HasSubstr("skip_verify"));
  EXPECT_THAT(ErrorOf("dial_timeout = \"soon\""), HasSubstr("no duration"));
  EXPECT_THAT(ErrorOf("ca = [1]"), HasSubstr("ca is no list of texts"));
  EXPECT_THAT(ErrorOf("header = 1"), HasSubstr("header is no table"));
}

}  // namespace
}  // namespace lamina
