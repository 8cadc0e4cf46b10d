#include "cmd/credentials.h"

#include <fmt/core.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/log.h"
#include "base/user.h"
#include "cmd/auth_file.h"
#include "fetch/registries_conf.h"

namespace lamina {
namespace {

std::vector<std::string> AuthFiles() {
  std::vector<std::string> files;
  const auto add = [&](const std::string& folder, const std::string& rest) {
    if (!folder.empty()) files.push_back(folder + rest);
  };
  add(EnvironmentOf("REGISTRY_AUTH_FILE"), "");
  add(EnvironmentOf("XDG_RUNTIME_DIR"), "/containers/auth.json");
  files.push_back(fmt::format("/run/containers/{}/auth.json", ::geteuid()));
  const std::string home = HomeFolder();
  const std::string config = EnvironmentOf("XDG_CONFIG_HOME");
  add(config.empty() && !home.empty() ? home + "/.config" : config, "/containers/auth.json");
  add(EnvironmentOf("DOCKER_CONFIG"), "/config.json");
  add(home, "/.docker/config.json");
  return files;
}

RegistriesConf::Helpers ConfiguredHelpers() {
  const auto conf = RegistriesConf::Read(RegistriesConf::FilesOfUser());
  if (conf) return conf->credential_helpers();
  LogWarning("credentials: helpers are not read: " + conf.error().message);
  return {};
}

}  // namespace

// The bound is that of all helpers together.
RegistryCredentials CredentialsOfHost(const std::string& name, const HelperPlaces& places) {
  const Deadline deadline = Deadline::After(places.bounds.time);
  const auto within = [&] {
    HelperPlaces left = places;
    left.bounds.time = deadline.remaining();
    return left;
  };
  const auto in_files = [&] {
    for (const std::string& path : AuthFiles())
      if (auto found = CredentialsOfFile(path, name, within()); !found.empty()) return found;
    return RegistryCredentials();
  };
  const RegistriesConf::Helpers helpers = ConfiguredHelpers();
  for (const std::string& helper : helpers.names) {
    RegistryCredentials found = helper == RegistriesConf::kAuthFiles
                                    ? in_files()
                                    : CredentialsOfHelper(helper, helpers.file, name, within());
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace lamina
