#pragma once

// RegistryAuth: the Authorization header of one registry, per scope: none, Basic or a Bearer token.
// A token is asked for once however many readers need it, kept until shortly before it ends and
// asked for again when the registry refuses it. Credentials go to the registry and to the token
// server it names, if that is an honest place (see CheckRealm), and nowhere else. Any thread; waits
// end at the deadline.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fetch/auth_challenge.h"
#include "fetch/host_healths.h"
#include "fetch/http.h"
#include "fetch/registry.h"

namespace lamina {

// kDenied unless a token server may stand at `realm`: a registry over TLS is never answered without
// it; on another host and port than the registry's only https, and no address literal of an
// internal range.
Status CheckRealm(const Url& realm, const Url& registry);

class RegistryAuth {
 public:
  // An Authorization value as it was at one time.
  struct Grant {
    std::string header;       // empty: nothing is sent
    uint64_t generation = 0;  // counts the grants of a scope; 0 before the first
  };

  // `registry` is the name by which credentials are asked for. The pointers outlive this object.
  RegistryAuth(std::string registry, Url base, const RegistryOptions* options, HttpClient* http,
               HostHealths* healths, RegistryCounters* counters);

  // What to send for `scope` ("repository:library/debian:pull", or empty for the registry itself)
  // now. A token that is about to end is renewed here.
  Result<Grant> Current(const std::string& scope, const Deadline& deadline);

  // The registry answered 401 with these headers to a request that carried `refused`: another
  // grant, made here or by another thread meanwhile.
  Result<Grant> Renew(const std::string& scope, const Grant& refused, const HttpHeaders& headers,
                      const Deadline& deadline);

 private:
  struct Entry;
  struct Fresh {
    std::string header;
    std::optional<int64_t> renew_at_ns;  // on the wall clock; none for Basic
  };

  std::shared_ptr<Entry> Find(const std::string& scope);
  void DropOldest() REQUIRES(mutex_);
  Result<Grant> Lead(Entry& entry, const AuthChallenge& challenge, const std::string& scope,
                     const Deadline& deadline);
  Result<AuthChallenge> Choose(const HttpHeaders& headers) const;
  Result<Fresh> Obtain(const AuthChallenge& challenge, const std::string& scope,
                       const Deadline& deadline);
  Result<Fresh> ObtainBasic(const std::string& scope) const;
  Result<Fresh> ObtainToken(const AuthChallenge& challenge, const std::string& scope,
                            const Deadline& deadline);
  RegistryCredentials Credentials(const std::string& scope) const;

  const std::string registry_;
  const Url base_;
  const RegistryOptions* const options_;
  HttpClient* const http_;
  HostHealths* const healths_;
  RegistryCounters* const counters_;

  Mutex mutex_;  // leaf; guards the entries' members too
  CondVar changed_;
  std::map<std::string, std::shared_ptr<Entry>> entries_ GUARDED_BY(mutex_);
  uint64_t uses_ GUARDED_BY(mutex_) = 0;
};

}  // namespace lamina
