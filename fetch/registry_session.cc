#include "fetch/registry_session.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "fetch/reference.h"
#include "fetch/registry_errors.h"
#include "fetch/retry.h"

namespace lamina {
namespace {

using End = RegistryAnswer::End;

constexpr int kMostRedirects = 5;
// A hasty request is not tried again after so long.
constexpr std::chrono::seconds kHaste{2};

constexpr std::string_view kApi = "/v2";
constexpr uint64_t kMostPemBytes = 16u << 20;

Url BaseUrl(const RegistryEndpoint& endpoint) {
  const Result<Url> url = Url::Parse(endpoint.api);
  // An endpoint comes from a configuration, which has been checked, or from a registry's name.
  return url ? *url : *Url::Parse("https://invalid.invalid/v2");
}

RegistryOptions OptionsAt(RegistryOptions options, const RegistryEndpoint& endpoint) {
  options.connect_timeout = endpoint.connect_timeout.value_or(options.connect_timeout);
  return options;
}

// All CAs in one text.
Result<std::string> ReadPem(const std::vector<std::string>& files) {
  std::string pem;
  for (const std::string& file : files) {
    const auto text = ReadWholeFile(file, kMostPemBytes);
    if (!text)
      return Error{Code::kInvalid, "TLS: the CA file cannot be read: " + text.error().message};
    pem += *text + "\n";
  }
  return pem;
}

HttpOptions HttpOptionsOf(const RegistryOptions& options, const RegistryEndpoint& endpoint,
                          std::optional<Error>* unusable) {
  const TlsOptions& tls = endpoint.tls;
  const auto own = options.connections_of.find(endpoint.host);
  HttpOptions http{
      .ca_pem = {},
      .origin = BaseUrl(endpoint).Origin(),
      .client_cert = tls.client_cert,
      .client_key = tls.client_key,
      .skip_verify = tls.skip_verify,
      .user_agent = options.user_agent,
      .connect_timeout = options.connect_timeout,
      .stall_timeout = options.stall_timeout,
      .connections = own == options.connections_of.end() ? options.connections : own->second,
      .longest_turn = options.longest_turn};
  auto pem = ReadPem(tls.ca_files);
  if (pem)
    http.ca_pem = *std::move(pem);
  else
    *unusable = pem.error();
  return http;
}

std::string AcceptHeader(const std::vector<std::string>& types) {
  std::string out = "Accept: ";
  for (const std::string& type : types) {
    if (&type != &types.front()) out += ", ";
    out += type;
  }
  return types.empty() ? out + "*/*" : out;
}

// Tells that the host lives while a long body is still coming.
class HeardReceiver : public HttpReceiver {
 public:
  HeardReceiver(HttpReceiver* receiver, HostHealth* health)
      : receiver_(receiver), health_(health) {}
  Result<Next> Begin(const HttpResponse& response) override {
    health_->Heard();
    return receiver_->Begin(response);
  }
  Result<Next> Receive(ByteSpan bytes) override {
    health_->Heard();
    return receiver_->Receive(bytes);
  }
  Status Idle() override { return receiver_->Idle(); }

 private:
  HttpReceiver* const receiver_;
  HostHealth* const health_;
};

// Wants nothing but that an answer comes.
class ProbeReceiver : public HttpReceiver {
 public:
  explicit ProbeReceiver(const std::atomic<bool>& stopping) : stopping_(stopping) {}
  Result<Next> Begin(const HttpResponse&) override { return Next::kEnough; }
  Result<Next> Receive(ByteSpan) override { return Next::kEnough; }
  Status Idle() override {
    if (stopping_) return Error{Code::kCancelled, "nobody asks any more"};
    return {};
  }

