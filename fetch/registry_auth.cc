#include "fetch/registry_auth.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "fetch/token_request.h"

namespace lamina {
namespace {

constexpr size_t kMostScopes = 512;
// A token is renewed this long before its end, so that it does not end on the way.
constexpr std::chrono::seconds kRenewalMargin{10};

// "library/debian" of "repository:library/debian:pull"; empty of other scopes.
std::string RepositoryOf(const std::string& scope) {
  const auto parts = Split(scope, ':');
  return parts.size() == 3 && parts[0] == "repository" ? std::string(parts[1]) : std::string();
}

}  // namespace

// Guarded by RegistryAuth's mutex, in whose file alone it is seen.
struct RegistryAuth::Entry {
  std::optional<AuthChallenge> challenge;  // of the last 401
  Grant grant;
  std::optional<int64_t> renew_at_ns;
  bool busy = false;           // somebody is obtaining a grant
  uint64_t flights = 0;        // how often that has ended
  std::optional<Error> error;  // how the last one ended
  uint64_t last_use = 0;
};

Status CheckRealm(const Url& realm, const Url& registry) {
  const std::string where = "the token server " + realm.Origin() + " that it names";
  if (registry.https() && !realm.https())
    return Error{Code::kDenied, where + " has no TLS: nothing is sent there"};
  if (realm.host() == registry.host() && realm.port() == registry.port()) return {};
  if (!realm.https())
    return Error{Code::kDenied, where + " is another one without TLS: nothing is sent there"};
  if (IsInternalHost(realm.host()))
    return Error{Code::kDenied, where + " is an internal address: nothing is sent there"};
  return {};
}

RegistryAuth::RegistryAuth(std::string registry, Url base, const RegistryOptions* options,
                           HttpClient* http, HostHealths* healths, RegistryCounters* counters)
    : registry_(std::move(registry)),
      base_(std::move(base)),
      options_(options),
      http_(http),
      healths_(healths),
      counters_(counters) {}

void RegistryAuth::DropOldest() {
  auto oldest = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at)
    if (!at->second->busy &&
        (oldest == entries_.end() || at->second->last_use < oldest->second->last_use))
      oldest = at;
  if (oldest != entries_.end()) entries_.erase(oldest);
}

std::shared_ptr<RegistryAuth::Entry> RegistryAuth::Find(const std::string& scope) {
  MutexLock lock(mutex_);
  const auto found = entries_.find(scope);
  if (found != entries_.end()) {
    found->second->last_use = ++uses_;
    return found->second;
  }
  if (entries_.size() >= kMostScopes) DropOldest();
  auto entry = std::make_shared<Entry>();
  entry->last_use = ++uses_;
  entries_.emplace(scope, entry);
  return entry;
}

Result<RegistryAuth::Grant> RegistryAuth::Current(const std::string& scope,
                                                  const Deadline& deadline) {
  const std::shared_ptr<Entry> entry = Find(scope);
  AuthChallenge challenge;
  Grant old;
  {
    MutexLock lock(mutex_);
    while (true) {
      const bool ending = entry->renew_at_ns && options_->clock->NowNs() >= *entry->renew_at_ns;
      if (!ending) return entry->grant;
      if (!entry->busy) break;
      if (!changed_.WaitUntil(mutex_, deadline) && deadline.passed())
        return Error{Code::kTimeout, "no token in time"};
    }
    entry->busy = true;
    challenge = *entry->challenge;
    old = entry->grant;
  }
  // The old one lives a little longer, and if it does not, the registry's 401 tells the reason.
  Result<Grant> renewed = Lead(*entry, challenge, scope, deadline);
  return renewed ? renewed : old;
}

