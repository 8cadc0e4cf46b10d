// Manifests, small blobs, lists, redirects and errors of a registry against a fake server.

#include "fetch/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fetch/registry_hosts.h"
#include "fetch/registry_session.h"
#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const char* const kManifestType = "application/vnd.oci.image.manifest.v1+json";

FakeResponse Manifest(const std::string& bytes, const std::string& digest = "") {
  FakeResponse response = Bytes(bytes);
  response.headers = {{"Content-Type", kManifestType}};
  if (!digest.empty()) response.headers.emplace_back("Docker-Content-Digest", digest);
  return response;
}

TEST(RegistryTest, FetchesATagWithTheDigestOfItsBytes) {
  const std::string bytes = R"({"schemaVersion":2})";
  const std::string digest = Digest::Sha256(AsBytes(bytes)).ToString();
  for (const std::string& claim : {digest, std::string()}) {
    FakeRegistry fake([&](const FakeRequest&) { return Manifest(bytes, claim); });
    const auto document = fake.repository()->FetchTag("v1.0", Soon());
    ASSERT_TRUE(document.has_value());
    EXPECT_EQ(document->bytes, bytes);
    EXPECT_EQ(document->digest.ToString(), digest);
    EXPECT_EQ(document->media_type, kManifestType);
    const FakeRequest request = fake.server.requests().at(0);
    EXPECT_EQ(request.target, "/v2/team/app/manifests/v1.0");
    for (const std::string& type : ManifestMediaTypes())
      EXPECT_THAT(request.Header("accept"), HasSubstr(type));
  }
}

TEST(RegistryTest, TellsTheDigestOfATagByAHead) {
  const std::string digest = Digest::Sha256(AsBytes("{}")).ToString();
  FakeRegistry fake([&](const FakeRequest&) { return Manifest("", digest); });
  const auto found = fake.repository()->TagDigest("v1", Soon());
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->ToString(), digest);
  const FakeRequest request = fake.server.requests().at(0);
  EXPECT_EQ(request.method, "HEAD");
  EXPECT_EQ(request.target, "/v2/team/app/manifests/v1");
  EXPECT_THAT(request.Header("accept"), HasSubstr(kManifestType));
}

TEST(RegistryTest, AHeadThatSaysNothingOfTheDigestIsNoAnswer) {
  for (const char* claim : {"", "sha256:x", "nonsense"}) {
    FakeRegistry fake([&](const FakeRequest&) { return Manifest("", claim); });
    const auto found = fake.repository()->TagDigest("v1", Soon());
    ASSERT_TRUE(found.has_value()) << found.error().message;
    EXPECT_FALSE(found->has_value());
  }
  FakeRegistry refusing([](const FakeRequest&) { return Failing(405, "UNSUPPORTED"); });
  const auto refused = refusing.repository()->TagDigest("v1", Soon());
  ASSERT_TRUE(refused.has_value()) << refused.error().message;
  EXPECT_FALSE(refused->has_value());
  FakeRegistry lacking([](const FakeRequest&) { return Failing(404, "MANIFEST_UNKNOWN"); });
  EXPECT_EQ(lacking.repository()->TagDigest("v1", Soon()).error().code, Code::kNotFound);
  EXPECT_EQ(lacking.repository()->TagDigest("no tag", Soon()).error().code, Code::kInvalid);
}

TEST(RegistryTest, ASha512ClaimIsCheckedAndKept) {
  const std::string bytes = "{}";
  const Digest digest = Digest::Of(AsBytes(bytes), Digest::Algorithm::kSha512);
  FakeRegistry fake([&](const FakeRequest&) { return Manifest(bytes, digest.ToString()); });
  const auto document = fake.repository()->FetchTag("a", Soon());
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->digest, digest);
}

