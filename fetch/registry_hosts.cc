#include "fetch/registry_hosts.h"

#include <dirent.h>
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "base/user.h"
#include "fetch/file_identity.h"
#include "fetch/reference.h"
#include "fetch/url.h"

namespace lamina {
namespace {

constexpr uint64_t kMostBytes = 1u << 20;
constexpr size_t kMostCerts = 256;  // of one host

std::string HostOf(const std::string& name) { return name.substr(0, name.find('/')); }

std::string PathOf(const std::string& name) {
  const size_t slash = name.find('/');
  return slash == std::string::npos ? "" : name.substr(slash + 1);
}

// Without :TAG and @DIGEST. What has no path is a registry, whose ':' comes before a port.
std::string WithoutSuffix(const std::string& reference) {
  if (reference.find('/') == std::string::npos) return reference;
  const std::string name = reference.substr(0, reference.find('@'));
  return name.substr(0, name.find(':', name.rfind('/')));
}

std::string DockerHubName(const std::string& host) {
  return host == "registry-1.docker.io" || host == "index.docker.io" ? "docker.io" : host;
}

// "host[:port]" of a URL, without the port where it is the scheme's own.
std::string HostOfUrl(const std::string& url) {
  const auto parsed = Url::Parse(url);
  if (!parsed) return "";
  const std::string origin = parsed->Origin();
  return DockerHubName(origin.substr(origin.find("://") + 3));
}

std::string WithoutUsualPort(const std::string& host) {
  for (const std::string_view port : {":443", ":80"})
    if (host.ends_with(port)) return host.substr(0, host.size() - port.size());
  return host;
}

// Names of a folder that end so, sorted.
std::vector<std::string> FilesWithEnding(const std::string& folder, std::string_view ending) {
  std::vector<std::string> files;
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) return files;
  while (const dirent* entry = ::readdir(open)) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(ending) && files.size() < kMostCerts)
      files.push_back(fmt::format("{}/{}", folder, name));
  }
  ::closedir(open);
  std::ranges::sort(files);
  return files;
}

// *.crt are CAs, *.cert and *.key of one name what the client shows; libcurl shows one.
Result<TlsOptions> CertsOfFolder(const std::string& folder) {
  TlsOptions tls;
  tls.ca_files = FilesWithEnding(folder, ".crt");
  for (const std::string& cert : FilesWithEnding(folder, ".cert")) {
    const std::string key = cert.substr(0, cert.size() - std::string_view(".cert").size()) + ".key";
    if (!FileExists(key))
      return Error{Code::kInvalid,
                   fmt::format("the certificate {} has no {} beside it", cert, key)};
    if (!tls.client_cert.empty()) continue;
    tls.client_cert = cert;
    tls.client_key = key;
  }
  return tls;
}

// containerd's names of a registry's folder: with a port also without ':'.
std::vector<std::string> FolderNames(const std::string& registry) {
  std::vector<std::string> names;
  const size_t colon = registry.rfind(':');
  const size_t bracket = registry.rfind(']');
  if (colon != std::string::npos && (bracket == std::string::npos || colon > bracket))
    names.push_back(registry.substr(0, colon) + "_" + registry.substr(colon + 1) + "_");
  names.push_back(registry);
  names.emplace_back("_default");
  return names;
}

// Moves when a file is written anew, as certificates are when they are about to end.
Result<std::string> StampOf(const TlsOptions& tls) {
  std::vector<std::string> files = tls.ca_files;
  for (const std::string& file : {tls.client_cert, tls.client_key})
    if (!file.empty()) files.push_back(file);
  std::string stamp;
  for (const std::string& file : files) {
    const auto found = IdentifyFile(file, /*follow=*/true);
    if (!found) return found.error().Within("TLS: certificate");
    stamp += fmt::format("{}.{}.{} ", found->inode, found->size, found->modified_ns);
  }
  return stamp;
}

}  // namespace

