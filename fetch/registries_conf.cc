#include "fetch/registries_conf.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "base/user.h"
#include "fetch/reference.h"
#include "fetch/toml_text.h"
#include "fetch/url.h"

namespace lamina {
namespace {

constexpr size_t kMostFiles = 1000;
constexpr size_t kMostRules = 10'000;
constexpr size_t kMostMirrors = 32;
constexpr size_t kMostHelpers = 16;

// The *.conf of a folder, by name.
void AddFolder(const std::string& folder, std::vector<std::string>* files) {
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) {
    // What cannot be looked into may block a name: who reads the files meets it.
    if (errno != ENOENT && errno != ENOTDIR) files->push_back(folder);
    return;
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(open)) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(".conf") && names.size() < kMostFiles) names.emplace_back(name);
  }
  ::closedir(open);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) files->push_back(folder + "/" + name);
}

Result<std::string> TextOf(const toml::table& table, const char* key, const std::string& where) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return std::string();
  if (const auto text = node->value_exact<std::string>()) return *text;
  return Error{Code::kInvalid, fmt::format("{}: {} is no text", where, key)};
}

// A slash at the end says nothing.
Result<std::string> NameOf(const toml::table& table, const char* key, const std::string& where) {
  ASSIGN_OR_RETURN(std::string name, TextOf(table, key, where));
  while (name.ends_with("/")) name.pop_back();
  return name;
}

// A location is a host, which may be a name that no image's registry could have ("mirror"), perhaps
// with the beginning of a path.
Status CheckLocation(const std::string& location, const std::string& where) {
  const size_t slash = location.find('/');
  const bool valid =
      Url::Parse("https://" + location.substr(0, slash)).has_value() &&
      (slash == std::string::npos || IsValidRepositoryPath(location.substr(slash + 1)));
  if (valid) return {};
  return Error{Code::kInvalid, fmt::format("{}: the location {} is no registry with or without "
                                           "a path",
                                           where, Quote(location))};
}

// What a mirror is asked for by a tag it is then asked for by digest: the bytes of that image.
Status TakePullFromMirror(const std::string& text, const std::string& where,
                          RegistryLocation* mirror) {
  if (!text.empty() && text != "all" && text != "digest-only" && text != "tag-only")
    return Error{Code::kInvalid,
                 fmt::format("{}: pull-from-mirror is {} instead of all, digest-only or tag-only",
                             where, Quote(text))};
  mirror->by_tag = text != "digest-only";
  return {};
}

Result<RegistryLocation> ParseMirror(const toml::node& node, bool digest_only,
                                     const std::string& where) {
  const toml::table* table = node.as_table();
  if (table == nullptr) return Error{Code::kInvalid, where + ": a mirror is no table"};
  RegistryLocation mirror;
  ASSIGN_OR_RETURN(mirror.location, NameOf(*table, "location", where));
  RETURN_IF_ERROR(CheckLocation(mirror.location, where + ": mirror"));
  ASSIGN_OR_RETURN(mirror.insecure, FlagOf(*table, "insecure", where));
  ASSIGN_OR_RETURN(const std::string pull, TextOf(*table, "pull-from-mirror", where));
  RETURN_IF_ERROR(TakePullFromMirror(pull, where, &mirror));
  if (digest_only && !pull.empty())
    return Error{Code::kInvalid,
                 where + ": mirror-by-digest-only and pull-from-mirror cannot stand together"};
  if (digest_only) mirror.by_tag = false;
  return mirror;
}

// "*.example.com" stands for every host below example.com, with whatever path follows.
bool IsWildcard(const std::string& prefix) { return prefix.starts_with("*."); }

Status CheckPrefix(const RegistryRule& rule, const std::string& where) {
  const std::string prefix = IsWildcard(rule.prefix) ? rule.prefix.substr(2) : rule.prefix;
  if (!IsValidRegistry(prefix.substr(0, prefix.find('/'))))
    return Error{Code::kInvalid,
                 fmt::format("{}: the prefix {} has no registry", where, Quote(rule.prefix))};
  return {};
}

Result<RegistryRule> ParseRule(const toml::node& node, const std::string& name) {
  const std::string where = fmt::format("{}: line {}", name, node.source().begin.line);
  const toml::table* table = node.as_table();
  if (table == nullptr) return Error{Code::kInvalid, where + ": a registry is no table"};
  RegistryRule rule;
  rule.file = name;
  ASSIGN_OR_RETURN(rule.prefix, NameOf(*table, "prefix", where));
  ASSIGN_OR_RETURN(rule.origin.location, NameOf(*table, "location", where));
  if (rule.prefix.empty()) rule.prefix = rule.origin.location;
  RETURN_IF_ERROR(CheckPrefix(rule, where));
  if (!rule.origin.location.empty()) RETURN_IF_ERROR(CheckLocation(rule.origin.location, where));
  ASSIGN_OR_RETURN(rule.origin.insecure, FlagOf(*table, "insecure", where));
  ASSIGN_OR_RETURN(rule.blocked, FlagOf(*table, "blocked", where));
  ASSIGN_OR_RETURN(const bool digest_only, FlagOf(*table, "mirror-by-digest-only", where));
  const toml::node* mirrors = table->get("mirror");
  if (mirrors == nullptr) return rule;
  const toml::array* list = mirrors->as_array();
  if (list == nullptr || list->size() > kMostMirrors)
    return Error{Code::kInvalid,
                 fmt::format("{}: mirror is no list of at most {}", where, kMostMirrors)};
  for (const toml::node& item : *list) {
    ASSIGN_OR_RETURN(RegistryLocation mirror, ParseMirror(item, digest_only, where));
    rule.mirrors.push_back(std::move(mirror));
  }
  return rule;
}

