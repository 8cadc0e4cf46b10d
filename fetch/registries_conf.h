#pragma once

// RegistriesConf: the `[[registry]]` tables of containers-registries.conf(5), under which location
// the images of a name really are, which mirrors stand in front of it, what is blocked; and its
// `credential-helpers`. A value; any thread. Reading blocks on local disk.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

// A place that has the images of a prefix.
struct RegistryLocation {
  std::string location;   // "mirror.example:5000/hub"; empty: where the name itself says
  bool insecure = false;  // TLS without a check of certificates, or no TLS at all
  bool by_tag = true;     // may be asked what a tag is
  bool by_digest = true;  // may be asked for what a digest names
};

struct RegistryRule {
  std::string prefix;  // "docker.io", "quay.io/team", "*.example.com"
  RegistryLocation origin;
  std::vector<RegistryLocation> mirrors;  // in the order in which they are asked, before the origin
  bool blocked = false;
  std::string file;  // that says so
};

class RegistriesConf {
 public:
  // The files of this user, as podman and skopeo find them: $CONTAINERS_REGISTRIES_CONF,
  // ~/.config/containers/registries.conf or /etc/containers/registries.conf, and the *.conf of the
  // folders registries.conf.d there. Each stands before those that win over it.
  static std::vector<std::string> FilesOfUser();
  // Where podman notes aliases of short names: for ShortNames, which it wins in.
  static std::string AliasFileOfUser();

  // What stands among the helpers for the files of containers-auth.json(5).
  static constexpr const char* kAuthFiles = "containers-auth.json";
  // Who is asked for credentials, in this order.
  struct Helpers {
    std::vector<std::string> names = {kAuthFiles};  // "secretservice", kAuthFiles; never empty
    std::string file = {};                          // that says so; empty where none does
  };

  // Files that are not there are left out. A file that is wrong is an error that names it.
  static Result<RegistriesConf> Read(const std::vector<std::string>& files);
  // Takes over what one file says; a prefix that is known already gets what this one says of it.
  Status Add(std::string_view toml, const std::string& name);

  struct Match {
    RegistryRule rule;
    size_t length = 0;  // bytes of the reference that the prefix covers
  };
  // The rule with the longest prefix of a reference, as "docker.io/library/debian:12".
  std::optional<Match> Find(std::string_view reference) const;
  const Helpers& credential_helpers() const { return helpers_; }

 private:
  std::vector<RegistryRule> rules_;
  Helpers helpers_;
};

// The reference with `location` in the place of its first `length` bytes.
std::string Relocated(std::string_view reference, size_t length, const std::string& location);

}  // namespace lamina
