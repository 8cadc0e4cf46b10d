#include "fetch/registry.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "base/mutex.h"
#include "base/take_unused.h"
#include "base/text.h"
#include "fetch/reference.h"
#include "fetch/registry_chain.h"
#include "fetch/registry_hosts.h"
#include "fetch/registry_json.h"
#include "fetch/registry_lists.h"
#include "fetch/registry_repository.h"
#include "fetch/registry_session.h"

namespace lamina {
namespace {

constexpr uint64_t kPingBytes = 1u << 20;
// Sessions whose configuration is no more are let go beyond so many.
constexpr size_t kMostSessions = 32;

// What distinguishes the connections to two endpoints; the repository does not.
std::string KeyOf(const RegistryEndpoint& endpoint) {
  std::string key = fmt::format("{} {} {} {} {}", endpoint.host, endpoint.api, endpoint.ns,
                                endpoint.insecure, endpoint.tls.skip_verify);
  for (const std::string& file : endpoint.tls.ca_files) key += "\n" + file;
  key += "\n" + endpoint.tls.client_cert + "\n" + endpoint.tls.client_key;
  for (const std::string& header : endpoint.headers) key += "\n" + header;
  if (endpoint.connect_timeout) key += fmt::format("\n{}", endpoint.connect_timeout->count());
  return key + "\n" + endpoint.tls.stamp;
}

Status PingSession(RegistrySession& session, const Deadline& deadline) {
  BodyReceiver receiver(session.host() + ": the answer to /v2/", kPingBytes);
  RegistryRequest request;
  request.target = "/v2/";
  request.what = "the registry itself";
  request.receiver = &receiver;
  RegistryAnswer answer = session.Run(request, deadline);
  if (answer.end == RegistryAnswer::End::kDone) return {};
  if (answer.status != 404) return std::move(answer.error);
  return session.Failure(Code::kUnsupported, request.what,
                         "it does not speak the distribution API (404 for /v2/)");
}

Result<std::vector<std::string>> Catalog(RegistrySession& session, const Deadline& deadline) {
  RegistryRequest request;
  request.target = "/v2/_catalog?n=1000";
  request.scope = "registry:catalog:*";
  request.what = "the catalog";
  auto names = FetchList(session, std::move(request), ParseCatalog, deadline);
  // A registry without a catalog knows no such page.
  if (!names && names.error().code == Code::kNotFound)
    return Error{Code::kUnsupported, names.error().message};
  return names;
}

class HttpRegistry : public Registry {
 public:
  HttpRegistry(std::string host, RegistryOptions options)
      : host_(std::move(host)), options_(std::move(options)) {}

  std::shared_ptr<RepositorySource> Repository(const std::string& path, const std::string& tag,
                                               bool hasty) override {
    const std::string name = host_ + "/" + path + (tag.empty() ? "" : ":" + tag);
    const auto endpoints = Endpoints(name, path);
    if (!endpoints) return std::make_shared<RegistryChain>(host_, name, endpoints.error());
    if (endpoints->size() == 1 && endpoints->front().by_tag && endpoints->front().by_digest)
      return SourceAt(endpoints->front(), hasty);
    std::vector<RegistryChain::Host> hosts;
    for (const RegistryEndpoint& endpoint : *endpoints)
      hosts.push_back({SourceAt(endpoint, hasty), endpoint.by_tag, endpoint.by_digest});
    return std::make_shared<RegistryChain>(host_, name, std::move(hosts));
  }

  std::vector<std::shared_ptr<RepositorySource>> Sources(const std::string& path,
                                                         const Digest& image) override {
    const std::string name = host_ + "/" + path + "@" + image.ToString();
    const auto endpoints = Endpoints(name, path);
    if (!endpoints) return {std::make_shared<RegistryChain>(host_, name, endpoints.error())};
    std::vector<std::shared_ptr<RepositorySource>> sources;
    for (const RegistryEndpoint& endpoint : *endpoints)
      if (endpoint.by_digest) sources.push_back(At(endpoint));
    if (!sources.empty()) return sources;
    return {std::make_shared<RegistryChain>(host_, name, std::vector<RegistryChain::Host>())};
  }