// How many bytes of the reference the prefix covers; none where it is not meant.
std::optional<size_t> Covered(std::string_view reference, const std::string& prefix) {
  size_t end = prefix.size();
  if (IsWildcard(prefix)) {
    const size_t at = reference.find(prefix.substr(1));
    if (at == std::string_view::npos || reference.substr(0, at).find('/') != std::string_view::npos)
      return std::nullopt;
    end = at + prefix.size() - 1;
  } else if (!reference.starts_with(prefix)) {
    return std::nullopt;
  }
  if (end == reference.size()) return end;
  const char next = reference[end];
  return next == '/' || next == ':' || next == '@' ? std::optional(end) : std::nullopt;
}

Status AddRules(const toml::table& table, const std::string& name,
                std::vector<RegistryRule>* rules) {
  const toml::node* registries = table.get("registry");
  if (registries == nullptr) return {};
  const toml::array* list = registries->as_array();
  if (list == nullptr || list->size() + rules->size() > kMostRules)
    return Error{Code::kInvalid,
                 fmt::format("{}: registry is no list of at most {}", name, kMostRules)};
  for (const toml::node& node : *list) {
    ASSIGN_OR_RETURN(RegistryRule rule, ParseRule(node, name));
    std::erase_if(*rules, [&](const RegistryRule& known) { return known.prefix == rule.prefix; });
    rules->push_back(std::move(rule));
  }
  return {};
}

// The last file that has the list wins; an empty one means what none means.
Status TakeHelpers(const toml::table& table, const std::string& name,
                   RegistriesConf::Helpers* helpers) {
  const toml::node* node = table.get("credential-helpers");
  if (node == nullptr) return {};
  const toml::array* list = node->as_array();
  if (list == nullptr || list->size() > kMostHelpers)
    return Error{Code::kInvalid, fmt::format("{}: credential-helpers is no list of at most {}",
                                             name, kMostHelpers)};
  RegistriesConf::Helpers taken{.names = {}, .file = name};
  for (const toml::node& item : *list) {
    const auto helper = item.value_exact<std::string>();
    if (!helper || helper->empty())
      return Error{Code::kInvalid, name + ": credential-helpers has something else than names"};
    taken.names.push_back(*helper);
  }
  *helpers = taken.names.empty() ? RegistriesConf::Helpers() : std::move(taken);
  return {};
}

}  // namespace

std::vector<std::string> RegistriesConf::FilesOfUser() {
  const std::string home = HomeFolder();
  const std::string of_user = home + "/.config/containers";
  const std::string of_system = "/etc/containers";
  std::vector<std::string> files;
  if (const std::string given = EnvironmentOf("CONTAINERS_REGISTRIES_CONF"); !given.empty())
    files.push_back(given);
  else if (const std::string own = of_user + "/registries.conf"; !home.empty() && FileExists(own))
    files.push_back(own);
  else
    files.push_back(of_system + "/registries.conf");
  AddFolder(of_system + "/registries.conf.d", &files);
  if (!home.empty()) AddFolder(of_user + "/registries.conf.d", &files);
  return files;
}

std::string RegistriesConf::AliasFileOfUser() {
  std::string cache = EnvironmentOf("XDG_CACHE_HOME");
  if (cache.empty()) cache = HomeFolder() + "/.cache";
  if (::geteuid() == 0) cache = "/var/cache";
  return cache + "/containers/short-name-aliases.conf";
}

Result<RegistriesConf> RegistriesConf::Read(const std::vector<std::string>& files) {
  return ReadConfFiles<RegistriesConf>(files);
}

Status RegistriesConf::Add(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(const toml::table table, ParseToml(text, name));
  RETURN_IF_ERROR(TakeHelpers(table, name, &helpers_));
  return AddRules(table, name, &rules_);
}

std::optional<RegistriesConf::Match> RegistriesConf::Find(std::string_view reference) const {
  const RegistryRule* best = nullptr;
  size_t covered = 0;
  for (const RegistryRule& rule : rules_) {
    const std::optional<size_t> length = Covered(reference, rule.prefix);
    if (!length) continue;
    // The longer pattern, as podman compares them.
    if (best != nullptr && rule.prefix.size() <= best->prefix.size()) continue;
    best = &rule;
    covered = *length;
  }
  if (best == nullptr) return std::nullopt;
  return Match{*best, covered};
}

std::string Relocated(std::string_view reference, size_t length, const std::string& location) {
  if (location.empty()) return std::string(reference);
  return location + std::string(reference.substr(length));
}

}  // namespace lamina
