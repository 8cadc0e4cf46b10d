#pragma once

// RegistryHosts: which hosts are asked for the images of a name, as this machine is configured for
// other tools already. What wins:
//   1. a [[registry]] of containers-registries.conf(5) whose prefix fits the name (podman, CRI-O),
//   2. containerd's hosts.toml of the registry, then that of _default,
//   3. the registry itself.
// Certificates are those that hosts.toml names, else those of certs.d/HOST[:PORT]
// (containers-certs.d(5)), else those beside where hosts.toml would be. Files are read at every
// call, so that a change needs no restart. Any thread; blocks on local disk.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "fetch/hosts_toml.h"
#include "fetch/registries_conf.h"
#include "fetch/registry_endpoint.h"

namespace lamina {

struct RegistryPlaces {
  std::function<std::vector<std::string>()> registries_conf;  // files; see FilesOfUser()
  std::vector<std::string> hosts_folders;                     // of folders HOST with a hosts.toml
  std::vector<std::string> certs_folders;  // of folders HOST[:PORT] with *.crt, *.cert, *.key
  std::vector<std::string> insecure;       // registries that are asked over plain HTTP
  std::string ca_file;                     // of more CAs, for every host; may be empty

  // Where podman, docker and containerd look on this machine.
  static std::vector<std::string> DefaultHostsFolders();
  static std::vector<std::string> DefaultCertsFolders();
};

class RegistryHosts {
 public:
  explicit RegistryHosts(RegistryPlaces places) : places_(std::move(places)) {}

  // As EndpointFinder says.
  Result<std::vector<RegistryEndpoint>> Find(const std::string& reference) const;

 private:
  struct Name;
  using Endpoints = std::vector<RegistryEndpoint>;
  Result<Endpoints> Look(const std::string& reference) const;
  Result<Endpoints> ByRule(const RegistriesConf::Match& match, const Name& name) const;
  Status AddLocation(const RegistriesConf::Match& match, const RegistryLocation& location,
                     const Name& name, Endpoints* endpoints) const;
  Result<Endpoints> ByHostsToml(const std::string& file, const Name& name) const;
  Result<RegistryEndpoint> OfHost(const HostsTomlHost& host, const Name& name) const;
  std::optional<std::string> HostsFolder(const std::string& registry) const;
  Result<TlsOptions> CertsOf(const std::string& host) const;
  bool IsInsecure(const std::string& host) const;

  const RegistryPlaces places_;
};

// The registry itself: TLS but for loopback without certificates and for `insecure` ones; docker.io
// is asked at registry-1.docker.io.
RegistryEndpoint OriginEndpoint(const std::string& host, const std::string& repository,
                                bool insecure, TlsOptions tls);

}  // namespace lamina