TEST(RegistryTest, BytesThatAreNotTheDigestsAreFetchedTwiceAgainAndThenCorrupt) {
  const std::string other = Digest::Sha256(AsBytes("other")).ToString();
  FakeRegistry fake([&](const FakeRequest&) { return Manifest("{}", other); });
  const auto tagged = fake.repository()->FetchTag("a", Soon());
  ASSERT_FALSE(tagged.has_value());
  EXPECT_EQ(tagged.error().code, Code::kCorrupt);
  EXPECT_EQ(fake.server.requests().size(), 3u);
  const auto named = fake.repository()->FetchManifest(*Digest::Parse(other), Soon());
  ASSERT_FALSE(named.has_value());
  EXPECT_EQ(named.error().code, Code::kCorrupt);
  EXPECT_THAT(named.error().message, HasSubstr(fake.server.host()));
  EXPECT_EQ(fake.server.requests().size(), 6u);
  FakeRegistry nonsense([&](const FakeRequest&) { return Manifest("{}", "sha256:x"); });
  EXPECT_EQ(nonsense.repository()->FetchTag("a", Soon()).error().code, Code::kCorrupt);
}

TEST(RegistryTest, AManifestThatIsRightTheSecondTimeIsTaken) {
  std::atomic<int> calls{0};
  FakeRegistry fake([&](const FakeRequest&) { return Manifest(calls++ == 0 ? "{ }" : "{}"); });
  const auto document = fake.repository()->FetchManifest(Digest::Sha256(AsBytes("{}")), Soon());
  ASSERT_TRUE(document.has_value());
  EXPECT_EQ(document->bytes, "{}");
}

TEST(RegistryTest, AManifestBeyondTheLimitIsRefusedWithoutReadingIt) {
  for (const bool length : {true, false}) {
    FakeRegistry fake([&](const FakeRequest&) {
      FakeResponse response = Manifest(std::string(5u << 20, ' '));
      response.content_length = length;
      return response;
    });
    const auto document = fake.repository()->FetchTag("a", Soon());
    ASSERT_FALSE(document.has_value());
    EXPECT_EQ(document.error().code, Code::kLimit);
    EXPECT_THAT(document.error().message, HasSubstr("4.0 MiB"));
    EXPECT_EQ(fake.server.requests().size(), 1u);
  }
}

TEST(RegistryTest, HeadersBeyondTheLimitAreRefused) {
  for (const size_t size : {1000u, 70u}) {
    FakeRegistry fake([&](const FakeRequest&) {
      FakeResponse response = Manifest("{}");
      for (int i = 0; i < 1000; ++i)
        response.headers.emplace_back("X-" + std::to_string(i), std::string(size, 'a'));
      return response;
    });
    const auto document = fake.repository()->FetchTag("a", Soon());
    ASSERT_FALSE(document.has_value());
    EXPECT_EQ(document.error().code, Code::kLimit);
    EXPECT_EQ(fake.server.requests().size(), 1u);
  }
}

TEST(RegistryTest, SmallBlobsAreVerifiedAgainstSizeDigestAndLimit) {
  const std::string config = R"({"os":"linux"})";
  FakeRegistry fake([&](const FakeRequest&) { return Bytes(config); });
  Descriptor descriptor = DescriptorOf(config);
  EXPECT_EQ(*fake.repository()->FetchSmallBlob(descriptor, 100, Soon()), config);
  const auto limited = fake.repository()->FetchSmallBlob(descriptor, 5, Soon());
  EXPECT_EQ(limited.error().code, Code::kLimit);
  EXPECT_EQ(fake.server.requests().size(), 1u);
  descriptor.size += 1;
  EXPECT_EQ(fake.repository()->FetchSmallBlob(descriptor, 100, Soon()).error().code,
            Code::kCorrupt);
  const Descriptor other = DescriptorOf(R"({"os":"Linux"})");
  EXPECT_EQ(fake.repository()->FetchSmallBlob(other, 100, Soon()).error().code, Code::kCorrupt);
}

