#include "fetch/registry_hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class RegistryHostsTest : public testing::Test {
 protected:
  void SetUp() override {
    places_.registries_conf = [this] { return std::vector{Path("registries.conf")}; };
    places_.hosts_folders = {Path("hosts")};
    places_.certs_folders = {Path("own"), Path("system")};
  }

  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  void Write(const std::string& name, const std::string& text) {
    const std::string path = Path(name);
    ASSERT_TRUE(MakeFolders(path.substr(0, path.rfind('/'))).has_value());
    ASSERT_TRUE(WriteFileAtomically(path, AsBytes(text)).has_value());
  }

  std::vector<RegistryEndpoint> Find(const std::string& reference) const {
    const auto found = RegistryHosts(places_).Find(reference);
    EXPECT_TRUE(found.has_value()) << (found ? "" : found.error().message);
    return found ? *found : std::vector<RegistryEndpoint>();
  }

  // "API REPOSITORY" of each.
  std::vector<std::string> Places(const std::string& reference) const {
    std::vector<std::string> places;
    for (const RegistryEndpoint& endpoint : Find(reference))
      places.push_back(endpoint.api + " " + endpoint.repository);
    return places;
  }

  std::string ErrorOf(const std::string& reference) const {
    const auto found = RegistryHosts(places_).Find(reference);
    return found ? "no error" : found.error().message;
  }

  TemporaryFolder folder_ = *TemporaryFolder::Create("hosts");
  RegistryPlaces places_;
};

TEST_F(RegistryHostsTest, WithoutAConfigurationTheRegistryItselfIsAsked) {
  EXPECT_THAT(Places("docker.io/library/debian:12"),
              ElementsAre("https://registry-1.docker.io/v2 library/debian"));
  EXPECT_THAT(Places("localhost:5000/a/b@sha256:00"), ElementsAre("http://localhost:5000/v2 a/b"));
  EXPECT_THAT(Places("quay.io:444"), ElementsAre("https://quay.io:444/v2 "));
  EXPECT_EQ(Find("docker.io/a")[0].host, "docker.io");
  EXPECT_EQ(Find("docker.io/a")[0].ns, "");
  EXPECT_EQ(Find("docker.io/a")[0].configured_by, "");
}

TEST_F(RegistryHostsTest, RegistriesConfRewritesNamesAndNamesMirrors) {
  Write("registries.conf", R"(
    [[registry]]
    prefix = "docker.io/library"
    location = "registry-1.docker.io/library"
    [[registry.mirror]]
    location = "mirror.example:5000/hub"
    pull-from-mirror = "digest-only")");
  Write("hosts/docker.io/hosts.toml", "[host.\"https://other.example\"]");
  EXPECT_THAT(Places("docker.io/library/debian:12"),
              ElementsAre("https://mirror.example:5000/v2 hub/debian",
                          "https://registry-1.docker.io/v2 library/debian"));
  const auto found = Find("docker.io/library/debian:12");
  EXPECT_FALSE(found[0].by_tag);
  EXPECT_TRUE(found[1].by_tag);
  EXPECT_EQ(found[0].host, "mirror.example:5000");
  EXPECT_EQ(found[0].ns, "");
  EXPECT_EQ(found[0].configured_by, Path("registries.conf"));
  // Where no prefix fits, hosts.toml has its say.
  EXPECT_EQ(Find("docker.io/team/app")[0].api, "https://other.example/v2");
}

TEST_F(RegistryHostsTest, InsecureMeansAnyCertificateAndThenNone) {
  Write("registries.conf", "[[registry]]\nlocation = \"lab.example\"\ninsecure = true");
  const auto found = Find("lab.example/a");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].api, "https://lab.example/v2");
  EXPECT_TRUE(found[0].tls.skip_verify);
  EXPECT_FALSE(found[0].insecure);
  EXPECT_EQ(found[1].api, "http://lab.example/v2");
  EXPECT_TRUE(found[1].insecure);
  places_.insecure = {"lab.example", "plain.example"};
  EXPECT_THAT(Places("lab.example/a"), ElementsAre("http://lab.example/v2 a"));
  EXPECT_THAT(Places("plain.example/a"), ElementsAre("http://plain.example/v2 a"));
}

TEST_F(RegistryHostsTest, WhatIsBlockedOrWrongIsAnErrorThatNamesTheFile) {
  Write("registries.conf", "[[registry]]\nlocation = \"evil.example\"\nblocked = true");
  EXPECT_THAT(ErrorOf("evil.example/a"), HasSubstr("is blocked by " + Path("registries.conf")));
  EXPECT_THAT(ErrorOf("good.example/a"), "no error");
  Write("registries.conf", "[[registry]]\nlocation = ");
  EXPECT_THAT(ErrorOf("good.example/a"), HasSubstr(Path("registries.conf") + ": line 2"));
}

TEST_F(RegistryHostsTest, HostsTomlNamesMirrorsThatStandForTheRegistry) {
  Write("hosts/docker.io/hosts.toml", R"(
    server = "https://registry-1.docker.io"
    [host."http://127.0.0.1:30020"]
      capabilities = ["pull"]
    [host."https://harbor.example/v2/hub"]
      override_path = true)");
  EXPECT_THAT(Places("docker.io/library/debian"),
              ElementsAre("http://127.0.0.1:30020/v2 library/debian",
                          "https://harbor.example/v2/hub library/debian",
                          "https://registry-1.docker.io/v2 library/debian"));
  const auto found = Find("docker.io/library/debian");
  EXPECT_EQ(found[0].ns, "docker.io");
  EXPECT_FALSE(found[0].by_tag);
  EXPECT_EQ(found[1].ns, "docker.io");
  EXPECT_EQ(found[2].ns, "");
  EXPECT_EQ(found[2].host, "docker.io");
}

