#include "cmd/credentials.h"

#include <fmt/core.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/file.h"
#include "base/log.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLargestFile = 1u << 20;

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<std::string> AuthFiles() {
  std::vector<std::string> files;
  const auto add = [&](const std::string& folder, const std::string& rest) {
    if (!folder.empty()) files.push_back(folder + rest);
  };
  add(Variable("REGISTRY_AUTH_FILE"), "");
  add(Variable("XDG_RUNTIME_DIR"), "/containers/auth.json");
  files.push_back(fmt::format("/run/containers/{}/auth.json", ::geteuid()));
  const std::string home = Variable("HOME");
  const std::string config = Variable("XDG_CONFIG_HOME");
  add(config.empty() && !home.empty() ? home + "/.config" : config, "/containers/auth.json");
  add(Variable("DOCKER_CONFIG"), "/config.json");
  add(home, "/.docker/config.json");
  return files;
}

// The names under which a registry may stand in `auths`.
std::vector<std::string> KeysOfRegistry(const std::string& registry) {
  if (registry == "docker.io")
    return {"docker.io", "https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"};
  return {registry, "https://" + registry, "https://" + registry + "/", "http://" + registry};
}

// For "quay.io/team/app": this, "quay.io/team", and those of the registry.
std::vector<std::string> KeysOf(std::string name) {
  std::vector<std::string> keys;
  for (size_t slash; (slash = name.rfind('/')) != std::string::npos; name.resize(slash))
    keys.push_back(name);
  for (std::string& key : KeysOfRegistry(name)) keys.push_back(std::move(key));
  return keys;
}

// "user:password" of its base64 form; empty where it is none.
std::string DecodeBase64(const std::string& text) {
  std::string out(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  if (size < 0) return "";
  // EVP_DecodeBlock counts the padding as zero bytes.
  size_t length = static_cast<size_t>(size);
  for (size_t i = text.size(); i > 0 && text[i - 1] == '=' && length > 0; --i) --length;
  out.resize(length);
  return out;
}

RegistryCredentials CredentialsOf(const Json& entry) {
  RegistryCredentials found;
  found.identity_token = entry.value("identitytoken", "");
  const std::string pair = DecodeBase64(entry.value("auth", ""));
  if (const size_t colon = pair.find(':'); colon != std::string::npos) {
    found.username = pair.substr(0, colon);
    found.password = pair.substr(colon + 1);
  }
  return found;
}

// What a helper is asked for: docker's own name of Docker Hub, and of others the host.
std::string ServerOf(const std::string& registry) {
  return registry == "docker.io" ? "https://index.docker.io/v1/" : registry;
}

// The helper that the file has for this registry, else the one for all; empty where it has none.
std::string HelperOf(const Json& file, const std::string& registry) {
  const Json helpers = file.value("credHelpers", Json::object());
  for (const std::string& key : KeysOfRegistry(registry))
    if (const auto at = helpers.find(key); at != helpers.end()) return at->get<std::string>();
  return file.value("credsStore", "");
}

RegistryCredentials FromHelper(const Json& file, const std::string& path, const std::string& name,
                               const HelperPlaces& places) {
  const std::string registry = name.substr(0, name.find('/'));
  const std::string helper = HelperOf(file, registry);
  if (helper.empty()) return {};
  auto found = AskCredentialHelper(helper, ServerOf(registry), places);
  if (found) {
    found->found_in = fmt::format("docker-credential-{} of {}", helper, path);
    return *std::move(found);
  }
  LogWarning(fmt::format("no credentials for {} by the helper that {} names: {}", registry, path,
                         found.error().message));
  return {};
}

RegistryCredentials FromFile(const std::string& path, const std::string& name,
                             const HelperPlaces& places) {
  const auto text = ReadWholeFile(path, kLargestFile);
  if (!text) {
    if (text.error().code != Code::kNotFound) LogWarning("credentials: " + text.error().message);
    return {};
  }
  try {
    const Json file = Json::parse(*text);
    if (RegistryCredentials found = FromHelper(file, path, name, places); !found.empty())
      return found;
    const Json auths = file.value("auths", Json::object());
    for (const std::string& key : KeysOf(name))
      if (const auto at = auths.find(key); at != auths.end()) {
        RegistryCredentials found = CredentialsOf(*at);
        found.found_in = path;
        return found;
      }
  } catch (const Json::exception&) {
    // The parser's message may quote the file, and the file holds secrets.
    LogWarning(fmt::format("credentials: {} is not in the form of docker's config.json", path));
  }
  return {};
}

}  // namespace

// The bound is that of all helpers together.
RegistryCredentials CredentialsOfHost(const std::string& name, const HelperPlaces& places) {
  const Deadline deadline = Deadline::After(places.bounds.time);
  HelperPlaces left = places;
  for (const std::string& path : AuthFiles()) {
    left.bounds.time = deadline.remaining();
    RegistryCredentials found = FromFile(path, name, left);
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace lamina