TEST(RegistryTest, NamesAreCheckedBeforeTheyReachAUrl) {
  FakeRegistry fake([&](const FakeRequest&) { return Bytes("{}"); });
  for (const char* path : {"../etc", "Team/App", "a//b", "", "a?b", "a/..", "a%2fb"}) {
    const auto repository = fake.registry->Repository(path);
    EXPECT_EQ(repository->FetchTag("a", Soon()).error().code, Code::kInvalid) << path;
    EXPECT_EQ(repository->ListTags(Soon()).error().code, Code::kInvalid) << path;
    EXPECT_EQ(repository->OpenBlob(DescriptorOf("x")).error().code, Code::kInvalid) << path;
  }
  for (const char* tag : {"a/b", "..", "", "a b", "a?x", "a#b"})
    EXPECT_EQ(fake.repository()->FetchTag(tag, Soon()).error().code, Code::kInvalid) << tag;
  for (const char* host : {"", "a b", "a/b", "host:port", "u@h.example"}) {
    const auto registry = Registry::Create(host, ShortTimeouts());
    EXPECT_EQ(registry->Ping(Soon()).error().code, Code::kInvalid) << host;
    EXPECT_EQ(registry->Repository("a")->FetchTag("a", Soon()).error().code, Code::kInvalid);
  }
  EXPECT_EQ(fake.server.requests().size(), 0u);
}

TEST(RegistryTest, OriginsAreWhereTheRegistryIsAsked) {
  EXPECT_EQ(Registry::Create("docker.io", {})->Repository("library/a")->origin(),
            "https://registry-1.docker.io");
  EXPECT_EQ(Registry::Create("docker.io", {})->Repository("library/a")->pool_key(), "docker.io");
  EXPECT_EQ(Registry::Create("quay.io:444", {})->Repository("a")->origin(), "https://quay.io:444");
  EXPECT_EQ(Registry::Create("localhost:5000", {})->Repository("a")->origin(),
            "http://localhost:5000");
  EXPECT_EQ(Registry::Create("[::1]:5000", {})->Repository("a")->origin(), "http://[::1]:5000");
  RegistryOptions insecure;
  insecure.insecure = true;
  EXPECT_EQ(Registry::Create("a.example", insecure)->Repository("a")->origin(), "http://a.example");
  RegistryOptions tls;
  tls.ca_file = "/nowhere.pem";
  EXPECT_EQ(Registry::Create("localhost:5000", tls)->Repository("a")->origin(),
            "https://localhost:5000");
}

TEST(RegistryTest, ErrorsSayTheCauseInWords) {
  struct Case {
    FakeResponse response;
    Code code;
    const char* words;
  };
  const std::vector<Case> cases = {
      {Failing(404, "MANIFEST_UNKNOWN"), Code::kNotFound, "no such manifest"},
      {Failing(404, "NAME_UNKNOWN"), Code::kNotFound, "no such repository"},
      {Failing(404, "WHATEVER\\u001b[31m"), Code::kNotFound, "\\x1b"},
      {Failing(403, "DENIED", "pay first"), Code::kDenied, "pay first"},
      {Failing(400, "NAME_INVALID"), Code::kInvalid, "NAME_INVALID"},
      {Failing(405, "UNSUPPORTED"), Code::kUnsupported, "does not offer"},
      {Failing(302, ""), Code::kUnavailable, "302"},
  };
  for (const Case& one : cases) {
    FakeRegistry fake([&](const FakeRequest&) { return one.response; });
    const auto document = fake.repository()->FetchTag("v9", Soon());
    ASSERT_FALSE(document.has_value());
    EXPECT_EQ(document.error().code, one.code) << document.error().message;
    EXPECT_THAT(document.error().message, HasSubstr(one.words));
    EXPECT_THAT(document.error().message, HasSubstr(fake.server.host()));
    EXPECT_THAT(document.error().message, HasSubstr("'v9' of team/app"));
    EXPECT_EQ(fake.server.requests().size(), 1u) << "such an answer is not asked for again";
  }
}

