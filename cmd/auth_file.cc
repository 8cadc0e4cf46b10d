#include "cmd/auth_file.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kLargestFile = 1u << 20;

std::string RegistryOf(const std::string& name) { return name.substr(0, name.find('/')); }

// The names of one registry, the usual one first.
std::vector<std::string> NamesOf(const std::string& registry) {
  if (registry == "docker.io") return {"docker.io", "index.docker.io", "registry-1.docker.io"};
  return {registry};
}

// What helpers are asked for: of Docker Hub as docker names it, then as podman does.
std::vector<std::string> ServersOf(const std::string& registry) {
  if (registry == "docker.io") return {"https://index.docker.io/v1/", "docker.io"};
  return {registry};
}

// "quay.io" of "https://quay.io/v1/"; empty of a key without a scheme.
std::string HostOfKey(const std::string& key) {
  for (const std::string_view scheme : {"https://", "http://"})
    if (key.starts_with(scheme))
      return key.substr(scheme.size(), key.find('/', scheme.size()) - scheme.size());
  return "";
}

// One object of the file. What is null counts as absent, and so does what is of another type, after
// a warning. No value is ever part of a message, since values are secrets.
class Members {
 public:
  Members(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  std::string Text(const std::string& key) const {
    const Json* value = Find(key, Json::value_t::string);
    return value != nullptr ? value->get<std::string>() : "";
  }
  std::optional<Members> Object(const std::string& key) const {
    const Json* value = Find(key, Json::value_t::object);
    if (value == nullptr) return std::nullopt;
    return Members(*value, fmt::format("{}, {}", where_, Quote(key)));
  }
  // The keys that stand for a registry, the one to look at first before the others.
  std::vector<std::string> KeysOfRegistry(const std::string& registry) const {
    std::vector<std::string> keys;
    for (const std::string& name : NamesOf(registry)) {
      keys.push_back(name);
      for (const auto& member : object_.items())
        if (HostOfKey(member.key()) == name) keys.push_back(member.key());
    }
    return keys;
  }
  void Warn(const std::string& problem) const {
    LogWarning(fmt::format("credentials: {}: {}", where_, problem));
  }

 private:
  const Json* Find(const std::string& key, Json::value_t type) const {
    const auto at = object_.find(key);
    if (at == object_.end() || at->is_null()) return nullptr;
    if (at->type() == type) return &*at;
    Warn(Quote(key) + (type == Json::value_t::object ? " is no object" : " is no text"));
    return nullptr;
  }

  const Json& object_;
  std::string where_;
};

// For "quay.io/team/app": this, "quay.io/team", and those of the registry.
std::vector<std::string> KeysOf(const Members& auths, std::string name) {
  std::vector<std::string> keys;
  for (size_t slash; (slash = name.rfind('/')) != std::string::npos; name.resize(slash))
    keys.push_back(name);
  for (std::string& key : auths.KeysOfRegistry(name)) keys.push_back(std::move(key));
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

// `auth` wins over `username` and `password`, as it does for docker.
RegistryCredentials CredentialsOf(const Members& entry) {
  RegistryCredentials found;
  found.identity_token = entry.Text("identitytoken");
  found.username = entry.Text("username");
  found.password = entry.Text("password");
  const std::string auth = entry.Text("auth");
  if (auth.empty()) return found;
  const std::string pair = DecodeBase64(auth);
  const size_t colon = pair.find(':');
  if (colon == std::string::npos) {
    entry.Warn("'auth' is no user:password in base64");
    return found;
  }
  found.username = pair.substr(0, colon);
  found.password = pair.substr(colon + 1);
  return found;
}

// The helper that the file has for this registry, else the one for all; empty where it has none.
std::string HelperOf(const Members& file, const std::string& registry) {
  if (const auto helpers = file.Object("credHelpers"))
    for (const std::string& key : helpers->KeysOfRegistry(registry))
      if (std::string helper = helpers->Text(key); !helper.empty()) return helper;
  return file.Text("credsStore");
}

RegistryCredentials EntryOf(const Members& file, const std::string& name) {
  const auto auths = file.Object("auths");
  if (!auths) return {};
  for (const std::string& key : KeysOf(*auths, name))
    if (const auto entry = auths->Object(key)) return CredentialsOf(*entry);
  return {};
}

Result<RegistryCredentials> AskForRegistry(const std::string& helper, const std::string& registry,
                                           HelperPlaces places) {
  const Deadline deadline = Deadline::After(places.bounds.time);
  for (const std::string& server : ServersOf(registry)) {
    places.bounds.time = deadline.remaining();
    auto found = AskCredentialHelper(helper, server, places);
    if (!found || !found->empty()) return found;
  }
  return RegistryCredentials();
}

}  // namespace

RegistryCredentials CredentialsOfHelper(const std::string& helper, const std::string& named_by,
                                        const std::string& name, const HelperPlaces& places) {
  const std::string registry = RegistryOf(name);
  auto found = AskForRegistry(helper, registry, places);
  if (found) {
    found->found_in = fmt::format("docker-credential-{} of {}", helper, named_by);
    return *std::move(found);
  }
  LogWarning(fmt::format("no credentials for {} by the helper that {} names: {}", registry,
                         named_by, found.error().message));
  return {};
}

RegistryCredentials CredentialsOfFile(const std::string& path, const std::string& name,
                                      const HelperPlaces& places) {
  const auto text = ReadWholeFile(path, kLargestFile);
  if (!text) {
    if (text.error().code != Code::kNotFound) LogWarning("credentials: " + text.error().message);
    return {};
  }
  // The parser's message may quote the file, and the file holds secrets.
  const Json json = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    LogWarning(fmt::format("credentials: {} is not in the form of docker's config.json", path));
    return {};
  }
  const Members file(json, path);
  if (const std::string helper = HelperOf(file, RegistryOf(name)); !helper.empty())
    if (RegistryCredentials found = CredentialsOfHelper(helper, path, name, places); !found.empty())
      return found;
  RegistryCredentials found = EntryOf(file, name);
  found.found_in = path;
  return found;
}

}  // namespace lamina
