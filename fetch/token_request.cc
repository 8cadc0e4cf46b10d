#include "fetch/token_request.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "base/text.h"
#include "fetch/host_healths.h"
#include "fetch/registry_json.h"
#include "fetch/retry.h"

namespace lamina {
namespace {

constexpr uint64_t kTokenBodyBytes = 1u << 20;
constexpr int64_t kShortestLife = 60;        // seconds; servers that say less or nothing mean this
constexpr int64_t kLongestLife = 24 * 3600;  // seconds; more is not believed
constexpr const char* kClientId = "lamina";

// One answer of the token server.
struct TokenAnswer {
  bool again = false;    // worth another try
  bool no_post = false;  // the server does not take a POST
  std::optional<std::chrono::milliseconds> retry_after;
  Result<Token> token = Error{};
};

struct CurlFree {
  void operator()(char* text) const { curl_free(text); }
};

std::string FormEncoded(const std::string& text) {
  const std::unique_ptr<char, CurlFree> encoded(
      curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size())));
  return encoded ? std::string(encoded.get()) : std::string();
}

std::string IdentityForm(const TokenRequest& request) {
  std::string form = "grant_type=refresh_token&client_id=" + std::string(kClientId);
  form += "&refresh_token=" + FormEncoded(request.credentials.identity_token);
  form += "&service=" + FormEncoded(request.service);
  if (!request.scope.empty()) form += "&scope=" + FormEncoded(request.scope);
  return form;
}

Result<Url> UrlOfGet(const TokenRequest& request) {
  Url::Query query;
  if (!request.service.empty()) query.emplace_back("service", request.service);
  for (const std::string_view scope : Split(request.scope, ' '))
    if (!scope.empty()) query.emplace_back("scope", scope);
  if (!request.credentials.username.empty())
    query.emplace_back("account", request.credentials.username);
  return request.realm.WithQuery(query);
}

Result<HttpRequest> MakeRequest(const TokenRequest& request, bool post) {
  HttpRequest out{.url = request.realm, .headers = {"Accept: application/json"}, .form = {}};
  if (post) {
    out.form = IdentityForm(request);
    return out;
  }
  ASSIGN_OR_RETURN(out.url, UrlOfGet(request));
  if (!request.credentials.empty())
    out.headers.push_back("Authorization: " + BasicAuthorization(request.credentials));
  return out;
}

// A server that repeats what it was sent must not get it into a message.
bool Repeats(std::string_view text, const RegistryCredentials& credentials) {
  const auto holds = [&](const std::string& secret) {
    return !secret.empty() && text.find(secret) != std::string_view::npos;
  };
  const std::string basic = BasicAuthorization(credentials);
  return holds(credentials.password) || holds(credentials.identity_token) ||
         (!credentials.empty() && holds(basic.substr(basic.find(' ') + 1)));
}

Error Refusal(const TokenRequest& request, const HttpResponse& response) {
  const RegistryErrorBody body = ParseErrorBody(response.error_body);
  std::string words;
  if (!body.code.empty() && !Repeats(body.code, request.credentials))
    words += " " + Quote(body.code);
  if (!body.message.empty() && !Repeats(body.message, request.credentials))
    words += " " + Quote(body.message);
  const std::string server = request.realm.Origin();
  const int status = response.status;
  if (status == 400 || status == 401 || status == 403) {
    const char* what = request.credentials.empty() ? "gives no token without credentials"
                                                   : "refused the credentials";
    return {Code::kDenied, fmt::format("token server {} {} ({}{})", server, what, status, words)};
  }
  if (status == 429)
    return {Code::kUnavailable,
            fmt::format("token server {} limits the rate (429{})", server, words)};
  return {Code::kUnavailable, fmt::format("token server {} answered {}{}", server, status, words)};
}