TEST(RegistryTest, AServerThatIsNotThereIsUnavailable) {
  std::string host;
  {
    HttpServer gone([](const FakeRequest&) { return Bytes(""); });
    host = gone.host();
  }
  const auto refused = Registry::Create(host, ShortTimeouts())->Ping(Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("connection refused"));
  RegistryOptions once = ShortTimeouts();
  once.attempts = 1;
  const auto nameless = Registry::Create("no-such-host.invalid", once)->Ping(Soon());
  ASSERT_FALSE(nameless.has_value());
  EXPECT_THAT(nameless.error().code, testing::AnyOf(Code::kUnavailable, Code::kTimeout));
  EXPECT_THAT(nameless.error().message, HasSubstr("no-such-host.invalid"));
}

// [S73]
TEST(RegistryTest, AnAnswerThatIsNotHttpIsAskedForAgain) {
  std::atomic<int> calls{0};
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse garbage;
    garbage.raw = "SSH-2.0-OpenSSH_9.2p1\r\n";
    return calls++ < 2 ? garbage : Manifest("{}");
  });
  const auto document = fake.repository()->FetchTag("a", Soon());
  EXPECT_TRUE(document.has_value()) << document.error().message;
  calls = -100;
  EXPECT_THAT(fake.repository()->FetchTag("a", Soon()).error().message, HasSubstr("is not HTTP"));
}

TEST(RegistryTest, AClosedConnectionIsAnError) {
  FakeRegistry fake([](const FakeRequest&) {
    FakeResponse response;
    response.no_answer = true;
    return response;
  });
  const auto status = fake.registry->Ping(Soon());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("without an answer"));
}

TEST(RegistryTest, PingKnowsAWebServerThatIsNoRegistry) {
  FakeRegistry fake([](const FakeRequest&) { return Failing(404, ""); });
  EXPECT_EQ(fake.registry->Ping(Soon()).error().code, Code::kUnsupported);
  FakeRegistry good([](const FakeRequest&) { return Bytes("{}"); });
  EXPECT_TRUE(good.registry->Ping(Soon()).has_value());
  EXPECT_EQ(good.server.requests().at(0).target, "/v2/");
}

TEST(RegistryTest, RepeatsWhatFailedInTheServer) {
  std::atomic<int> calls{0};
  FakeRegistry fake(
      [&](const FakeRequest&) { return calls++ < 3 ? Failing(502, "") : Manifest("{}"); });
  EXPECT_TRUE(fake.repository()->FetchTag("a", Soon()).has_value());
  EXPECT_EQ(fake.registry->counters().retries, 3u);
  calls = -100;
  EXPECT_EQ(fake.repository()->FetchTag("a", Soon()).error().code, Code::kUnavailable);
  EXPECT_EQ(fake.server.requests().size(), 8u);
}

TEST(RegistryTest, WaitsAsLongAsTheServerAsksButNotBeyondTheDeadline) {
  std::atomic<int> calls{0};
  std::string after = "1";
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse response = Failing(429, "TOOMANYREQUESTS");
    response.headers.emplace_back("Retry-After", after);
    return calls++ == 0 ? response : Manifest("{}");
  });
  const auto before = std::chrono::steady_clock::now();
  ASSERT_TRUE(fake.repository()->FetchTag("a", Soon()).has_value());
  EXPECT_GE(std::chrono::steady_clock::now() - before, std::chrono::seconds(1));
  EXPECT_EQ(fake.server.requests().size(), 2u);

  calls = 0;
  after = "3600";
  const auto refused = fake.repository()->FetchTag("a", Soon());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("rate"));
  EXPECT_EQ(fake.server.requests().size(), 3u);
}

