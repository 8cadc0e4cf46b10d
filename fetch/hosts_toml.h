#pragma once

// HostsToml: containerd's hosts.toml, which hosts are asked for the images of one registry
// (containerd, docs/hosts.md). A value; any thread.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/registry_endpoint.h"

namespace lamina {

struct HostsTomlHost {
  std::string url;  // "https://mirror.example:5000/prefix"; http only where the file says http
  bool resolve = true;
  bool pull = true;
  bool override_path = false;  // the URL's path is the API's: no /v2 is added
  TlsOptions tls;              // without stamp; paths are absolute
  std::vector<std::string> headers;
  std::optional<std::chrono::milliseconds> connect_timeout;
};

struct HostsToml {
  std::vector<HostsTomlHost> hosts;  // in the order of the file
  // What stands at the top of the file; an empty URL means the registry itself.
  HostsTomlHost server;
};

// `file` is its absolute path: names of files in it are relative to its folder. kInvalid with the
// line where it is wrong.
Result<HostsToml> ParseHostsToml(std::string_view text, const std::string& file);

// The URL of the API of such a host: with /v2 at the end, unless its path overrides that.
std::string ApiUrl(const HostsTomlHost& host);

}  // namespace lamina
