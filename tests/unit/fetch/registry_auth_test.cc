// Authorisation against a fake server.

#include "fetch/registry_auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/fetch/registry_fixture.h"

namespace lamina {
namespace {

using testing::HasSubstr;
using testing::Not;

// A registry and its token server on one port. Tokens are "t1", "t2", …; only the newest is
// accepted.
struct TokenServer {
  std::string blob = PatternBytes(100000);
  std::string realm;  // empty: its own /token
  std::string expires = R"(,"expires_in":300)";
  std::atomic<int> issued{0};
  std::atomic<int> revoked{0};  // tokens up to this number are refused
  std::function<FakeResponse(const FakeRequest&)> on_token;

  FakeResponse Challenge(const FakeRequest& request) const {
    FakeResponse response = Failing(401, "UNAUTHORIZED");
    const std::string where = realm.empty() ? "http://" + request.Header("host") + "/token" : realm;
    response.headers.emplace_back(
        "WWW-Authenticate",
        "Bearer realm=\"" + where + "\",service=\"reg\",scope=\"repository:team/app:pull\"");
    return response;
  }
  FakeResponse operator()(const FakeRequest& request) {
    if (request.path() == "/token") {
      if (on_token) return on_token(request);
      return Bytes(R"({"token":"t)" + std::to_string(++issued) + "\"" + expires + "}");
    }
    const std::string sent = request.Header("authorization");
    const bool known = sent.starts_with("Bearer t") && std::stoi(sent.substr(8)) > revoked;
    return known ? ServeBlob(request, blob) : Challenge(request);
  }
};

struct BearerFake {
  TokenServer tokens;
  FakeRegistry fake;
  explicit BearerFake(RegistryOptions options = ShortTimeouts())
      : fake([this](const FakeRequest& request) { return tokens(request); }, std::move(options)) {}
  Status Read(size_t offset = 10) {
    std::string out;
    const Status status = ReadInto(*fake.Blob(tokens.blob), offset, 100, &out);
    EXPECT_EQ(out, status ? tokens.blob.substr(offset, 100) : std::string(100, '\0'));
    return status;
  }
};

RegistryOptions WithCredentials(RegistryCredentials credentials) {
  RegistryOptions options = ShortTimeouts();
  options.credentials = [credentials](const std::string&) { return credentials; };
  return options;
}

TEST(RegistryAuthTest, GetsAnAnonymousTokenAndKeepsIt) {
  BearerFake bearer;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(bearer.Read().has_value());
  EXPECT_EQ(bearer.fake.server.CountOf("/token"), 1);
  EXPECT_EQ(bearer.fake.server.CountOf("/v2/"), 4);
  const FakeRequest token = bearer.fake.server.requests().at(1);
  EXPECT_EQ(token.method, "GET");
  EXPECT_EQ(token.target, "/token?service=reg&scope=repository%3ateam%2fapp%3apull");
  EXPECT_EQ(token.Header("authorization"), "");
  EXPECT_EQ(bearer.fake.registry->counters().token_requests, 1u);
}

TEST(RegistryAuthTest, SendsCredentialsToTheTokenServerOnly) {
  BearerFake bearer(WithCredentials({"me", "pass word", ""}));
  ASSERT_TRUE(bearer.Read().has_value());
  const auto requests = bearer.fake.server.requests();
  EXPECT_EQ(requests.at(1).Header("authorization"), "Basic bWU6cGFzcyB3b3Jk");
  EXPECT_THAT(requests.at(1).target, HasSubstr("account=me"));
  EXPECT_EQ(requests.at(0).Header("authorization"), "");
  EXPECT_EQ(requests.at(2).Header("authorization"), "Bearer t1");
}

TEST(RegistryAuthTest, AsksForTheCredentialsOfTheRepository) {
  RegistryOptions options = ShortTimeouts();
  std::string asked;
  options.credentials = [&asked](const std::string& name) {
    asked = name;
    return RegistryCredentials{"me", "pass word", ""};
  };
  BearerFake bearer(options);
  ASSERT_TRUE(bearer.Read().has_value());
  EXPECT_THAT(asked, testing::EndsWith("/team/app"));
}

TEST(RegistryAuthTest, RenewsATokenBeforeItEnds) {
  MovableClock clock;
  RegistryOptions options = ShortTimeouts();
  options.clock = &clock;
  BearerFake bearer(options);
  ASSERT_TRUE(bearer.Read().has_value());
  clock.now_ns += int64_t{280} * 1'000'000'000;
  ASSERT_TRUE(bearer.Read().has_value());
  EXPECT_EQ(bearer.tokens.issued, 1);
  clock.now_ns += int64_t{15} * 1'000'000'000;  // five seconds before the end
  ASSERT_TRUE(bearer.Read().has_value());
  EXPECT_EQ(bearer.tokens.issued, 2);
  EXPECT_EQ(bearer.fake.server.requests().back().Header("authorization"), "Bearer t2");
}

TEST(RegistryAuthTest, AssumesAMinuteWhereTheTokenSaysLess) {
  MovableClock clock;
  RegistryOptions options = ShortTimeouts();
  options.clock = &clock;
  for (const char* expires :
       {"", R"(,"expires_in":0)", R"(,"expires_in":-5)", R"(,"expires_in":"x")"}) {
    BearerFake bearer(options);
    bearer.tokens.expires = expires;
    ASSERT_TRUE(bearer.Read().has_value());
    clock.now_ns += int64_t{45} * 1'000'000'000;
    ASSERT_TRUE(bearer.Read().has_value());
    EXPECT_EQ(bearer.tokens.issued, 1) << expires;
    clock.now_ns += int64_t{10} * 1'000'000'000;
    ASSERT_TRUE(bearer.Read().has_value());
    EXPECT_EQ(bearer.tokens.issued, 2) << expires;
  }
}

TEST(RegistryAuthTest, GetsAnotherTokenOnceWhenTheRegistryRefusesOne) {
  BearerFake bearer;
  ASSERT_TRUE(bearer.Read().has_value());
  bearer.tokens.revoked = 1;
  ASSERT_TRUE(bearer.Read().has_value());
  EXPECT_EQ(bearer.tokens.issued, 2);
  bearer.tokens.revoked = 1000;
  const Status refused = bearer.Read();
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kDenied);
  EXPECT_EQ(bearer.tokens.issued, 3);
}

