#pragma once

// HostHealths: the health of a registry's host and of the places that it sends us to (redirects,
// token servers), by origin. Of the places it remembers so many. Any thread; may block as
// HostHealth's destructor does.

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "fetch/host_health.h"
#include "fetch/http.h"
#include "fetch/url.h"

namespace lamina {

class HostHealths {
 public:
  static constexpr size_t kMostPlaces = 32;
  // As HostHealth::Probe, at `url`.
  using Probe =
      std::function<void(const Url& url, HostHealth& health, const std::atomic<bool>& stopping)>;

  // `home` is asked for the host itself, of another place its root.
  HostHealths(Url home, Probe probe);

  // Of the origin of `url`.
  std::shared_ptr<HostHealth> Of(const Url& url);

 private:
  std::shared_ptr<HostHealth> Make(const Url& url) const;
  std::shared_ptr<HostHealth> Known(const std::string& origin) const;

  const Url home_;
  const Probe probe_;
  const std::shared_ptr<HostHealth> at_home_;
  mutable Mutex mutex_;  // leaf
  std::map<std::string, std::shared_ptr<HostHealth>> places_ GUARDED_BY(mutex_);
};

// What came of a request to the host; with how long it wants to be left alone by `clock`.
void NoteOutcome(HostHealth& health, const HttpOutcome& outcome, const WallClock& clock);

// The leave of one request, for all its attempts, to ask each place that it is sent to. One thread.
class RegistryLeaves {
 public:
  // Leave of this health, had earlier or asked for now.
  Result<const HostHealth::Leave*> Of(const std::shared_ptr<HostHealth>& health,
                                      const Deadline& deadline);
  // It has answered: what comes next asks anew.
  void Drop(const HostHealth& health) { held_.erase(&health); }

 private:
  // The leave goes before the health that it is of.
  struct Held {
    std::shared_ptr<HostHealth> health;
    HostHealth::Leave leave;
  };
  std::map<const HostHealth*, Held> held_;
};

}  // namespace lamina