TEST(RegistryTest, FollowsFiveRedirectsAndNoMore) {
  std::atomic<int> most{5};
  FakeRegistry fake([&](const FakeRequest& request) {
    const std::string path = request.path();
    const int hop = path.starts_with("/hop") ? std::stoi(path.substr(4)) : 0;
    return hop < most ? RedirectTo("/hop" + std::to_string(hop + 1)) : Manifest("{}");
  });
  EXPECT_TRUE(fake.repository()->FetchTag("a", Soon()).has_value());
  EXPECT_EQ(fake.server.requests().size(), 6u);
  most = 1000;
  const auto loop = fake.repository()->FetchTag("a", Soon());
  ASSERT_FALSE(loop.has_value());
  EXPECT_EQ(loop.error().code, Code::kUnavailable);
  EXPECT_THAT(loop.error().message, HasSubstr("redirects more than 5 times"));
  EXPECT_EQ(fake.server.requests().size(), 12u);
}

TEST(RegistryTest, RedirectsToBadPlacesAreNotFollowed) {
  for (const char* place : {"http://a.example/x?sig=secret", "ftp://a.example/",
                            "file:///etc/passwd", "https://user:secret@a.example/"}) {
    FakeRegistry fake([&](const FakeRequest&) { return RedirectTo(place); });
    const auto document = fake.repository()->FetchTag("a", Soon());
    ASSERT_FALSE(document.has_value()) << place;
    EXPECT_THAT(document.error().code, testing::AnyOf(Code::kDenied, Code::kInvalid)) << place;
    EXPECT_THAT(document.error().message, HasSubstr("redirects"));
    EXPECT_THAT(document.error().message, Not(HasSubstr("sig=secret")));
  }
}

// Sets http_proxy for as long as it lives.
class ProxyInEnvironment {
 public:
  explicit ProxyInEnvironment(const std::string& url) { ::setenv("http_proxy", url.c_str(), 1); }
  ~ProxyInEnvironment() { ::unsetenv("http_proxy"); }
};

TEST(RegistryTest, TheProxyOfTheEnvironmentIsUsedButNotForLoopback) {
  HttpServer proxy([](const FakeRequest&) { return Bytes("{}"); });
  FakeRegistry fake([](const FakeRequest&) { return Bytes("{}"); });
  const ProxyInEnvironment environment(proxy.url());
  EXPECT_TRUE(fake.registry->Ping(Soon()).has_value());
  EXPECT_EQ(proxy.requests().size(), 0u);
  EXPECT_EQ(fake.server.requests().size(), 1u);
  RegistryOptions options = ShortTimeouts();
  options.insecure = true;
  EXPECT_TRUE(Registry::Create("registry.invalid", options)->Ping(Soon()).has_value());
  ASSERT_EQ(proxy.requests().size(), 1u);
  EXPECT_EQ(proxy.requests().at(0).target, "http://registry.invalid/v2/");
}

TEST(RegistryTest, ListsTheTagsOfAllPagesSorted) {
  HttpServer* server = nullptr;
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response;
    if (request.query() == "n=1000") {
      response = Bytes(R"({"name":"team/app","tags":["c","a","../evil","-no"]})");
      response.headers = {{"Link", "</v2/team/app/tags/list?last=c&n=2>; rel=\"next\""}};
    } else if (request.query() == "last=c&n=2") {
      response = Bytes(R"({"tags":["b","a",7]})");
      response.headers = {
          {"Link", "<" + server->url() + "/v2/team/app/tags/list?last=b>; rel=next"}};
    } else if (request.query() == "last=b") {
      response = Bytes(R"({"tags":["d"]})");
      response.headers = {{"Link", "<?last=d>; rel=\"next\""}};
    } else {
      response = Bytes(R"({"tags":null})");
    }
    return response;
  });
  server = &fake.server;
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_TRUE(tags.has_value()) << tags.error().message;
  EXPECT_THAT(*tags, ElementsAre("a", "b", "c", "d"));
  EXPECT_EQ(fake.server.requests().size(), 4u);
}

TEST(RegistryTest, PagesThatLeadBackEnd) {
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse response = Bytes(R"({"tags":["a"]})");
    response.headers = {{"Link", "</v2/team/app/tags/list?x>; rel=next"}};
    return response;
  });
  EXPECT_THAT(*fake.repository()->ListTags(Soon()), ElementsAre("a"));
  EXPECT_EQ(fake.server.requests().size(), 2u);
}