  std::shared_ptr<RepositorySource> At(const RegistryEndpoint& endpoint) override {
    return SourceAt(endpoint, /*hasty=*/false);
  }

  Status Ping(const Deadline& deadline) override {
    return AtAnyHost<Status>(deadline, [](RegistrySession& session, const Deadline& at) {
      return PingSession(session, at);
    });
  }

  Result<std::vector<std::string>> ListRepositories(const Deadline& deadline) override {
    return AtAnyHost<Result<std::vector<std::string>>>(
        deadline,
        [](RegistrySession& session, const Deadline& at) { return Catalog(session, at); });
  }

  const RegistryCounters& counters() const override { return *counters_; }

 private:
  Result<std::vector<RegistryEndpoint>> Endpoints(const std::string& reference,
                                                  const std::string& path) const {
    // What is no host never reaches the configuration, whose folders bear the names of hosts.
    if (!IsValidRegistry(host_))
      return Error{Code::kInvalid, Quote(host_) + " is not a registry host"};
    if (options_.endpoints) return options_.endpoints(reference);
    TlsOptions tls;
    if (!options_.ca_file.empty()) tls.ca_files = {options_.ca_file};
    return std::vector{OriginEndpoint(host_, path, options_.insecure, std::move(tls))};
  }

  std::shared_ptr<RepositorySource> SourceAt(const RegistryEndpoint& endpoint, bool hasty) {
    return std::make_shared<RegistryRepository>(Session(endpoint), endpoint.repository, host_,
                                                endpoint.by_tag, hasty);
  }

  std::shared_ptr<RegistrySession> Session(const RegistryEndpoint& endpoint) {
    const std::string key = KeyOf(endpoint);
    if (auto known = KnownSession(key)) return known;
    // It reads certificates from disk: not under the lock. Of two made at once one stays.
    auto made = std::make_shared<RegistrySession>(endpoint, options_, counters_);
    // One without its certificates is made anew next time: they may be readable then.
    if (!made->usable()) return made;
    std::vector<std::shared_ptr<RegistrySession>> dropped;  // closing may write to the network
    MutexLock lock(mutex_);
    if (sessions_.size() >= kMostSessions) dropped = TakeUnused(sessions_);
    return sessions_.emplace(key, std::move(made)).first->second;
  }

  std::shared_ptr<RegistrySession> KnownSession(const std::string& key) {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(key);
    return at == sessions_.end() ? nullptr : at->second;
  }

  // The origin is asked last, so that its answer is the one that counts.
  template <typename T, typename Ask>
  T AtAnyHost(const Deadline& deadline, const Ask& ask) {
    const auto endpoints = Endpoints(host_, "");
    if (!endpoints) return endpoints.error();
    T answer = Error{Code::kDenied, host_ + ": the configuration lets no host be asked"};
    for (size_t i = 0; i < endpoints->size(); ++i) {
      if (!(*endpoints)[i].by_tag) continue;
      answer = ask(*Session((*endpoints)[i]), deadline.Share(endpoints->size() - i));
      if (answer) break;
    }
    return answer;
  }

  const std::string host_;
  const RegistryOptions options_;
  const std::shared_ptr<RegistryCounters> counters_ = std::make_shared<RegistryCounters>();
  Mutex mutex_;  // leaf
  // Shared with the repositories and blobs, which may outlive this.
  std::map<std::string, std::shared_ptr<RegistrySession>> sessions_ GUARDED_BY(mutex_);
};

}  // namespace

std::shared_ptr<Registry> Registry::Create(const std::string& host, RegistryOptions options) {
  return std::make_shared<HttpRegistry>(host, std::move(options));
}

}  // namespace lamina
