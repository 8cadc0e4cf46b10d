#include "fetch/short_names.h"

#include <dirent.h>
#include <fmt/core.h>
#include <unistd.h>

#include <toml++/toml.h>

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "base/text.h"

namespace lamina {
namespace {

constexpr uint64_t kMostBytes = 1u << 20;
constexpr size_t kMostFiles = 1000;
constexpr size_t kMostSearched = 16;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// The *.conf of a folder, by name.
void AddFolder(const std::string& folder, std::vector<std::string>* files) {
  DIR* open = ::opendir(folder.c_str());
  if (open == nullptr) return;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(open)) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(".conf") && names.size() < kMostFiles) names.emplace_back(name);
  }
  ::closedir(open);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) files->push_back(folder + "/" + name);
}

// The name of a short reference without tag and digest.
std::string_view NamePart(std::string_view text) {
  text = text.substr(0, text.find('@'));
  const size_t slash = text.rfind('/');
  return text.substr(0, text.find(':', slash == std::string_view::npos ? 0 : slash));
}

Result<toml::table> ParseToml(std::string_view text, const std::string& name) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& failure) {
    return Error{Code::kInvalid, fmt::format("{}: line {}: {}", name, failure.source().begin.line,
                                             failure.description())};
  }
}

Result<std::string> ParseRegistry(const std::string& text, const std::string& name) {
  if (IsValidRegistry(text)) return text;
  return Error{Code::kInvalid, fmt::format("{}: {} is no registry to search", name, Quote(text))};
}

}  // namespace

std::vector<std::string> ShortNames::FilesOfUser() {
  const std::string home = Environment("HOME");
  const std::string of_user = home + "/.config/containers";
  const std::string of_system = "/etc/containers";
  std::vector<std::string> files;
  if (const std::string given = Environment("CONTAINERS_REGISTRIES_CONF"); !given.empty())
    files.push_back(given);
  else if (const std::string own = of_user + "/registries.conf"; !home.empty() && FileExists(own))
    files.push_back(own);
  else
    files.push_back(of_system + "/registries.conf");
  AddFolder(of_system + "/registries.conf.d", &files);
  if (!home.empty()) AddFolder(of_user + "/registries.conf.d", &files);
  std::string cache = Environment("XDG_CACHE_HOME");
  if (cache.empty()) cache = home + "/.cache";
  if (::geteuid() == 0) cache = "/var/cache";
  files.push_back(cache + "/containers/short-name-aliases.conf");
  return files;
}

Result<ShortNames> ShortNames::Read(const std::vector<std::string>& files) {
  ShortNames names;
  for (const std::string& file : files) {
    const auto text = ReadWholeFile(file, kMostBytes);
    if (!text && text.error().code == Code::kNotFound) continue;
    if (!text) return text.error();
    RETURN_IF_ERROR(names.Add(*text, file));
  }
  return names;
}

Status ShortNames::Add(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(const toml::table table, ParseToml(text, name));
  if (const toml::node* node = table.get("unqualified-search-registries")) {
    const toml::array* list = node->as_array();
    if (list == nullptr || list->size() > kMostSearched)
      return Error{Code::kInvalid,
                   fmt::format("{}: unqualified-search-registries is no list of at most {} hosts",
                               name, kMostSearched)};
    search_.clear();
    for (const toml::node& item : *list) {
      ASSIGN_OR_RETURN(std::string host, ParseRegistry(item.value_or(std::string()), name));
      search_.push_back(std::move(host));
    }
  }
  const toml::table* aliases = table["aliases"].as_table();
  if (aliases == nullptr) return {};
  for (const auto& [key, value] : *aliases) {
    const std::string target = value.value_or(std::string());
    // An empty one takes back what another file says.
    aliases_[std::string(key.str())] = target;
  }
  return {};
}

bool ShortNames::IsShort(std::string_view text) {
  const std::string_view name = NamePart(text);
  const size_t slash = name.find('/');
  return slash == std::string_view::npos || !IsValidRegistry(name.substr(0, slash));
}

Result<std::vector<Reference>> ShortNames::Candidates(std::string_view text) const {
  // What is wrong with it is the same whatever is put before it.
  ASSIGN_OR_RETURN(const Reference plain, Reference::Parse(text));
  if (!IsShort(text)) return std::vector<Reference>{plain};
  const std::string name(NamePart(text));
  const std::string rest(text.substr(name.size()));
  if (const auto at = aliases_.find(name); at != aliases_.end() && !at->second.empty()) {
    auto target = Reference::Parse(at->second);
    if (!target) return target.error().Within("the short name " + Quote(name));
    if (IsShort(at->second) || target->tag || target->digest)
      return Error{Code::kInvalid,
                   fmt::format("the short name {} stands for {}, which is no name with a registry",
                               Quote(name), Quote(at->second))};
    target->tag = plain.tag;
    target->digest = plain.digest;
    return std::vector<Reference>{*target};
  }
  if (search_.empty()) return std::vector<Reference>{plain};
  std::vector<Reference> candidates;
  for (const std::string& registry : search_) {
    ASSIGN_OR_RETURN(Reference reference, Reference::Parse(registry + "/" + name + rest));
    candidates.push_back(std::move(reference));
  }
  return candidates;
}

}  // namespace lamina