TEST(RegistryAuthTest, AStreamSurvivesATokenThatEndsInItsMiddle) {
  BearerFake bearer;
  std::atomic<int> bodies{0};
  HttpServer server([&](const FakeRequest& request) {
    FakeResponse response = bearer.tokens(request);
    if (response.status == 200 && request.path() != "/token" && bodies++ == 0) {
      response.cut_after = 40000;
      bearer.tokens.revoked = 1;
    }
    return response;
  });
  const auto registry = Registry::Create(server.host(), ShortTimeouts());
  const auto blob = registry->Repository("team/app")->OpenBlob(DescriptorOf(bearer.tokens.blob));
  std::string out;
  const Status status = StreamInto(**blob, 0, &out);
  ASSERT_TRUE(status.has_value()) << Stringify(status);
  EXPECT_EQ(out, bearer.tokens.blob);
  EXPECT_EQ(bearer.tokens.issued, 2);
}

TEST(RegistryAuthTest, ThirtyTwoReadersCauseOneTokenRequest) {
  BearerFake bearer;
  bearer.tokens.on_token = [&](const FakeRequest&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // let all of them come
    return Bytes(R"({"access_token":"t1"})");
  };
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 32; ++i)
    threads.emplace_back([&] {
      if (!bearer.Read()) ++failed;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(bearer.fake.server.CountOf("/token"), 1);
}

TEST(RegistryAuthTest, AFailureReachesAllWhoWaitAndIsNotRemembered) {
  BearerFake bearer;
  std::atomic<bool> broken{true};
  bearer.tokens.on_token = [&](const FakeRequest&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return broken ? Failing(403, "DENIED") : Bytes(R"({"token":"t1"})");
  };
  std::atomic<int> denied{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      const Status status = bearer.Read();
      if (!status && status.error().code == Code::kDenied) ++denied;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(denied, 8);
  EXPECT_LE(bearer.fake.server.CountOf("/token"), 8);
  broken = false;
  EXPECT_TRUE(bearer.Read().has_value());
}

TEST(RegistryAuthTest, PostsAnIdentityToken) {
  BearerFake bearer(WithCredentials({"<token>", "", "id&entity"}));
  bearer.tokens.on_token = [&](const FakeRequest& request) {
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.Header("content-type"), "application/x-www-form-urlencoded");
    return Bytes(R"({"access_token":"t1","expires_in":300})");
  };
  ASSERT_TRUE(bearer.Read().has_value());
  const std::string body = bearer.fake.server.requests().at(1).body;
  EXPECT_THAT(body, HasSubstr("grant_type=refresh_token"));
  EXPECT_THAT(body, HasSubstr("refresh_token=id%26entity"));
  EXPECT_THAT(body, HasSubstr("service=reg"));
  EXPECT_THAT(body, HasSubstr("scope=repository%3Ateam%2Fapp%3Apull"));
  EXPECT_EQ(bearer.fake.server.requests().at(1).Header("authorization"), "");
}

TEST(RegistryAuthTest, FallsBackToGetWhereThePostIsRefused) {
  BearerFake bearer(WithCredentials({"me", "", "identity"}));
  bearer.tokens.on_token = [&](const FakeRequest& request) {
    return request.method == "POST" ? Failing(405, "UNSUPPORTED") : Bytes(R"({"token":"t1"})");
  };
  ASSERT_TRUE(bearer.Read().has_value());
  const auto requests = bearer.fake.server.requests();
  EXPECT_EQ(requests.at(2).method, "GET");
  EXPECT_EQ(requests.at(2).Header("authorization"), "Basic bWU6aWRlbnRpdHk=");
  EXPECT_EQ(bearer.fake.registry->counters().token_requests, 2u);
}

TEST(RegistryAuthTest, GarbageForATokenIsAnError) {
  const std::vector<std::string> answers = {"",
                                            "no json",
                                            "[]",
                                            "{}",
                                            R"({"token":7})",
                                            R"({"token":""})",
                                            R"({"token":"a b"})",
                                            R"({"token":"a\r\nX: y"})",
                                            std::string(100000, '['),
                                            R"({"token":")" + std::string(60000, 'a') + "\"}"};
  for (const std::string& answer : answers) {
    BearerFake bearer;
    bearer.tokens.on_token = [&](const FakeRequest&) { return Bytes(answer); };
    const Status status = bearer.Read();
    ASSERT_FALSE(status.has_value()) << answer.substr(0, 40);
    EXPECT_THAT(status.error().message, HasSubstr("token"));
    EXPECT_EQ(bearer.fake.server.CountOf("/token"), 1);
  }
}

