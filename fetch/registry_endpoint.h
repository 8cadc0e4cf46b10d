#pragma once

// RegistryEndpoint: one host that may be asked for the images of a name, and how. A name has
// several where mirrors stand in front of its registry. Values.

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace lamina {

struct TlsOptions {
  std::vector<std::string> ca_files;  // PEM, besides the system's CAs
  std::string client_cert;            // PEM files; the key may be in the certificate's
  std::string client_key;
  bool skip_verify = false;  // any certificate will do
  std::string stamp;         // moves when one of the files does
  bool operator==(const TlsOptions&) const = default;
};

struct RegistryEndpoint {
  std::string host;        // host[:port], by which credentials are asked; "docker.io"
  std::string api;         // URL of its API: "https://mirror.example/v2"
  std::string repository;  // the path there; empty for the registry itself
  bool by_tag = true;      // may be asked what a tag is
  bool by_digest = true;   // may be asked for what a digest names
  std::string ns;          // the registry that it stands for, sent as ?ns=; mostly empty
  TlsOptions tls;
  bool insecure = false;             // plain HTTP although not loopback
  std::vector<std::string> headers;  // "Name: value", sent with every request; may hold secrets
  std::optional<std::chrono::milliseconds> connect_timeout;
  std::string configured_by;  // the file that names it; empty where the name alone does
};

// The endpoints of a reference ("docker.io/library/debian", also with :TAG or @DIGEST, or a
// registry alone), in the order in which to ask, the origin last; never empty. An error, never
// kNotFound, where the host's configuration forbids the name or cannot be read. Any thread; blocks
// on local disk.
using EndpointFinder =
    std::function<Result<std::vector<RegistryEndpoint>>(const std::string& reference)>;

}  // namespace lamina
