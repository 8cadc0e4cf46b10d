// A registry whose images come from several hosts, each a fake server.

#include "fetch/registry_chain.h"

#include <gmock/gmock.h>

#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const std::string kManifest = R"({"schemaVersion":2})";

FakeResponse ServeManifest(const FakeRequest&) {
  FakeResponse response = Bytes(kManifest);
  response.headers.emplace_back("Content-Type", "application/vnd.oci.image.manifest.v1+json");
  response.headers.emplace_back("Docker-Content-Digest",
                                Digest::Sha256(AsBytes(kManifest)).ToString());
  return response;
}

class RegistryChainTest : public testing::Test {
 protected:
  RegistryEndpoint EndpointOf(const HttpServer& server) {
    RegistryEndpoint endpoint = OriginOf(server);
    endpoint.ns = "quay.io";
    return endpoint;
  }
  RegistryEndpoint OriginOf(const HttpServer& server) {
    RegistryEndpoint endpoint;
    endpoint.host = server.host();
    endpoint.api = server.url() + "/v2";
    endpoint.repository = "team/app";
    return endpoint;
  }

  void Start(std::vector<RegistryEndpoint> endpoints) {
    RegistryOptions options = ShortTimeouts();
    options.attempts = 2;
    options.endpoints = [endpoints](const std::string&) -> Result<std::vector<RegistryEndpoint>> {
      return endpoints;
    };
    registry_ = Registry::Create("quay.io", options);
  }

  std::vector<std::shared_ptr<RepositorySource>> Sources() {
    return registry_->Sources("team/app", Digest::Sha256(AsBytes(kManifest)));
  }

  std::shared_ptr<Registry> registry_;
};