// A reference in its parts.
struct RegistryHosts::Name {
  std::string reference;   // as it was asked for
  std::string registry;    // "docker.io"
  std::string repository;  // "library/debian"; empty of a registry alone
};

std::vector<std::string> RegistryPlaces::DefaultHostsFolders() {
  return {"/etc/containerd/certs.d"};
}

std::vector<std::string> RegistryPlaces::DefaultCertsFolders() {
  std::vector<std::string> folders{"/etc/containers/certs.d", "/etc/docker/certs.d"};
  if (const std::string home = HomeFolder(); !home.empty())
    folders.insert(folders.begin(), home + "/.config/containers/certs.d");
  return folders;
}

RegistryEndpoint OriginEndpoint(const std::string& host, const std::string& repository,
                                bool insecure, TlsOptions tls) {
  const bool certified = !tls.ca_files.empty() || !tls.client_cert.empty() || tls.skip_verify;
  const bool plain = insecure || (IsLoopbackRegistry(host) && !certified);
  const std::string asked = host == "docker.io" ? "registry-1.docker.io" : host;
  RegistryEndpoint endpoint;
  endpoint.host = host;
  endpoint.api = (plain ? "http://" : "https://") + asked + "/v2";
  endpoint.repository = repository;
  endpoint.tls = std::move(tls);
  endpoint.insecure = insecure;
  return endpoint;
}

bool RegistryHosts::IsInsecure(const std::string& host) const {
  return std::ranges::find(places_.insecure, host) != places_.insecure.end();
}

// What certs.d has of the first folder that knows the host, and what every host is trusted by.
Result<TlsOptions> RegistryHosts::CertsOf(const std::string& host) const {
  TlsOptions tls;
  for (const std::string& certs : places_.certs_folders) {
    const std::string folder = certs + "/" + host;
    if (host.starts_with(".") || !FileExists(folder)) continue;
    ASSIGN_OR_RETURN(tls, CertsOfFolder(folder));
    break;
  }
  if (!places_.ca_file.empty()) tls.ca_files.push_back(places_.ca_file);
  return tls;
}

// A file that the configuration lacks says nothing of whether the image is there.
Result<std::vector<RegistryEndpoint>> RegistryHosts::Find(const std::string& reference) const {
  auto found = Look(reference);
  if (found || found.error().code != Code::kNotFound) return found;
  return Error{Code::kInvalid, std::move(found).error().message};
}

Result<RegistryHosts::Endpoints> RegistryHosts::Look(const std::string& reference) const {
  const std::string plain = WithoutSuffix(reference);
  const Name name{reference, HostOf(plain), PathOf(plain)};
  ASSIGN_OR_RETURN(const RegistriesConf conf, RegistriesConf::Read(places_.registries_conf()));
  if (const auto match = conf.Find(reference)) return ByRule(*match, name);
  const auto folder = HostsFolder(name.registry);
  if (folder && FileExists(*folder + "/hosts.toml"))
    return ByHostsToml(*folder + "/hosts.toml", name);
  ASSIGN_OR_RETURN(TlsOptions tls, CertsOf(name.registry));
  // containerd's folder of a registry may hold certificates alone.
  if (folder && tls == TlsOptions()) {
    ASSIGN_OR_RETURN(tls, CertsOfFolder(*folder));
  }
  ASSIGN_OR_RETURN(tls.stamp, StampOf(tls));
  return Endpoints{
      OriginEndpoint(name.registry, name.repository, IsInsecure(name.registry), std::move(tls))};
}

// --- registries.conf -----------------------------------------------------------------------------

Result<RegistryHosts::Endpoints> RegistryHosts::ByRule(const RegistriesConf::Match& match,
                                                       const Name& name) const {
  if (match.rule.blocked)
    return Error{Code::kDenied,
                 fmt::format("{} is blocked by {}", name.reference, match.rule.file)};
  Endpoints endpoints;
  // A mirror that is not usable is no reason to leave out the others.
  for (const RegistryLocation& mirror : match.rule.mirrors)
    if (Status added = AddLocation(match, mirror, name, &endpoints); !added)
      LogWarning(fmt::format("the mirror {} of {} is not asked: {}", mirror.location,
                             match.rule.file, added.error().message));
  RETURN_IF_ERROR(AddLocation(match, match.rule.origin, name, &endpoints));
  return endpoints;
}

