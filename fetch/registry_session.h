#pragma once

// RegistrySession: requests to one host of a registry with everything that makes them arrive:
// scheme, authorisation, redirects by hand, repetition. What the answers mean is the business of
// its users. Any thread; blocks at most to the deadline.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fetch/host_healths.h"
#include "fetch/http.h"
#include "fetch/registry.h"
#include "fetch/registry_auth.h"

namespace lamina {

// Where the registry sent us for a blob, to go there at once next time. Any thread.
class RedirectCache {
 public:
  std::optional<Url> Get() const;
  void Set(const Url& url);
  // Unless another has been set meanwhile.
  void Drop(const Url& url);

 private:
  mutable Mutex mutex_;  // leaf
  std::optional<Url> url_ GUARDED_BY(mutex_);
};

struct RegistryRequest {
  std::string target;      // "/v2/library/debian/tags/list?n=1000"; /v2 stands for the host's API
  bool as_linked = false;  // the target is a path of the host's own, which its answer has named
  std::string scope;       // "repository:library/debian:pull"; empty for the registry itself
  std::string what;        // for messages: "manifest 'latest' of library/debian"
  std::vector<std::string> accept;  // media types, most wanted first
  std::string range;                // "bytes=0-99", or empty
  bool head = false;                // a HEAD: only the answer's headers are wanted
  HttpReceiver* receiver = nullptr;
  RedirectCache* redirects = nullptr;  // may be null
  Urgency urgency = Urgency::kReader;
  bool bounded =
      true;  // false: the answer's body may take longer than the deadline, as long as bytes come
  bool hasty = false;  // there is something else to go by: what has failed after long is not tried
                       // again
};

// What one attempt, or all of them, came to.
struct RegistryAnswer {
  enum class End {
    kDone,    // a 2xx answer came wholly, or as far as the receiver wanted
    kAgain,   // worth another try
    kFailed,  // not worth it
  };
  End end = End::kFailed;
  Error error;  // unless kDone; names host, what and reason
  std::optional<std::chrono::milliseconds> retry_after;
  // How long its requests waited for their turn: that is not the host's time.
  Deadline::Clock::duration queued{0};
  int status = 0;          // of the answer; 0 where none came
  std::optional<Url> url;  // where it came from, after redirects; there unless no request was sent
  HttpHeaders headers;     // of a 2xx answer
};

class RegistrySession {
 public:
  RegistrySession(RegistryEndpoint endpoint, RegistryOptions options,
                  std::shared_ptr<RegistryCounters> counters);

  // False where its certificates cannot be read: then every request fails and says so.
  bool usable() const { return !unusable_; }

  // One attempt: asks for authorisation when told to, follows redirects, starts anew once when the
  // target of a redirect refuses. Nothing is sent to a place that is known to be away or wants to
  // be left alone; `leaves` are those of the request, for all its attempts. Of an unbounded request
  // the deadline moves by the time that it waits for its turn.
  RegistryAnswer Try(const RegistryRequest& request, RegistryLeaves& leaves,
                     const Deadline& deadline);
  // As often as the options allow.
  RegistryAnswer Run(const RegistryRequest& request, const Deadline& deadline);

  // "<host>: <what>: <reason>"
  Error Failure(Code code, const std::string& what, const std::string& reason) const;

  const std::string& host() const { return endpoint_.host; }
  const Url& base() const { return base_; }
  // "https://mirror.example/prefix": where its API is, for messages and to tell hosts apart.
  std::string origin() const;
  const RegistryOptions& options() const { return options_; }
  RegistryCounters& counters() { return *counters_; }

 private:
  struct Walk;
  struct Attempt;
  RegistryAnswer FromRegistry(Attempt& attempt);
  std::optional<RegistryAnswer> FromCache(Attempt& attempt);
  Result<Url> UrlOf(const RegistryRequest& request) const;
  void Probe(const Url& url, HostHealth& health, const std::atomic<bool>& stopping);
  std::optional<HttpOutcome> Withhold(Attempt& attempt, const Url& url);
  void AddHeaders(bool authorized, std::vector<std::string>* headers) const;
  HttpOutcome Send(Attempt& attempt, const Url& url, bool at_home,
                   const std::string& authorization);
  Result<Url> NextHop(const Url& from, const HttpHeaders& headers) const;
  RegistryAnswer Judge(const RegistryRequest& request, const Url& url, HttpOutcome outcome,
                       const std::string& authorization) const;
  RegistryAnswer Refuse(const RegistryRequest& request, const Error& error) const;

  const RegistryEndpoint endpoint_;
  const RegistryOptions options_;
  const Url base_;
  const std::shared_ptr<RegistryCounters> counters_;
  std::optional<Error> unusable_;  // what is wrong with its certificates
  HttpClient http_;
  HostHealths healths_;  // its probes use what is above
  RegistryAuth auth_;
};

}  // namespace lamina