TEST(RegistryAuthTest, AnEndlessTokenIsALimit) {
  BearerFake bearer;
  bearer.tokens.on_token = [&](const FakeRequest&) { return Bytes(std::string(2u << 20, 'a')); };
  const Status status = bearer.Read();
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, Code::kLimit);
}

TEST(RegistryAuthTest, ATokenServerThatFailsIsAskedAgain) {
  BearerFake bearer;
  std::atomic<int> calls{0};
  bearer.tokens.on_token = [&](const FakeRequest&) {
    return calls++ < 2 ? Failing(503, "BUSY") : Bytes(R"({"token":"t1"})");
  };
  EXPECT_TRUE(bearer.Read().has_value());
  EXPECT_EQ(calls, 3);
}

// [S111]
TEST(RegistryAuthTest, ATokenServerThatWantsToBeLeftAloneIsAskedOnce) {
  BearerFake bearer;
  std::atomic<int> calls{0};
  bearer.tokens.on_token = [&](const FakeRequest&) {
    ++calls;
    FakeResponse response = Failing(429, "TOOMANYREQUESTS");
    response.headers.emplace_back("Retry-After", "3600");
    return response;
  };
  for (int i = 0; i < 3; ++i) {
    const Status read = bearer.Read();
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::kUnavailable);
    EXPECT_THAT(read.error().message, HasSubstr("429"));
  }
  EXPECT_EQ(calls, 1);
}

