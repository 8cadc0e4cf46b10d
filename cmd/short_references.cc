#include "cmd/short_references.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "base/text.h"
#include "cmd/request_json.h"
#include "fetch/registries_conf.h"
#include "fetch/short_names.h"

namespace lamina {
namespace {

// One or more, in full; none where the text is no short name.
Result<std::vector<std::string>> CandidatesOf(const std::string& text) {
  std::vector<std::string> texts;
  if (text.empty() || !ShortNames::IsShort(text)) return texts;
  std::vector<std::string> files = RegistriesConf::FilesOfUser();
  files.push_back(RegistriesConf::AliasFileOfUser());
  ASSIGN_OR_RETURN(const ShortNames names, ShortNames::Read(files));
  ASSIGN_OR_RETURN(const std::vector<Reference> candidates, names.Candidates(text));
  for (const Reference& candidate : candidates) texts.push_back(candidate.ToString());
  return texts;
}

}  // namespace

Result<nlohmann::json> WithFullReference(const nlohmann::json& request) {
  ASSIGN_OR_RETURN(const auto candidates, CandidatesOf(TextOf(request, "reference")));
  nlohmann::json full = request;
  if (candidates.size() == 1) full["reference"] = candidates.front();
  if (candidates.size() > 1) full["candidates"] = candidates;
  return full;
}

Result<std::string> FullName(const std::string& text) {
  ASSIGN_OR_RETURN(const auto candidates, CandidatesOf(text));
  if (candidates.empty()) return text;
  if (candidates.size() == 1) return candidates.front();
  return Error{Code::kInvalid, fmt::format("{} may mean {}: write it in full", Quote(text),
                                           fmt::join(candidates, " or "))};
}

}  // namespace lamina