 private:
  const std::atomic<bool>& stopping_;
};

// The last word of a header's value, as of "Authorization: Bearer SECRET".
std::string SecretOfHeader(const std::string& header) {
  return header.substr(header.find_last_of(" :") + 1);
}

bool IsRefusal(int status) { return status == 401 || status == 403; }

}  // namespace

std::optional<Url> RedirectCache::Get() const {
  MutexLock lock(mutex_);
  return url_;
}

void RedirectCache::Set(const Url& url) {
  MutexLock lock(mutex_);
  url_ = url;
}

void RedirectCache::Drop(const Url& url) {
  MutexLock lock(mutex_);
  if (url_ && url_->text() == url.text()) url_.reset();
}

RegistrySession::RegistrySession(RegistryEndpoint endpoint, RegistryOptions options,
                                 std::shared_ptr<RegistryCounters> counters)
    : endpoint_(std::move(endpoint)),
      options_(OptionsAt(std::move(options), endpoint_)),
      base_(BaseUrl(endpoint_)),
      counters_(std::move(counters)),
      http_(HttpOptionsOf(options_, endpoint_, &unusable_)),
      healths_(base_, [this](const Url& url, HostHealth& health,
                             const std::atomic<bool>& stopping) { Probe(url, health, stopping); }),
      auth_(endpoint_.host, base_, &options_, &http_, &healths_, counters_.get()) {}

std::string RegistrySession::origin() const {
  std::string text = endpoint_.api;
  if (text.ends_with(kApi)) text.resize(text.size() - kApi.size());
  return text;
}

Error RegistrySession::Failure(Code code, const std::string& what,
                               const std::string& reason) const {
  return {code, fmt::format("{}: {}: {}", EscapeControl(endpoint_.host), what, reason)};
}

RegistryAnswer RegistrySession::Refuse(const RegistryRequest& request, const Error& error) const {
  RegistryAnswer answer;
  answer.error = Failure(error.code, request.what, error.message);
  return answer;
}

RegistryAnswer RegistrySession::Run(const RegistryRequest& request, const Deadline& deadline) {
  const Deadline haste(std::min(deadline.at(), Deadline::After(kHaste).at()));
  RegistryLeaves leaves;
  Backoff backoff(options_.attempts, request.hasty ? haste : deadline);
  const auto stopped = [this] { return options_.stops(); };
  while (true) {
    RegistryAnswer answer = Try(request, leaves, deadline);
    if (answer.end != End::kAgain || !backoff.WaitForNext(answer.retry_after, stopped))
      return answer;
    counters_->retries.fetch_add(1);
  }
}

// One try, with what its requests have in common.
struct RegistrySession::Attempt {
  const RegistryRequest& request;
  RegistryLeaves& leaves;
  Deadline deadline;
  Deadline::Clock::duration queued{0};
  bool refused_elsewhere = false;
  // Of the last request:
  bool away = false;     // not sent, since its place is away
  bool in_vain = false;  // nothing was heard of a place that was away before
  // Not sent, since its place is to be left alone for so long.
  std::optional<std::chrono::milliseconds> pause = {};
};

RegistryAnswer RegistrySession::Try(const RegistryRequest& request, RegistryLeaves& leaves,
                                    const Deadline& deadline) {
  if (unusable_) return Refuse(request, *unusable_);
  Attempt attempt{.request = request, .leaves = leaves, .deadline = deadline};
  std::optional<RegistryAnswer> answer = FromCache(attempt);
  if (!answer) {
    answer = FromRegistry(attempt);
    // A signed URL ended on the way: the registry gives another.
    if (attempt.refused_elsewhere) answer = FromRegistry(attempt);
  }
  answer->queued = attempt.queued;
  if (answer->end == End::kAgain && attempt.in_vain) answer->end = End::kFailed;
  if (attempt.pause) answer->retry_after = attempt.pause;
  return *std::move(answer);
}

// Nothing where there is no redirect to go to at once, or where that fails before the receiver got
// anything.
std::optional<RegistryAnswer> RegistrySession::FromCache(Attempt& attempt) {
  const RegistryRequest& request = attempt.request;
  if (request.redirects == nullptr) return std::nullopt;
  const std::optional<Url> url = request.redirects->Get();
  if (!url) return std::nullopt;
  HttpOutcome outcome = Send(attempt, *url, /*at_home=*/false, "");
  // What failed here says nothing of the place. One that is away may no more be the right one.
  const bool ours = !attempt.away && (!outcome.asked || outcome.end == HttpOutcome::End::kReceiver);
  const bool delivering = outcome.delivering;
  RegistryAnswer answer = Judge(request, *url, std::move(outcome), "");
  if (answer.end == End::kDone) return answer;
  if (ours && !delivering) return answer;
  request.redirects->Drop(*url);
  if (!delivering) return std::nullopt;
  return answer;
}

// Where a request is on its way from the registry through its redirects.
struct RegistrySession::Walk {
  Url url;
  bool at_home = true;  // every hop so far had the registry's own origin
  bool renewed = false;
  int hops = 0;
};

RegistryAnswer RegistrySession::FromRegistry(Attempt& attempt) {
  const RegistryRequest& request = attempt.request;
  attempt.refused_elsewhere = false;
  Result<Url> start = UrlOf(request);
  if (!start) return Refuse(request, start.error());
  // What the first hop is sent belongs to the registry, so nothing that a target says leads
  // elsewhere.
  if (!start->SameOrigin(base_))
    return Refuse(request, {Code::kInvalid, "it is on another server, " + start->Origin()});
  // Before a token server is asked, which would be in vain.
  if (auto withheld = Withhold(attempt, *start))
    return Judge(request, *start, *std::move(withheld), "");
  Result<RegistryAuth::Grant> grant = auth_.Current(request.scope, attempt.deadline);
  if (!grant) return Refuse(request, grant.error());
  Walk walk{.url = *start};
  while (true) {
    const std::string authorization = walk.at_home ? grant->header : "";
    HttpOutcome outcome = Send(attempt, walk.url, walk.at_home, authorization);
    const HttpResponse& response = outcome.response;
    const bool whole = outcome.end == HttpOutcome::End::kAnswered;
    if (whole && IsRedirect(response.status) && response.headers.Find("location")) {
      if (++walk.hops > kMostRedirects)
        return Refuse(request, {Code::kUnavailable, "it redirects more than 5 times"});
      Result<Url> next = NextHop(walk.url, response.headers);
      if (!next) return Refuse(request, next.error());
      walk.url = std::move(*next);
      walk.at_home = walk.at_home && walk.url.SameOrigin(base_);
      continue;
    }
    if (whole && response.status == 401 && walk.at_home && !walk.renewed) {
      grant = auth_.Renew(request.scope, *grant, response.headers, attempt.deadline);
      if (!grant) return Refuse(request, grant.error());
      walk = Walk{.url = *start, .renewed = true};
      continue;
    }
    attempt.refused_elsewhere = whole && !walk.at_home && IsRefusal(response.status);
    RegistryAnswer answer = Judge(request, walk.url, std::move(outcome), authorization);
    const bool elsewhere = !walk.at_home && answer.end == End::kDone;
    if (elsewhere && request.redirects != nullptr) request.redirects->Set(walk.url);
    return answer;
  }
}

// `ns` tells a mirror of many registries which one is meant, as containerd tells it.
Result<Url> RegistrySession::UrlOf(const RegistryRequest& request) const {
  std::string target = request.target;
  if (!request.as_linked && target.starts_with("/v2/"))
    target = base_.Target() + target.substr(kApi.size());
  ASSIGN_OR_RETURN(Url url, base_.Resolve(target));
  const bool told = request.as_linked && (target.find("?ns=") != std::string::npos ||
                                          target.find("&ns=") != std::string::npos);
  if (endpoint_.ns.empty() || told) return url;
  return url.WithQuery({{"ns", endpoint_.ns}});
}

// Whatever it answers, it is there.
void RegistrySession::Probe(const Url& url, HostHealth& health, const std::atomic<bool>& stopping) {
  ProbeReceiver receiver(stopping);
  HttpRequest message{.url = url, .headers = {}, .form = {}};
  message.receiver = &receiver;
  counters_->requests.fetch_add(1);
  const auto patience = options_.connect_timeout + options_.stall_timeout;
  NoteOutcome(health, http_.Perform(message, Deadline::After(patience)), *options_.clock);
}

// The outcome of a request that is not sent.
std::optional<HttpOutcome> RegistrySession::Withhold(Attempt& attempt, const Url& url) {
  const std::shared_ptr<HostHealth> health = healths_.Of(url);
  attempt.away = attempt.in_vain = false;
  attempt.pause.reset();
  HttpOutcome outcome;
  outcome.asked = false;
  if (const auto pause = health->Paused()) {
    attempt.pause = pause->left;
    outcome.end = HttpOutcome::End::kBroken;
    outcome.error = pause->Refusal(url.Origin());
    return outcome;
  }
  const auto leave = attempt.leaves.Of(health, attempt.deadline);
  attempt.away = !leave;
  attempt.in_vain = leave && (*leave)->once();
  if (leave) return std::nullopt;
  outcome.error = leave.error().Within("not asked, since it is away");
  return outcome;
}

// What the configuration adds goes to the host itself, and gives way to what it has asked for.
void RegistrySession::AddHeaders(bool authorized, std::vector<std::string>* headers) const {
  static constexpr std::string_view kAuthorization = "authorization:";
  for (const std::string& header : endpoint_.headers)
    if (!authorized ||
        ::strncasecmp(header.c_str(), kAuthorization.data(), kAuthorization.size()) != 0)
      headers->push_back(header);
}

HttpOutcome RegistrySession::Send(Attempt& attempt, const Url& url, bool at_home,
                                  const std::string& authorization) {
  const RegistryRequest& request = attempt.request;
  if (auto withheld = Withhold(attempt, url)) return *std::move(withheld);
  const std::shared_ptr<HostHealth> health = healths_.Of(url);
  HttpRequest message{.url = url, .headers = {AcceptHeader(request.accept)}, .form = {}};
  // Digests are of the stored bytes. A Content-Encoding that comes nevertheless is a label that
  // object stores keep with compressed layers; libcurl is not told to act on it.
  message.headers.emplace_back("Accept-Encoding: identity");
  if (!authorization.empty()) message.headers.push_back("Authorization: " + authorization);
  if (!request.range.empty()) message.headers.push_back("Range: " + request.range);
  HeardReceiver receiver(request.receiver, health.get());
  message.receiver = &receiver;
  message.head = request.head;
  message.urgency = request.urgency;
  if (at_home) AddHeaders(!authorization.empty(), &message.headers);
  const Deadline never(Deadline::Clock::time_point::max());
  HttpOutcome outcome = http_.Perform(message, request.bounded ? attempt.deadline : never);
  if (outcome.asked) counters_->requests.fetch_add(1);
  if (outcome.asked && !request.range.empty()) counters_->range_requests.fetch_add(1);
  attempt.queued += outcome.queued;
  if (!request.bounded) attempt.deadline = Deadline(attempt.deadline.at() + outcome.queued);
  NoteOutcome(*health, outcome, *options_.clock);
  // "Once" was said of one that was away.
  if (outcome.response.status != 0) attempt.leaves.Drop(*health);
  if (outcome.response.status != 0) attempt.in_vain = false;
  return outcome;
}

Result<Url> RegistrySession::NextHop(const Url& from, const HttpHeaders& headers) const {
  Result<Url> next = from.Resolve(*headers.Find("location"));
  if (!next) return next.error().Within("it redirects to a bad place");
  const std::string where = "it redirects to " + next->Origin();
  if (from.https() && !next->https())
    return Error{Code::kDenied, where + ", from TLS to plain HTTP, which is not followed"};
  const bool plain_allowed = endpoint_.insecure || IsLoopbackHost(next->host());
  if (!next->https() && !plain_allowed)
    return Error{Code::kDenied, where + " without TLS, which is not followed"};
  return next;
}

RegistryAnswer RegistrySession::Judge(const RegistryRequest& request, const Url& url,
                                      HttpOutcome outcome, const std::string& authorization) const {
  RegistryAnswer answer;
  answer.status = outcome.response.status;
  answer.url = url;
  if (outcome.end != HttpOutcome::End::kAnswered) {
    const bool receivers = outcome.end == HttpOutcome::End::kReceiver;
    answer.end = outcome.end == HttpOutcome::End::kBroken ? End::kAgain : End::kFailed;
    answer.error = receivers ? outcome.error
                             : Failure(outcome.error.code, request.what, outcome.error.message);
    return answer;
  }
  if (outcome.delivering) {
    answer.end = End::kDone;
    answer.headers = std::move(outcome.response.headers);
    return answer;
  }
  if (IsWorthRepeating(answer.status)) answer.end = End::kAgain;
  if (const auto wait = outcome.response.headers.Find("retry-after"))
    answer.retry_after = ParseRetryAfter(*wait, *options_.clock);
  // Words of the host that repeat what was sent to it are not shown.
  for (const std::string& header : endpoint_.headers)
    if (outcome.response.error_body.find(SecretOfHeader(header)) != std::string::npos)
      outcome.response.error_body.clear();
  const Error error = ErrorOfStatus(outcome.response, authorization);
  const std::string via = url.SameOrigin(base_) ? "" : "redirected to " + url.Origin() + ": ";
  answer.error = Failure(error.code, request.what, via + error.message);
  return answer;
}

}  // namespace lamina
