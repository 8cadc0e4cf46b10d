#include "cmd/options.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>

#include "base/errno.h"
#include "base/text.h"
#include "cmd/credentials.h"
#include "fetch/reference.h"

namespace lamina {

Result<std::string> AbsolutePath(const std::string& path) {
  if (path.starts_with("/")) return path;
  std::array<char, 4096> folder{};
  if (::getcwd(folder.data(), folder.size()) == nullptr)
    return ErrnoError(errno, "cannot tell the current folder");
  return std::string(folder.data()) + "/" + path;
}

namespace {

Result<std::map<std::string, std::chrono::seconds>> TtlsOf(const std::vector<std::string>& texts) {
  std::map<std::string, std::chrono::seconds> ttls;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(const auto ttl, ParseRegistryTtl(text));
    ttls[ttl.first] = ttl.second;
  }
  return ttls;
}

// "HOST[:PORT]=NUMBER", the host in its normal form.
std::optional<std::pair<std::string, long>> ParseRegistryNumber(const std::string& text) {
  const size_t equals = text.rfind('=');
  std::string host = text.substr(0, equals);
  const std::string digits = equals == std::string::npos ? "" : text.substr(equals + 1);
  // Ten years in seconds have nine digits.
  const bool number = !digits.empty() && digits.size() <= 9 &&
                      digits.find_first_not_of("0123456789") == std::string::npos;
  if (!number || !(IsValidRegistry(host) || host == "localhost")) return std::nullopt;
  if (host == "index.docker.io") host = "docker.io";
  return std::make_pair(std::move(host), std::stol(digits));
}

}  // namespace

Result<std::pair<std::string, std::chrono::seconds>> ParseRegistryTtl(const std::string& text) {
  const auto parsed = ParseRegistryNumber(text);
  if (!parsed)
    return Error{Code::kInvalid,
                 fmt::format("{} is not HOST[:PORT]=SECONDS, as docker.io=300", Quote(text))};
  return std::make_pair(parsed->first, std::chrono::seconds(parsed->second));
}

Result<std::pair<std::string, size_t>> ParseRegistryConnections(const std::string& text) {
  const auto parsed = ParseRegistryNumber(text);
  if (!parsed || parsed->second < 1 || parsed->second > kMostConnections)
    return Error{Code::kInvalid, fmt::format("{} is not HOST[:PORT]=N with N from 1 to {}, as "
                                             "docker.io=4",
                                             Quote(text), kMostConnections)};
  return std::make_pair(parsed->first, static_cast<size_t>(parsed->second));
}

RegistryPlaces RegistryPlacesOf(const CommonOptions& common) {
  RegistryPlaces places;
  places.registries_conf = &RegistriesConf::FilesOfUser;
  places.hosts_folders =
      common.hosts_folders.empty() ? RegistryPlaces::DefaultHostsFolders() : common.hosts_folders;
  places.certs_folders =
      common.certs_folders.empty() ? RegistryPlaces::DefaultCertsFolders() : common.certs_folders;
  places.insecure = common.insecure_registries;
  places.ca_file = common.ca_file;
  return places;
}

RegistryOptions RegistryOptionsOf(const CommonOptions& common) {
  RegistryOptions options;
  const auto hosts = std::make_shared<const RegistryHosts>(RegistryPlacesOf(common));
  options.endpoints = [hosts](const std::string& reference) { return hosts->Find(reference); };
  options.credentials = [](const std::string& name) { return CredentialsOfHost(name); };
  return options;
}

Result<std::optional<std::chrono::seconds>> ParseAge(const std::string& text) {
  using Age = std::optional<std::chrono::seconds>;
  if (text == "none") return Age();
  static const std::map<char, int64_t> kUnits = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86'400}};
  std::string digits = text;
  int64_t unit = 1;
  if (!text.empty() && kUnits.contains(text.back())) {
    unit = kUnits.at(text.back());
    digits.pop_back();
  }
  if (digits.empty() || digits.size() > 6 ||
      digits.find_first_not_of("0123456789") != std::string::npos)
    return Error{Code::kInvalid, Quote(text) + " is no time: use 7d, 12h, 30m, 90s or none"};
  return Age(std::chrono::seconds(std::stol(digits) * unit));
}

Result<CatalogOptions> CatalogOptionsOf(const CommonOptions& common) {
  CatalogOptions options;
  if (!common.platform.empty()) {
    ASSIGN_OR_RETURN(options.platform, Platform::Parse(common.platform));
  }
  options.tag_ttl = std::chrono::seconds(common.tag_ttl_seconds);
  options.negative_ttl = std::chrono::seconds(common.negative_ttl_seconds);
  ASSIGN_OR_RETURN(options.tag_ttls, TtlsOf(common.registry_tag_ttls));
  ASSIGN_OR_RETURN(options.negative_ttls, TtlsOf(common.registry_negative_ttls));
  options.strict = common.strict;
  options.strict_registries = common.strict_registries;
  options.registry = RegistryOptionsOf(common);
  options.registry.connections = common.connections;
  for (const std::string& text : common.registry_connections) {
    ASSIGN_OR_RETURN(const auto own, ParseRegistryConnections(text));
    options.registry.connections_of[own.first] = own.second;
  }
  options.registry.memory = MakeTransferMemory();
  return options;
}

// The command line has been checked for it.
CacheCompression CompressionOf(const CommonOptions& common) {
  return ParseCacheCompression(common.cache_compression).value_or(CacheCompression::kNone);
}

Result<LogLevel> LogLevelOf(const CommonOptions& common) {
  if (common.log_level == "debug") return LogLevel::kDebug;
  if (common.log_level == "info") return LogLevel::kInfo;
  if (common.log_level == "warning") return LogLevel::kWarning;
  if (common.log_level == "error") return LogLevel::kError;
  return Error{Code::kInvalid, fmt::format("--log-level {}: use debug, info, warning or error",
                                           Quote(common.log_level))};
}

}  // namespace lamina
