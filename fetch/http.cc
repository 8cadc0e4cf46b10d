#include "fetch/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/text.h"
#include "fetch/http_transfer.h"

namespace lamina {
namespace {

constexpr size_t kIdlePerOrigin = 8;
constexpr size_t kIdleInAll = 32;
constexpr std::chrono::seconds kLongestIdle{90};
constexpr std::chrono::milliseconds kIdleEvery{500};
constexpr size_t kMostOrigins = 64;

}  // namespace

// The multi handle owns the connection, the easy handle the buffers.
struct HttpClient::Lane {
  explicit Lane(std::string to)
      : origin(std::move(to)), multi(curl_multi_init()), easy(curl_easy_init()) {
    if (multi != nullptr) curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, 1L);
  }
  ~Lane() {
    if (easy != nullptr) curl_easy_cleanup(easy);
    if (multi != nullptr) curl_multi_cleanup(multi);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  const std::string origin;
  CURLM* const multi;
  CURL* const easy;
  Deadline::Clock::time_point idle_since;
};

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)) {}
HttpClient::~HttpClient() = default;

HttpOutcome HttpClient::Perform(const HttpRequest& request, const Deadline& deadline) {
  const auto came = Deadline::Clock::now();
  const std::shared_ptr<Quota> turns = TurnsOf(request.url.Origin());
  HttpOutcome outcome = PerformInTurn(request, deadline, *turns);
  outcome.queued = outcome.began - came;
  return outcome;
}

HttpOutcome HttpClient::PerformInTurn(const HttpRequest& request, const Deadline& deadline,
                                      Quota& turns) {
  const Deadline bound(std::min(deadline.at(), Deadline::After(options_.longest_turn).at()));
  HttpOutcome outcome;
  outcome.asked = false;
  Quota::Waiting waiting(turns, 1, request.urgency);
  while (true) {
    const auto turn =
        waiting.Until(Deadline(std::min(bound.at(), Deadline::After(kIdleEvery).at())));
    const auto now = Deadline::Clock::now();
    if (turn) outcome = Exchange(request, deadline);
    outcome.began = now;
    if (turn) return outcome;
    if (Status idle = AskIdle(*request.receiver); !idle) {
      outcome.end = HttpOutcome::End::kReceiver;
      outcome.error = std::move(idle).error();
      return outcome;
    }
    if (!bound.passed()) continue;
    outcome.end = HttpOutcome::End::kBroken;
    outcome.error = {Code::kTimeout,
                     fmt::format("{}: all {} connections that there may be to it were busy",
                                 request.url.Origin(), options_.connections)};
    return outcome;
  }
}

std::shared_ptr<Quota> HttpClient::TurnsOf(const std::string& origin) {
  MutexLock lock(mutex_);
  // A registry may redirect to any number of hosts.
  if (turns_.size() >= kMostOrigins && !turns_.contains(origin))
    std::erase_if(turns_, [](const auto& item) { return item.second.use_count() == 1; });
  std::shared_ptr<Quota>& turns = turns_[origin];
  if (!turns) {
    const uint64_t all = std::max<size_t>(1, options_.connections);
    turns = std::make_shared<Quota>(all, all > 1 ? std::max<uint64_t>(1, all / 4) : 0);
  }
  return turns;
}

HttpOutcome HttpClient::Exchange(const HttpRequest& request, const Deadline& deadline) {
  std::unique_ptr<Lane> lane = TakeLane(request.url.Origin());
  if (lane->multi == nullptr || lane->easy == nullptr) {
    HttpOutcome outcome;
    outcome.end = HttpOutcome::End::kBroken;
    outcome.asked = false;
    outcome.error = {Code::kUnavailable, "libcurl has no memory for another connection"};
    return outcome;
  }
  HttpOutcome outcome = HttpTransfer(lane->multi, lane->easy, options_, request, deadline).Run();
  const bool silent =
      outcome.error.code == Code::kTimeout && outcome.end == HttpOutcome::End::kFailed;
  if (outcome.end == HttpOutcome::End::kBroken || silent)
    DropLanes(lane->origin);
  else
    KeepLane(std::move(lane));
  return outcome;
}

// The lane used last is the likeliest to be alive still.
std::unique_ptr<HttpClient::Lane> HttpClient::TakeLane(const std::string& origin) {
  {
    MutexLock lock(mutex_);
    for (size_t i = idle_.size(); i-- > 0;) {
      if (idle_[i]->origin != origin) continue;
      std::unique_ptr<Lane> lane = std::move(idle_[i]);
      idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
      return lane;
    }
  }
  return std::make_unique<Lane>(origin);
}

void HttpClient::KeepLane(std::unique_ptr<Lane> lane) {
  std::vector<std::unique_ptr<Lane>> dropped;  // closing may write to the network: outside the lock
  const auto now = Deadline::Clock::now();
  lane->idle_since = now;
  MutexLock lock(mutex_);
  const auto same = [&](const auto& other) { return other->origin == lane->origin; };
  const bool crowded = std::count_if(idle_.begin(), idle_.end(), same) >= int{kIdlePerOrigin};
  if (crowded) {
    const auto oldest = std::find_if(idle_.begin(), idle_.end(), same);
    dropped.push_back(std::move(*oldest));
    idle_.erase(oldest);
  }
  idle_.push_back(std::move(lane));
  while (idle_.size() > kIdleInAll || now - idle_.front()->idle_since > kLongestIdle) {
    dropped.push_back(std::move(idle_.front()));
    idle_.erase(idle_.begin());
  }
}

// What broke one connection (a router that forgot it, a server that went) has likely broken those
// beside it, and finding that out costs a stall for each.
void HttpClient::DropLanes(const std::string& origin) {
  std::vector<std::unique_ptr<Lane>> dropped;
  MutexLock lock(mutex_);
  for (std::unique_ptr<Lane>& lane : idle_)
    if (lane->origin == origin) dropped.push_back(std::move(lane));
  std::erase(idle_, nullptr);
}

Status AskIdle(HttpReceiver& receiver) try {
  return receiver.Idle();
} catch (const std::exception& failure) {
  return Error{Code::kInternal, std::string("while nothing came: ") + failure.what()};
}

Error BodyReceiver::TooLarge() const {
  return {Code::kLimit, what_ + " is larger than the limit of " + HumanSize(limit_)};
}

Result<HttpReceiver::Next> BodyReceiver::Begin(const HttpResponse& response) {
  body_.clear();
  const auto length = response.headers.Find("content-length");
  if (length && ParseContentLength(*length).value_or(0) > limit_) return TooLarge();
  return Next::kMore;
}

Result<HttpReceiver::Next> BodyReceiver::Receive(ByteSpan bytes) {
  if (bytes.size() > limit_ - body_.size()) return TooLarge();
  body_ += AsText(bytes);
  return Next::kMore;
}

}  // namespace lamina