// "insecure" means: TLS with any certificate, and where there is no TLS, none.
Status RegistryHosts::AddLocation(const RegistriesConf::Match& match,
                                  const RegistryLocation& location, const Name& name,
                                  Endpoints* endpoints) const {
  const std::string there =
      WithoutSuffix(Relocated(name.reference, match.length, location.location));
  const std::string host = HostOf(there);
  // The path of a location is no part of the registry itself.
  const std::string repository = name.repository.empty() ? "" : PathOf(there);
  ASSIGN_OR_RETURN(TlsOptions tls, CertsOf(host));
  tls.skip_verify = location.insecure;
  ASSIGN_OR_RETURN(tls.stamp, StampOf(tls));
  RegistryEndpoint endpoint = OriginEndpoint(host, repository, IsInsecure(host), std::move(tls));
  endpoint.by_tag = location.by_tag;
  endpoint.by_digest = location.by_digest;
  endpoint.configured_by = match.rule.file;
  endpoints->push_back(endpoint);
  if (!location.insecure || IsInsecure(host)) return {};
  endpoint.api = OriginEndpoint(host, repository, /*insecure=*/true, {}).api;
  endpoint.insecure = true;
  endpoints->push_back(std::move(endpoint));
  return {};
}

// --- hosts.toml ----------------------------------------------------------------------------------

// The first that is there, as containerd looks for it.
std::optional<std::string> RegistryHosts::HostsFolder(const std::string& registry) const {
  for (const std::string& hosts : places_.hosts_folders)
    for (const std::string& name : FolderNames(registry))
      if (std::string folder = hosts + "/" + name; FileExists(folder)) return folder;
  return std::nullopt;
}

Result<RegistryHosts::Endpoints> RegistryHosts::ByHostsToml(const std::string& file,
                                                            const Name& name) const {
  ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(file, kMostBytes));
  ASSIGN_OR_RETURN(HostsToml parsed, ParseHostsToml(text, file));
  parsed.hosts.push_back(std::move(parsed.server));
  Endpoints endpoints;
  for (const HostsTomlHost& host : parsed.hosts) {
    if (!host.pull && !host.resolve) continue;
    ASSIGN_OR_RETURN(RegistryEndpoint endpoint, OfHost(host, name));
    endpoint.configured_by = file;
    endpoints.push_back(std::move(endpoint));
  }
  if (endpoints.empty())
    return Error{Code::kDenied, fmt::format("{}: {} lets no host be asked", name.reference, file)};
  return endpoints;
}

// A host without a URL is the registry itself.
Result<RegistryEndpoint> RegistryHosts::OfHost(const HostsTomlHost& host, const Name& name) const {
  const bool itself = host.url.empty() || HostOfUrl(host.url) == WithoutUsualPort(name.registry);
  const std::string asked = itself ? name.registry : HostOfUrl(host.url);
  TlsOptions tls = host.tls;
  if (tls.ca_files.empty() && tls.client_cert.empty()) {
    ASSIGN_OR_RETURN(tls, CertsOf(asked));
    tls.skip_verify = host.tls.skip_verify;
  }
  ASSIGN_OR_RETURN(tls.stamp, StampOf(tls));
  RegistryEndpoint endpoint = OriginEndpoint(asked, name.repository, IsInsecure(asked), tls);
  if (!host.url.empty()) {
    endpoint.api = ApiUrl(host);
    endpoint.insecure = endpoint.api.starts_with("http://");
  }
  if (!itself) endpoint.ns = name.registry;
  endpoint.by_tag = host.resolve;
  endpoint.by_digest = host.pull;
  endpoint.headers = host.headers;
  endpoint.connect_timeout = host.connect_timeout;
  return endpoint;
}

}  // namespace lamina