Result<RegistryAuth::Grant> RegistryAuth::Renew(const std::string& scope, const Grant& refused,
                                                const HttpHeaders& headers,
                                                const Deadline& deadline) {
  ASSIGN_OR_RETURN(const AuthChallenge challenge, Choose(headers));
  const std::shared_ptr<Entry> entry = Find(scope);
  {
    MutexLock lock(mutex_);
    while (entry->grant.generation == refused.generation && entry->busy) {
      const uint64_t flight = entry->flights;
      if (!changed_.WaitUntil(mutex_, deadline) && deadline.passed())
        return Error{Code::kTimeout, "no token in time"};
      // The failure of the one who asked is everybody's, unless it is only that its time was up.
      if (entry->flights != flight && entry->error && entry->error->code != Code::kTimeout)
        return *entry->error;
    }
    if (entry->grant.generation != refused.generation) return entry->grant;
    entry->busy = true;
    entry->challenge = challenge;
  }
  return Lead(*entry, challenge, scope, deadline);
}

// The caller has set `busy`; here the request is made without the lock and the answer is handed to
// all.
Result<RegistryAuth::Grant> RegistryAuth::Lead(Entry& entry, const AuthChallenge& challenge,
                                               const std::string& scope, const Deadline& deadline) {
  Result<Fresh> fresh = Error{Code::kInternal, "the credentials could not be had"};
  try {
    fresh = Obtain(challenge, scope, deadline);
  } catch (const std::exception& failure) {
    fresh =
        Error{Code::kInternal, std::string("the credentials could not be had: ") + failure.what()};
  }
  MutexLock lock(mutex_);
  entry.busy = false;
  ++entry.flights;
  changed_.NotifyAll();
  if (!fresh) {
    entry.error = fresh.error();
    return fresh.error();
  }
  entry.error.reset();
  entry.grant = {std::move(fresh->header), entry.grant.generation + 1};
  entry.renew_at_ns = fresh->renew_at_ns;
  return entry.grant;
}

Result<AuthChallenge> RegistryAuth::Choose(const HttpHeaders& headers) const {
  std::optional<AuthChallenge> basic;
  std::string others;
  for (const std::string_view value : headers.FindAll("www-authenticate")) {
    for (AuthChallenge& challenge : ParseChallenges(value)) {
      if (challenge.scheme == "bearer") return std::move(challenge);
      if (challenge.scheme == "basic" && !basic)
        basic = std::move(challenge);
      else
        others += " " + Quote(challenge.scheme, 40);
    }
  }
  if (basic) return std::move(*basic);
  if (!others.empty())
    return Error{Code::kUnsupported, "it asks for authentication by" + others.substr(0, 400)};
  return Error{Code::kDenied, "it answered 401 without saying what it asks for"};
}

RegistryCredentials RegistryAuth::Credentials(const std::string& scope) const {
  if (!options_->credentials) return {};
  const std::string repository = RepositoryOf(scope);
  return options_->credentials(repository.empty() ? registry_ : registry_ + "/" + repository);
}

Result<RegistryAuth::Fresh> RegistryAuth::Obtain(const AuthChallenge& challenge,
                                                 const std::string& scope,
                                                 const Deadline& deadline) {
  return challenge.scheme == "basic" ? ObtainBasic(scope) : ObtainToken(challenge, scope, deadline);
}

Result<RegistryAuth::Fresh> RegistryAuth::ObtainBasic(const std::string& scope) const {
  const RegistryCredentials credentials = Credentials(scope);
  if (credentials.empty())
    return Error{Code::kDenied, "it asks for a user name and password, and there are none"};
  return Fresh{BasicAuthorization(credentials), std::nullopt};
}

Result<RegistryAuth::Fresh> RegistryAuth::ObtainToken(const AuthChallenge& challenge,
                                                      const std::string& scope,
                                                      const Deadline& deadline) {
  Result<Url> realm = Url::Parse(challenge.realm);
  if (!realm) return realm.error().Within("the token server that it names");
  RETURN_IF_ERROR(CheckRealm(*realm, base_));
  const int64_t asked_at = options_->clock->NowNs();
  const std::shared_ptr<HostHealth> health = healths_->Of(*realm);
  const TokenRequest request{std::move(*realm), challenge.service,
                             challenge.scope.empty() ? scope : challenge.scope, Credentials(scope)};
  ASSIGN_OR_RETURN(const Token token,
                   FetchToken(request, *options_, *http_, *health, *counters_, deadline));
  const std::chrono::nanoseconds life = token.lifetime - kRenewalMargin;
  return Fresh{"Bearer " + token.value, asked_at + life.count()};
}

}  // namespace lamina