Result<Token> ReadToken(const TokenRequest& request, std::string_view body) {
  Result<TokenBody> parsed = ParseTokenBody(body);
  if (!parsed) return parsed.error().Within("token server " + request.realm.Origin());
  const int64_t seconds = parsed->expires_in.value_or(kShortestLife);
  return Token{std::move(parsed->token),
               std::chrono::seconds(std::clamp(seconds, kShortestLife, kLongestLife))};
}

// The token, unless nobody waits for one any more.
class TokenReceiver : public BodyReceiver {
 public:
  TokenReceiver(std::string what, const RegistryOptions& options)
      : BodyReceiver(std::move(what), kTokenBodyBytes), options_(options) {}
  Status Idle() override {
    if (!options_.stops()) return {};
    return Error{Code::kCancelled, "lamina is stopping"};
  }

 private:
  const RegistryOptions& options_;
};

TokenAnswer Ask(const TokenRequest& request, bool post, const RegistryOptions& options,
                HttpClient& http, HostHealth& health, RegistryCounters& counters,
                const Deadline& deadline) {
  TokenAnswer answer;
  if (const auto pause = health.Paused()) {
    answer.again = true;
    answer.retry_after = pause->left;
    answer.token = pause->Refusal("token server " + request.realm.Origin());
    return answer;
  }
  Result<HttpRequest> message = MakeRequest(request, post);
  if (!message) {
    answer.token = message.error();
    return answer;
  }
  TokenReceiver receiver("the answer of token server " + request.realm.Origin(), options);
  message->receiver = &receiver;
  const HttpOutcome outcome = http.Perform(*message, deadline);
  if (outcome.asked) {
    counters.requests.fetch_add(1);
    counters.token_requests.fetch_add(1);
  }
  NoteOutcome(health, outcome, *options.clock);
  if (outcome.end != HttpOutcome::End::kAnswered) {
    answer.again = outcome.end == HttpOutcome::End::kBroken;
    answer.token = outcome.error.Within("asking for a token");
    return answer;
  }
  const HttpResponse& response = outcome.response;
  if (outcome.delivering) {
    answer.token = ReadToken(request, receiver.body());
    return answer;
  }
  answer.no_post = post && (response.status == 405 || response.status == 404);
  answer.again = response.status == 429 || response.status == 408 || response.status >= 500;
  if (const auto wait = response.headers.Find("retry-after"))
    answer.retry_after = ParseRetryAfter(*wait, WallClock::System());
  answer.token = Refusal(request, response);
  return answer;
}

}  // namespace

std::string BasicAuthorization(const std::string& username, const std::string& password) {
  const std::string plain = username + ":" + password;
  std::vector<unsigned char> encoded((plain.size() + 2) / 3 * 4 + 1);
  const int length =
      EVP_EncodeBlock(encoded.data(), AsBytes(plain).data(), static_cast<int>(plain.size()));
  return "Basic " + std::string(encoded.begin(), encoded.begin() + length);
}

std::string BasicAuthorization(const RegistryCredentials& credentials) {
  // "<token>" is what docker's credential helpers say where an identity token has no user.
  const std::string& username = credentials.username;
  const std::string& secret =
      credentials.password.empty() ? credentials.identity_token : credentials.password;
  return BasicAuthorization(username.empty() ? "<token>" : username, secret);
}

Result<Token> FetchToken(const TokenRequest& request, const RegistryOptions& options,
                         HttpClient& http, HostHealth& health, RegistryCounters& counters,
                         const Deadline& deadline) {
  bool post = !request.credentials.identity_token.empty();
  const Result<HostHealth::Leave> leave = health.Ask(deadline);
  if (!leave) return leave.error().Within("the token server is not asked, since it is away");
  Backoff backoff(leave->once() ? 1 : options.attempts, deadline);
  const auto stopped = [&] { return options.stops(); };
  while (true) {
    TokenAnswer answer = Ask(request, post, options, http, health, counters, deadline);
    if (answer.no_post) {
      post = false;
      continue;
    }
    if (!answer.again || !backoff.WaitForNext(answer.retry_after, stopped))
      return std::move(answer.token);
    counters.retries.fetch_add(1);
  }
}

}  // namespace lamina