TEST_F(RegistryChainTest, TheMirrorAnswersAndTheOriginIsNotAsked) {
  HttpServer mirror(ServeManifest);
  HttpServer origin(ServeManifest);
  Start({EndpointOf(mirror), OriginOf(origin)});
  const auto document = registry_->Repository("team/app")->FetchTag("one", Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  EXPECT_EQ(document->bytes, kManifest);
  ASSERT_EQ(mirror.requests().size(), 1u);
  EXPECT_EQ(mirror.requests()[0].target, "/v2/team/app/manifests/one?ns=quay.io");
  EXPECT_THAT(origin.requests(), IsEmpty());
}

TEST_F(RegistryChainTest, TheOriginIsTheLastResort) {
  HttpServer lacking([](const FakeRequest&) { return Failing(404, "MANIFEST_UNKNOWN"); });
  HttpServer broken([](const FakeRequest&) { return Failing(500, "UNKNOWN"); });
  HttpServer origin(ServeManifest);
  Start({EndpointOf(lacking), EndpointOf(broken), OriginOf(origin)});
  const auto document = registry_->Repository("team/app")->FetchTag("one", Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  EXPECT_EQ(lacking.requests().size(), 1u);
  EXPECT_EQ(origin.requests().size(), 1u);
  EXPECT_EQ(origin.requests()[0].target, "/v2/team/app/manifests/one");
}

TEST_F(RegistryChainTest, TheOriginsFailureCountsAndTheOthersAreTold) {
  HttpServer lacking([](const FakeRequest&) { return Failing(404, "MANIFEST_UNKNOWN"); });
  HttpServer origin([](const FakeRequest&) { return Failing(403, "DENIED"); });
  Start({EndpointOf(lacking), OriginOf(origin)});
  const auto document = registry_->Repository("team/app")->FetchTag("one", Soon());
  ASSERT_FALSE(document.has_value());
  EXPECT_EQ(document.error().code, Code::kDenied);
  EXPECT_THAT(document.error().message, HasSubstr(origin.host()));
  EXPECT_THAT(document.error().message, HasSubstr(lacking.host()));
}

TEST_F(RegistryChainTest, OnlyWhoIsTrustedSaysWhatATagIs) {
  HttpServer mirror(ServeManifest);
  HttpServer origin(ServeManifest);
  RegistryEndpoint pulling = EndpointOf(mirror);
  pulling.by_tag = false;
  Start({pulling, OriginOf(origin)});
  const auto repository = registry_->Repository("team/app");
  ASSERT_TRUE(repository->FetchTag("one", Soon()).has_value());
  ASSERT_TRUE(repository->TagDigest("one", Soon()).has_value());
  EXPECT_THAT(mirror.requests(), IsEmpty());
  const Digest digest = Digest::Sha256(AsBytes(kManifest));
  ASSERT_TRUE(repository->FetchManifest(digest, Soon()).has_value());
  EXPECT_EQ(mirror.requests().size(), 1u);
  EXPECT_EQ(Sources().size(), 2u);
}

TEST_F(RegistryChainTest, WrongBytesOfAMirrorAreNoAnswer) {
  HttpServer mirror([](const FakeRequest&) { return Bytes("{\"schemaVersion\":2} "); });
  HttpServer origin(ServeManifest);
  Start({EndpointOf(mirror), OriginOf(origin)});
  const Digest digest = Digest::Sha256(AsBytes(kManifest));
  const auto document = registry_->Repository("team/app")->FetchManifest(digest, Soon());
  ASSERT_TRUE(document.has_value()) << document.error().message;
  EXPECT_EQ(document->bytes, kManifest);
}

TEST_F(RegistryChainTest, EachHostGetsItsOwnCredentialsAndHeaders) {
  const auto wanting = [](const FakeRequest& request) {
    if (!request.Header("authorization").empty()) return ServeManifest(request);
    FakeResponse response = Failing(401, "UNAUTHORIZED");
    response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"x\"");
    return response;
  };
  HttpServer mirror(wanting);
  HttpServer elsewhere(ServeManifest);
  HttpServer origin(wanting);
  RegistryEndpoint first = EndpointOf(mirror);
  first.headers = {"X-Key: of the mirror"};
  std::vector<std::string> asked;
  RegistryOptions options = ShortTimeouts();
  options.endpoints = [&](const std::string&) -> Result<std::vector<RegistryEndpoint>> {
    return std::vector{first, OriginOf(origin)};
  };
  options.credentials = [&](const std::string& name) {
    asked.push_back(name);
    RegistryCredentials found;
    if (name.starts_with(mirror.host())) found.username = found.password = "mirror";
    return found;
  };
  registry_ = Registry::Create("quay.io", options);
  ASSERT_TRUE(registry_->Repository("team/app")->FetchTag("one", Soon()).has_value());
  EXPECT_THAT(asked, testing::ElementsAre(mirror.host() + "/team/app"));
  ASSERT_EQ(mirror.requests().size(), 2u);
  EXPECT_EQ(mirror.requests()[1].Header("x-key"), "of the mirror");
  EXPECT_THAT(origin.requests(), IsEmpty());
}

TEST_F(RegistryChainTest, HeadersOfAHostDoNotFollowARedirectElsewhere) {
  HttpServer elsewhere(ServeManifest);
  HttpServer mirror([&](const FakeRequest&) { return RedirectTo(elsewhere.url() + "/there"); });
  RegistryEndpoint endpoint = EndpointOf(mirror);
  endpoint.headers = {"X-Key: secret"};
  Start({endpoint});
  ASSERT_TRUE(registry_->Repository("team/app")->FetchTag("one", Soon()).has_value());
  ASSERT_EQ(elsewhere.requests().size(), 1u);
  EXPECT_EQ(elsewhere.requests()[0].Header("x-key"), "");
  EXPECT_EQ(elsewhere.requests()[0].target, "/there");
  EXPECT_EQ(mirror.requests()[0].Header("x-key"), "secret");
}

TEST_F(RegistryChainTest, WhatAHostRepeatsOfItsHeadersIsNotShown) {
  HttpServer mirror([&](const FakeRequest& request) {
    return Failing(403, "DENIED", "not with " + request.Header("x-key"));
  });
  RegistryEndpoint endpoint = OriginOf(mirror);
  endpoint.headers = {"X-Key: Token s3cret-word"};
  Start({endpoint});
  const auto refused = registry_->Repository("team/app")->FetchTag("one", Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("403"));
  EXPECT_THAT(refused.error().message, testing::Not(HasSubstr("s3cret")));
}

TEST_F(RegistryChainTest, AConfiguredAuthorizationGivesWayToWhatTheHostAsksFor) {
  HttpServer server([](const FakeRequest& request) {
    if (request.Header("authorization").starts_with("Basic ")) return ServeManifest(request);
    FakeResponse response = Failing(401, "UNAUTHORIZED");
    response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"x\"");
    return response;
  });
  RegistryEndpoint endpoint = OriginOf(server);
  endpoint.headers = {"Authorization: Static one"};
  RegistryOptions options = ShortTimeouts();
  options.endpoints = [&](const std::string&) -> Result<std::vector<RegistryEndpoint>> {
    return std::vector{endpoint};
  };
  options.credentials = [](const std::string&) {
    RegistryCredentials found;
    found.username = found.password = "x";
    return found;
  };
  registry_ = Registry::Create("quay.io", options);
  ASSERT_TRUE(registry_->Repository("team/app")->FetchTag("one", Soon()).has_value());
  ASSERT_EQ(server.requests().size(), 2u);
  EXPECT_EQ(server.requests()[0].Header("authorization"), "Static one");
  EXPECT_THAT(server.requests()[1].Header("authorization"), testing::StartsWith("Basic "));
}