TEST(RegistryTest, PagesOnOtherServersAreRefused) {
  HttpServer other([](const FakeRequest&) { return Bytes(R"({"tags":["evil"]})"); });
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse response = Bytes(R"({"tags":["a"]})");
    response.headers = {{"Link", "<" + other.url() + "/next>; rel=next"}};
    return response;
  });
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kInvalid);
  EXPECT_EQ(other.requests().size(), 0u);
}

TEST(RegistryTest, PagesWhosePathNamesAHostAreRefused) {
  HttpServer other([](const FakeRequest&) { return Bytes(R"({"tags":["evil"]})"); });
  FakeRegistry* registry = nullptr;
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse response = Bytes(R"({"tags":["a"]})");
    const std::string link = registry->server.url() + "//" + other.host() + "/next";
    response.headers = {{"Link", "<" + link + ">; rel=next"}};
    return response;
  });
  registry = &fake;
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kInvalid) << tags.error().message;
  EXPECT_EQ(other.requests().size(), 0u);
}

TEST(RegistryTest, ATargetThatNamesAnotherHostIsNotAsked) {
  HttpServer other([](const FakeRequest&) { return Bytes("{}"); });
  RegistryOptions options = ShortTimeouts();
  RegistrySession session(OriginEndpoint("127.0.0.1:1", "a", false, {}), options,
                          std::make_shared<RegistryCounters>());
  BodyReceiver receiver("test", 100);
  RegistryRequest request{.target = "//" + other.host() + "/v2/",
                          .scope = "",
                          .what = "a test",
                          .accept = {},
                          .range = "",
                          .receiver = &receiver};
  const RegistryAnswer answer = session.Run(request, Soon());
  EXPECT_EQ(answer.end, RegistryAnswer::End::kFailed);
  EXPECT_EQ(answer.error.code, Code::kInvalid) << answer.error.message;
  EXPECT_EQ(other.requests().size(), 0u);
}

// A relative link is one of the server that gave the page, not of the registry that led there.
TEST(RegistryTest, RelativePagesOfAServerRedirectedToAreRefused) {
  HttpServer other([](const FakeRequest&) {
    FakeResponse response = Bytes(R"({"tags":["b"]})");
    response.headers = {{"Link", "</v2/team/app/tags/list?last=b>; rel=next"}};
    return response;
  });
  FakeRegistry fake([&](const FakeRequest&) {
    FakeResponse response;
    response.status = 307;
    response.headers = {{"Location", other.url() + "/page"}};
    return response;
  });
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kInvalid);
  EXPECT_EQ(fake.server.requests().size(), 1u);
  EXPECT_EQ(other.requests().size(), 1u);
}

TEST(RegistryTest, ListsThatAreNoneAreErrors) {
  for (const char* body : {"", "[]", "no", R"({"tags":"a"})", R"({"tags":{"a":1}})"}) {
    FakeRegistry fake([&](const FakeRequest&) { return Bytes(body); });
    EXPECT_EQ(fake.repository()->ListTags(Soon()).error().code, Code::kInvalid) << body;
  }
  FakeRegistry missing([](const FakeRequest&) { return Failing(404, "NAME_UNKNOWN"); });
  EXPECT_EQ(missing.repository()->ListTags(Soon()).error().code, Code::kNotFound);
}

TEST(RegistryTest, ListsRepositoriesWhereThereIsACatalog) {
  FakeRegistry fake([](const FakeRequest& request) {
    EXPECT_EQ(request.target, "/v2/_catalog?n=1000");
    return Bytes(R"({"repositories":["team/app","../x","a"]})");
  });
  EXPECT_THAT(*fake.registry->ListRepositories(Soon()), ElementsAre("a", "team/app"));
  FakeRegistry without([](const FakeRequest&) { return Failing(404, ""); });
  EXPECT_EQ(without.registry->ListRepositories(Soon()).error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace lamina
