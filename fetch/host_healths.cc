#include "fetch/host_healths.h"

#include <utility>
#include <vector>

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
  if (places_.size() >= kMostPlaces)
    std::erase_if(places_, [&](const auto& item) {
      const bool unused = item.second.use_count() == 1;
      if (unused) dropped.push_back(item.second);
      return unused;
    });
  return places_.emplace(origin, std::move(made)).first->second;
}

void NoteOutcome(HostHealth& health, const HttpOutcome& outcome) {
  if (!outcome.asked) return;
  if (outcome.response.status != 0)
    health.Heard();
  else if (outcome.end == HttpOutcome::End::kBroken || outcome.error.code == Code::kTimeout)
    health.Failed(outcome.began, outcome.error);
}

Result<const HostHealth::Leave*> RegistryLeaves::Of(const std::shared_ptr<HostHealth>& health,
                                                    const Deadline& deadline) {
  const auto held = held_.find(health.get());
  if (held != held_.end()) return &held->second.leave;
  ASSIGN_OR_RETURN(HostHealth::Leave leave, health->Ask(deadline));
  return &held_.emplace(health.get(), Held{health, std::move(leave)}).first->second.leave;
}

}  // namespace lamina