// Whoever reads is stopped when the token server is asked, which answers this.
struct StoppedBearer {
  explicit StoppedBearer(const FakeResponse& answer) : bearer(Options()) {
    bearer.tokens.on_token = [this, answer](const FakeRequest&) {
      cancelled = true;
      return answer;
    };
  }
  RegistryOptions Options() {
    RegistryOptions options = ShortTimeouts();
    options.cancelled = &cancelled;
    return options;
  }
  std::atomic<bool> cancelled{false};
  BearerFake bearer;
};

// [S84]
TEST(RegistryAuthTest, WhoStopsWaitsForNoTokenServer) {
  FakeResponse silence;
  silence.silent = true;
  StoppedBearer stopped(silence);
  const Status read = stopped.bearer.Read();
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kCancelled) << Stringify(read);
  EXPECT_THAT(read.error().message, HasSubstr("stopping"));
}

TEST(RegistryAuthTest, WhoStopsAsksNoTokenServerAgain) {
  FakeResponse busy = Failing(503, "UNAVAILABLE");
  busy.headers.emplace_back("Retry-After", "2");
  StoppedBearer stopped(busy);
  EXPECT_FALSE(stopped.bearer.Read());
  EXPECT_EQ(stopped.bearer.fake.server.CountOf("/token"), 1);
  EXPECT_EQ(stopped.bearer.fake.registry->counters().token_requests, 1u);
}

TEST(RegistryAuthTest, HostileTokenServersAreSentNothing) {
  HttpServer other([](const FakeRequest&) { return Bytes(R"({"token":"t1"})"); });
  for (const std::string& realm :
       {other.url() + "/token", std::string("http://auth.example/token"),
        std::string("https://10.0.0.1/token"), std::string("https://[::ffff:127.0.0.1]/token"),
        std::string("https://169.254.169.254/latest"), std::string("https://localhost:1/token"),
        std::string("file:///etc/passwd"), std::string("https://u:p@auth.example/"),
        std::string("x")}) {
    BearerFake bearer(WithCredentials({"me", "password", ""}));
    bearer.tokens.realm = realm;
    const Status status = bearer.Read();
    ASSERT_FALSE(status.has_value()) << realm;
    EXPECT_THAT(status.error().code, testing::AnyOf(Code::kDenied, Code::kInvalid)) << realm;
    EXPECT_EQ(bearer.fake.registry->counters().token_requests, 0u) << realm;
  }
  EXPECT_EQ(other.requests().size(), 0u);
}

TEST(RegistryAuthTest, RealmRules) {
  const Url plain = *Url::Parse("http://127.0.0.1:5000/");
  const Url tls = *Url::Parse("https://10.0.0.7:5000/");
  EXPECT_TRUE(CheckRealm(*Url::Parse("http://127.0.0.1:5000/token"), plain).has_value());
  EXPECT_TRUE(CheckRealm(*Url::Parse("https://10.0.0.7:5000/token"), tls).has_value());
  EXPECT_TRUE(CheckRealm(*Url::Parse("https://auth.example/token"), tls).has_value());
  EXPECT_TRUE(CheckRealm(*Url::Parse("https://auth.example/token"), plain).has_value());
  EXPECT_FALSE(CheckRealm(*Url::Parse("http://10.0.0.7:5000/token"), tls).has_value());
  EXPECT_FALSE(CheckRealm(*Url::Parse("https://10.0.0.7:5001/token"), tls).has_value());
  EXPECT_FALSE(CheckRealm(*Url::Parse("http://127.0.0.1:5001/token"), plain).has_value());
}

FakeResponse BasicOnly(const FakeRequest& request, const std::string& expected,
                       const std::string& blob) {
  if (request.Header("authorization") == expected) return ServeBlob(request, blob);
  FakeResponse response =
      Failing(401, "UNAUTHORIZED", "you sent " + request.Header("authorization"));
  response.headers.emplace_back("WWW-Authenticate", "Basic realm=\"x\"");
  return response;
}

