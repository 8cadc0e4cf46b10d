#include "fetch/host_healths.h"

#include <utility>
#include <vector>

#include "base/take_unused.h"
#include "fetch/http_headers.h"

namespace lamina {

HostHealths::HostHealths(Url home, Probe probe)
    : home_(std::move(home)), probe_(std::move(probe)), at_home_(Make(home_)) {}

std::shared_ptr<HostHealth> HostHealths::Make(const Url& url) const {
  return std::make_shared<HostHealth>(
      [this, url](HostHealth& health, const std::atomic<bool>& stopping) {
        probe_(url, health, stopping);
      });
}

std::shared_ptr<HostHealth> HostHealths::Known(const std::string& origin) const {
  MutexLock lock(mutex_);
  const auto at = places_.find(origin);
  return at == places_.end() ? nullptr : at->second;
}

std::shared_ptr<HostHealth> HostHealths::Of(const Url& url) {
  if (url.SameOrigin(home_)) return at_home_;
  const std::string origin = url.Origin();
  if (auto known = Known(origin)) return known;
  const Result<Url> root = url.Resolve("/");
  std::shared_ptr<HostHealth> made = Make(root ? *root : url);
  std::vector<std::shared_ptr<HostHealth>> dropped;  // ends probes: outside the lock
  MutexLock lock(mutex_);
  if (places_.size() >= kMostPlaces) dropped = TakeUnused(places_);
  return places_.emplace(origin, std::move(made)).first->second;
}

namespace {

void NotePause(HostHealth& health, const HttpResponse& response, const WallClock& clock) {
  if (response.status != 429 && response.status != 503) return;
  const auto header = response.headers.Find("retry-after");
  const auto wait = header ? ParseRetryAfter(*header, clock) : std::nullopt;
  if (wait)
    health.LeaveAlone(*wait, response.status == 429 ? "it limits the rate of requests (429)"
                                                    : "it cannot serve now (503)");
}

}  // namespace

// A certificate that is not trusted, or a status that is none, comes from somebody who is there.
void NoteOutcome(HostHealth& health, const HttpOutcome& outcome, const WallClock& clock) {
  if (!outcome.asked) return;
  const bool failed = outcome.end == HttpOutcome::End::kFailed;
  if (outcome.response.status != 0 || (failed && outcome.error.code != Code::kTimeout))
    health.Heard();
  else if (failed || outcome.end == HttpOutcome::End::kBroken ||
           outcome.error.code == Code::kTimeout)
    health.Failed(outcome.began, outcome.error);
  NotePause(health, outcome.response, clock);
}

Result<const HostHealth::Leave*> RegistryLeaves::Of(const std::shared_ptr<HostHealth>& health,
                                                    const Deadline& deadline) {
  const auto held = held_.find(health.get());
  if (held != held_.end()) return &held->second.leave;
  ASSIGN_OR_RETURN(HostHealth::Leave leave, health->Ask(deadline));
  return &held_.emplace(health.get(), Held{health, std::move(leave)}).first->second.leave;
}

}  // namespace lamina