TEST_F(RegistryHostsTest, FoldersAreFoundByEveryNameOfTheHostAndThenByDefault) {
  Write("hosts/_default/hosts.toml", "[host.\"https://default.example\"]");
  EXPECT_THAT(Places("quay.io:444/a"),
              ElementsAre("https://default.example/v2 a", "https://quay.io:444/v2 a"));
  Write("hosts/quay.io:444/hosts.toml", "[host.\"https://colon.example\"]");
  EXPECT_EQ(Find("quay.io:444/a")[0].host, "colon.example");
  Write("hosts/quay.io_444_/hosts.toml", "[host.\"https://line.example\"]");
  EXPECT_EQ(Find("quay.io:444/a")[0].host, "line.example");
}

TEST_F(RegistryHostsTest, AServerThatMayNotBePulledFromIsLeftOut) {
  Write("hosts/quay.io/hosts.toml",
        "capabilities = [\"push\"]\n[host.\"https://mirror.example\"]\n");
  EXPECT_THAT(Places("quay.io/a"), ElementsAre("https://mirror.example/v2 a"));
  Write("hosts/quay.io/hosts.toml", "capabilities = [\"push\"]");
  EXPECT_THAT(ErrorOf("quay.io/a"), HasSubstr("lets no host be asked"));
}

TEST_F(RegistryHostsTest, CertificatesAreThoseOfTheFirstFolderThatKnowsTheHost) {
  Write("system/localhost:5000/ca.crt", "of the system");
  EXPECT_THAT(Find("localhost:5000/a")[0].tls.ca_files,
              ElementsAre(Path("system/localhost:5000/ca.crt")));
  Write("own/localhost:5000/b.crt", "b");
  Write("own/localhost:5000/a.crt", "a");
  Write("own/localhost:5000/client.cert", "c");
  Write("own/localhost:5000/client.key", "k");
  const RegistryEndpoint found = Find("localhost:5000/a")[0];
  EXPECT_EQ(found.api, "https://localhost:5000/v2");  // who has certificates speaks TLS
  EXPECT_THAT(found.tls.ca_files,
              ElementsAre(Path("own/localhost:5000/a.crt"), Path("own/localhost:5000/b.crt")));
  EXPECT_EQ(found.tls.client_cert, Path("own/localhost:5000/client.cert"));
  EXPECT_EQ(found.tls.client_key, Path("own/localhost:5000/client.key"));
  EXPECT_THAT(Find("localhost:5001/a")[0].tls.ca_files, IsEmpty());
  Write("own/localhost:5000/a.crt", "a new one");
  EXPECT_NE(Find("localhost:5000/a")[0].tls.stamp, found.tls.stamp);
  Write("own/localhost:5000/lonely.cert", "c");
  EXPECT_THAT(ErrorOf("localhost:5000/a"), HasSubstr("lonely.key"));
}

TEST_F(RegistryHostsTest, TheFirstFolderOfARegistryCountsAlsoWithoutAHostsToml) {
  Write("hosts/_default/hosts.toml", "[host.\"https://default.example\"]");
  Write("hosts/localhost_5000_/ca.crt", "a");
  const auto found = Find("localhost:5000/a");
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].api, "https://localhost:5000/v2");
  EXPECT_THAT(found[0].tls.ca_files, ElementsAre(Path("hosts/localhost_5000_/ca.crt")));
}

TEST_F(RegistryHostsTest, ARegistryKeepsItsNameAndCertificatesInHostsToml) {
  Write("hosts/reg.example:443/hosts.toml",
        "server = \"https://reg.example:443\"\n[host.\"http://mirror\"]");
  Write("own/reg.example:443/ca.crt", "a");
  const auto found = Find("reg.example:443/a");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].host, "mirror");
  EXPECT_EQ(found[0].ns, "reg.example:443");
  EXPECT_EQ(found[1].host, "reg.example:443");
  EXPECT_EQ(found[1].ns, "");
  EXPECT_THAT(found[1].tls.ca_files, ElementsAre(Path("own/reg.example:443/ca.crt")));
}

TEST_F(RegistryHostsTest, AMirrorThatCannotBeUsedLeavesTheOthers) {
  Write("own/bad.example/client.cert", "c");
  Write("registries.conf",
        "[[registry]]\nlocation = \"quay.io\"\nmirror = [{location = \"bad.example\"}, "
        "{location = \"good.example\"}]");
  EXPECT_THAT(Places("quay.io/a"),
              ElementsAre("https://good.example/v2 a", "https://quay.io/v2 a"));
}

TEST_F(RegistryHostsTest, ACertificateThatIsNotThereIsNamed) {
  Write("hosts/quay.io/hosts.toml", "[host.\"https://mirror.example\"]\nca = \"absent.crt\"");
  EXPECT_THAT(ErrorOf("quay.io/a"), HasSubstr(Path("hosts/quay.io/absent.crt")));
  EXPECT_EQ(RegistryHosts(places_).Find("quay.io/a").error().code, Code::kInvalid);
}

}  // namespace
}  // namespace lamina
