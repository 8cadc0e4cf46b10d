#pragma once

// Registry: one registry over HTTP(S), by the OCI distribution-spec v1.1, and its repositories as
// RepositorySource. Its images may come from several hosts, mirrors and itself; connections, tokens
// and counters of all these are owned here. Any thread.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/quota.h"
#include "fetch/registry_endpoint.h"
#include "fetch/repository_source.h"

namespace lamina {

struct RegistryCredentials {
  std::string username;
  std::string password;
  std::string identity_token;  // of docker's config; wins over the password
  std::string found_in = {};   // the file or helper, for messages
  bool empty() const { return username.empty() && identity_token.empty(); }
};

struct RegistryOptions {
  // Finds credentials for a registry ("docker.io") or a repository of it
  // ("docker.io/library/debian"); called when the host asks for them. May be empty.
  std::function<RegistryCredentials(const std::string& name)> credentials;
  // Which hosts are asked for a name. Where it is empty, the registry itself alone, by the two
  // options that follow.
  EndpointFinder endpoints;
  bool insecure = false;  // plain HTTP although not loopback
  // Additional CAs (PEM), of certs.d or a test. A registry that has one speaks TLS, also on
  // loopback.
  std::string ca_file;
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds stall_timeout{10000};  // a transfer of < 16 KiB in so long is left
  int attempts = 4;  // per request, with jittered backoff, inside the deadline
  // At a time with this host, and with each that it redirects to; of single hosts, by name.
  size_t connections = 8;
  std::map<std::string, size_t> connections_of = {};
  std::chrono::milliseconds longest_turn = std::chrono::minutes(10);  // waits for one; see http.h
  // Bytes in flight of all transfers. Absent: streams are not split.
  std::shared_ptr<Quota> memory = nullptr;
  // Set where lamina stops: nobody waits for a token server any more. May be null; outlives it.
  const std::atomic<bool>* cancelled = nullptr;
  bool stops() const { return cancelled != nullptr && *cancelled; }
  std::string user_agent = "lamina";
  DocumentLimits limits;
  const WallClock* clock = &WallClock::System();  // judges when a token ends
};

// Exact counts, for status.json, `lamina stat` and tests.
struct RegistryCounters {
  std::atomic<uint64_t> requests{0};        // sent, those for tokens and of redirects included
  std::atomic<uint64_t> range_requests{0};  // of them, those that carried a Range
  std::atomic<uint64_t> blob_bytes{0};      // body bytes of blobs received
  std::atomic<uint64_t> token_requests{0};
  std::atomic<uint64_t> retries{0};
};

class Registry {
 public:
  // `host` is `host[:port]` as in a RepositoryName; docker.io is asked at registry-1.docker.io.
  static std::shared_ptr<Registry> Create(const std::string& host, RegistryOptions options);
  virtual ~Registry() = default;

  // The repository, asked at each of its hosts in turn until one answers: of tags those that are
  // trusted with them. Which hosts these are may depend on the `tag` that will be asked for. Where
  // it is asked `hasty`, since the asker has something else to go by, a tag is not asked for again
  // after a failure that took long.
  virtual std::shared_ptr<RepositorySource> Repository(const std::string& path,
                                                       const std::string& tag = "",
                                                       bool hasty = false) = 0;
  // The repository at each host that has the bytes of its image, in the order in which to ask. One
  // where the host's configuration forbids it or is wrong, which says that whenever it is asked.
  virtual std::vector<std::shared_ptr<RepositorySource>> Sources(const std::string& path,
                                                                 const Digest& image) = 0;
  // The repository at one host.
  virtual std::shared_ptr<RepositorySource> At(const RegistryEndpoint& endpoint) = 0;
  // GET /v2/: that one of its hosts answers and speaks the API, with the credentials at hand.
  virtual Status Ping(const Deadline& deadline) = 0;
  // All repositories that the registry's catalog lists, sorted (GET /v2/_catalog, Docker Registry
  // API, paged by Link); kUnsupported or kDenied where it offers none.
  virtual Result<std::vector<std::string>> ListRepositories(const Deadline& deadline) = 0;
  virtual const RegistryCounters& counters() const = 0;
};

}  // namespace lamina
