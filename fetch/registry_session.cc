#include "fetch/registry_session.h"

#include <fmt/format.h>

#include <utility>

#include "base/text.h"
#include "fetch/reference.h"
#include "fetch/registry_errors.h"
#include "fetch/retry.h"

namespace lamina {
namespace {

using End = RegistryAnswer::End;

constexpr int kMostRedirects = 5;

Url BaseUrl(const std::string& host, const RegistryOptions& options) {
  const bool plain = options.insecure || (IsLoopbackRegistry(host) && options.ca_file.empty());
  const std::string asked = host == "docker.io" ? "registry-1.docker.io" : host;
  const Result<Url> url =
      Url::Parse(IsValidRegistry(host) ? (plain ? "http://" : "https://") + asked : "");
  // No request is made for a name that is no host: Registry refuses it first.
  return url ? *url : *Url::Parse("https://invalid.invalid");
}

HttpOptions HttpOptionsOf(const std::string& host, const RegistryOptions& options) {
  const auto own = options.connections_of.find(host);
  return {.ca_file = options.ca_file,
          .user_agent = options.user_agent,
          .connect_timeout = options.connect_timeout,
          .stall_timeout = options.stall_timeout,
          .connections = own == options.connections_of.end() ? options.connections : own->second};
}

std::string AcceptHeader(const std::vector<std::string>& types) {
  std::string out = "Accept: ";
  for (const std::string& type : types) {
    if (&type != &types.front()) out += ", ";
    out += type;
  }
  return types.empty() ? out + "*/*" : out;
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

RegistrySession::RegistrySession(const std::string& host, RegistryOptions options)
    : host_(host),
      options_(std::move(options)),
      base_(BaseUrl(host_, options_)),
      http_(HttpOptionsOf(host_, options_)),
      auth_(host_, base_, &options_, &http_, &counters_) {}

Error RegistrySession::Failure(Code code, const std::string& what,
                               const std::string& reason) const {
  return {code, fmt::format("{}: {}: {}", EscapeControl(host_), what, reason)};
}

RegistryAnswer RegistrySession::Refuse(const RegistryRequest& request, const Error& error) const {
  RegistryAnswer answer;
  answer.error = Failure(error.code, request.what, error.message);
  return answer;
}

RegistryAnswer RegistrySession::Run(const RegistryRequest& request, const Deadline& deadline) {
  Backoff backoff(options_.attempts, deadline);
  while (true) {
    RegistryAnswer answer = Try(request, deadline);
    if (answer.end != End::kAgain || !backoff.WaitForNext(answer.retry_after)) return answer;
    counters_.retries.fetch_add(1);
  }
}

RegistryAnswer RegistrySession::Try(const RegistryRequest& request, const Deadline& deadline) {
  if (std::optional<RegistryAnswer> answer = FromCache(request, deadline))
    return std::move(*answer);
  bool refused_elsewhere = false;
  RegistryAnswer answer = FromRegistry(request, deadline, &refused_elsewhere);
  // A signed URL ended on the way: the registry gives another.
  if (refused_elsewhere) answer = FromRegistry(request, deadline, &refused_elsewhere);
  return answer;
}

// Nothing where there is no redirect to go to at once, or where that fails before the receiver got
// anything.
std::optional<RegistryAnswer> RegistrySession::FromCache(const RegistryRequest& request,
                                                         const Deadline& deadline) {
  if (request.redirects == nullptr) return std::nullopt;
  const std::optional<Url> url = request.redirects->Get();
  if (!url) return std::nullopt;
  HttpOutcome outcome = Send(request, *url, "", deadline);
  const bool delivering = outcome.delivering;
  RegistryAnswer answer = Judge(request, *url, std::move(outcome), "");
  if (answer.end == End::kDone) return answer;
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

RegistryAnswer RegistrySession::FromRegistry(const RegistryRequest& request,
                                             const Deadline& deadline, bool* refused_elsewhere) {
  *refused_elsewhere = false;
  Result<Url> start = base_.Resolve(request.target);
  if (!start) return Refuse(request, start.error());
  // What the first hop is sent belongs to the registry, so nothing that a target says leads
  // elsewhere.
  if (!start->SameOrigin(base_))
    return Refuse(request, {Code::kInvalid, "it is on another server, " + start->Origin()});
  Result<RegistryAuth::Grant> grant = auth_.Current(request.scope, deadline);
  if (!grant) return Refuse(request, grant.error());
  Walk walk{.url = *start};
  while (true) {
    const std::string authorization = walk.at_home ? grant->header : "";
    HttpOutcome outcome = Send(request, walk.url, authorization, deadline);
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
      grant = auth_.Renew(request.scope, *grant, response.headers, deadline);
      if (!grant) return Refuse(request, grant.error());
      walk = Walk{.url = *start, .renewed = true};
      continue;
    }
    *refused_elsewhere = whole && !walk.at_home && IsRefusal(response.status);
    RegistryAnswer answer = Judge(request, walk.url, std::move(outcome), authorization);
    const bool elsewhere = !walk.at_home && answer.end == End::kDone;
    if (elsewhere && request.redirects != nullptr) request.redirects->Set(walk.url);
    return answer;
  }
}

HttpOutcome RegistrySession::Send(const RegistryRequest& request, const Url& url,
                                  const std::string& authorization, const Deadline& deadline) {
  HttpRequest message{.url = url, .headers = {AcceptHeader(request.accept)}, .form = {}};
  // Digests are of the stored bytes. A Content-Encoding that comes nevertheless is a label that
  // object stores keep with compressed layers; libcurl is not told to act on it.
  message.headers.emplace_back("Accept-Encoding: identity");
  if (!authorization.empty()) message.headers.push_back("Authorization: " + authorization);
  if (!request.range.empty()) message.headers.push_back("Range: " + request.range);
  message.receiver = request.receiver;
  message.head = request.head;
  message.urgency = request.urgency;
  counters_.requests.fetch_add(1);
  if (!request.range.empty()) counters_.range_requests.fetch_add(1);
  const Deadline never(Deadline::Clock::time_point::max());
  return http_.Perform(message, request.bounded ? deadline : never);
}

Result<Url> RegistrySession::NextHop(const Url& from, const HttpHeaders& headers) const {
  Result<Url> next = from.Resolve(*headers.Find("location"));
  if (!next) return next.error().Within("it redirects to a bad place");
  const std::string where = "it redirects to " + next->Origin();
  if (from.https() && !next->https())
    return Error{Code::kDenied, where + ", from TLS to plain HTTP, which is not followed"};
  const bool plain_allowed = options_.insecure || IsLoopbackHost(next->host());
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
  const Error error = ErrorOfStatus(outcome.response, authorization);
  const std::string via = url.SameOrigin(base_) ? "" : "redirected to " + url.Origin() + ": ";
  answer.error = Failure(error.code, request.what, via + error.message);
  return answer;
}

}  // namespace lamina