TEST(RegistryAuthTest, SendsBasicWhenAskedAndFromThenOn) {
  const std::string blob = PatternBytes(1000);
  FakeRegistry fake([&](const FakeRequest& r) { return BasicOnly(r, "Basic bWU6cHc=", blob); },
                    WithCredentials({"me", "pw", ""}));
  const auto source = fake.Blob(blob);
  std::string out;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ReadInto(*source, 0, 10, &out).has_value());
  EXPECT_EQ(fake.server.requests().size(), 4u);
}

TEST(RegistryAuthTest, WithoutCredentialsTheErrorSaysSo) {
  FakeRegistry fake([&](const FakeRequest& r) { return BasicOnly(r, "Basic bWU6cHc=", ""); });
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kDenied);
  EXPECT_THAT(tags.error().message, HasSubstr("there are none"));
  EXPECT_THAT(tags.error().message, HasSubstr(fake.server.host()));
  EXPECT_THAT(tags.error().message, HasSubstr("team/app"));
}

TEST(RegistryAuthTest, WhatTheServerRepeatsOfTheCredentialsIsNotInTheError) {
  FakeRegistry fake([&](const FakeRequest& r) { return BasicOnly(r, "another", ""); },
                    WithCredentials({"me", "pw", ""}));
  const auto tags = fake.repository()->ListTags(Soon());
  ASSERT_FALSE(tags.has_value());
  EXPECT_EQ(tags.error().code, Code::kDenied);
  EXPECT_THAT(tags.error().message, Not(HasSubstr("bWU6cHc=")));
}

TEST(RegistryAuthTest, OtherSchemesAreUnsupportedAndNoneIsDenied) {
  for (const char* scheme : {"Negotiate", ""}) {
    FakeRegistry fake([&](const FakeRequest&) {
      FakeResponse response = Failing(401, "UNAUTHORIZED");
      if (*scheme != '\0') response.headers.emplace_back("WWW-Authenticate", scheme);
      return response;
    });
    const Status status = fake.registry->Ping(Soon());
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().code, *scheme != '\0' ? Code::kUnsupported : Code::kDenied);
  }
}

TEST(RegistryAuthTest, ARedirectWithinTheRegistryKeepsTheToken) {
  TokenServer tokens;
  FakeRegistry fake([&](const FakeRequest& request) {
    FakeResponse response = tokens(request);
    const bool at_start = request.path().starts_with("/v2/team/app/blobs/");
    return at_start && response.status != 401 ? RedirectTo("/moved") : response;
  });
  std::string out;
  const Status status = ReadInto(*fake.Blob(tokens.blob), 5, 10, &out);
  ASSERT_TRUE(status.has_value()) << Stringify(status);
  EXPECT_EQ(out, tokens.blob.substr(5, 10));
  EXPECT_EQ(fake.server.requests().back().target, "/moved");
  EXPECT_EQ(fake.server.requests().back().Header("authorization"), "Bearer t1");
}

TEST(RegistryAuthTest, TheTargetOfARedirectNeverSeesTheToken) {
  TokenServer tokens;
  HttpServer* home = nullptr;
  // The other host redirects back: the way home has no token either.
  HttpServer other([&](const FakeRequest& request) {
    if (request.path() == "/back") return RedirectTo(home->url() + "/v2/back");
    return ServeBlob(request, tokens.blob);
  });
  std::atomic<bool> back{false};
  FakeRegistry fake([&](const FakeRequest& request) {
    if (request.path() == "/v2/back") return ServeBlob(request, tokens.blob);
    FakeResponse response = tokens(request);
    if (request.path() == "/token" || response.status == 401) return response;
    return RedirectTo(other.url() + (back ? "/back" : "/store"));
  });
  home = &fake.server;
  std::string out;
  ASSERT_TRUE(ReadInto(*fake.Blob(tokens.blob), 0, 10, &out).has_value());
  back = true;
  ASSERT_TRUE(ReadInto(*fake.Blob(tokens.blob), 0, 10, &out).has_value());
  for (const FakeRequest& request : other.requests())
    EXPECT_EQ(request.Header("authorization"), "") << request.target;
  EXPECT_EQ(other.requests().size(), 2u);
  EXPECT_EQ(fake.server.requests().back().path(), "/v2/back");
  EXPECT_EQ(fake.server.requests().back().Header("authorization"), "");
}

}  // namespace
}  // namespace lamina