TEST_F(RegistryChainTest, TheApiMayLieBelowAPath) {
  HttpServer harbor([](const FakeRequest& request) {
    if (request.path() == "/v2/hub/team/app/tags/list") {
      FakeResponse page = Bytes(R"({"name":"team/app","tags":["one"]})");
      if (request.query().find("last=") == std::string::npos)
        page.headers.emplace_back("Link", "</v2/hub/team/app/tags/list?last=one>; rel=\"next\"");
      else
        page.body = R"({"name":"team/app","tags":["two"]})";
      return page;
    }
    return Failing(404, "NAME_UNKNOWN");
  });
  RegistryEndpoint endpoint = OriginOf(harbor);
  endpoint.api = harbor.url() + "/v2/hub";
  Start({endpoint});
  const auto tags = registry_->Repository("team/app")->ListTags(Soon());
  ASSERT_TRUE(tags.has_value()) << tags.error().message;
  EXPECT_THAT(*tags, testing::ElementsAre("one", "two"));
  EXPECT_EQ(registry_->Repository("team/app")->origin(), harbor.url() + "/v2/hub");
}

TEST_F(RegistryChainTest, AConfigurationThatForbidsIsTheAnswerToEverything) {
  RegistryOptions options = ShortTimeouts();
  options.endpoints = [](const std::string& name) -> Result<std::vector<RegistryEndpoint>> {
    return Error{Code::kDenied, name + " is blocked by /etc/x.conf"};
  };
  registry_ = Registry::Create("quay.io", options);
  const auto repository = registry_->Repository("team/app", "one");
  EXPECT_EQ(repository->FetchTag("one", Soon()).error().message,
            "quay.io/team/app:one is blocked by /etc/x.conf");
  const auto sources = Sources();
  ASSERT_EQ(sources.size(), 1u);
  EXPECT_EQ(sources[0]->OpenBlob(DescriptorOf("x")).error().code, Code::kDenied);
  EXPECT_EQ(registry_->Ping(Soon()).error().code, Code::kDenied);
}

TEST_F(RegistryChainTest, AHostThatIsKnownToBeSilentIsNotAskedByEverybody) {
  HttpServer silent([](const FakeRequest&) {
    FakeResponse response;
    response.silent = true;
    return response;
  });
  RegistryOptions options = QuickStalls();
  options.stall_timeout = std::chrono::milliseconds(700);
  options.endpoints = [&](const std::string&) -> Result<std::vector<RegistryEndpoint>> {
    return std::vector{OriginOf(silent)};
  };
  registry_ = Registry::Create("quay.io", options);
  const auto repository = registry_->Repository("team/app");
  ASSERT_FALSE(repository->FetchTag("one", Soon()).has_value());  // all attempts
  const size_t asked = silent.requests().size();
  EXPECT_EQ(asked, 4u);
  const auto began = std::chrono::steady_clock::now();
  for (int i = 0; i < 50; ++i) {
    const auto answer = repository->FetchTag("tag" + std::to_string(i), Soon());
    ASSERT_FALSE(answer.has_value());
    EXPECT_EQ(answer.error().code, Code::kUnavailable);
    EXPECT_THAT(answer.error().message, HasSubstr(silent.host()));
  }
  // At most one a second probes, however long this takes.
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_LE(silent.requests().size(),
            asked + 2 + static_cast<size_t>(took / std::chrono::seconds(1)));
}

}  // namespace
}  // namespace lamina
