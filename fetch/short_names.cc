#include "fetch/short_names.h"

#include <fmt/core.h>

#include "base/text.h"
#include "fetch/toml_text.h"

namespace lamina {
namespace {

constexpr size_t kMostSearched = 16;

// The name of a short reference without tag and digest.
std::string_view NamePart(std::string_view text) {
  text = text.substr(0, text.find('@'));
  const size_t slash = text.rfind('/');
  return text.substr(0, text.find(':', slash == std::string_view::npos ? 0 : slash));
}

Result<std::string> ParseRegistry(const std::string& text, const std::string& name) {
  if (IsValidRegistry(text)) return text;
  return Error{Code::kInvalid, fmt::format("{}: {} is no registry to search", name, Quote(text))};
}

}  // namespace

Result<ShortNames> ShortNames::Read(const std::vector<std::string>& files) {
  return ReadConfFiles<ShortNames>(files);
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
