#include "fetch/registry_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fetch/json.h"
#include "fetch/reference.h"

namespace lamina {
namespace {

using nlohmann::json;

constexpr int kDepth = 64;

std::string StringMember(const json& object, const char* name) {
  if (!object.is_object()) return {};
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool IsTokenText(std::string_view text) {
  return !text.empty() && text.size() <= (48u << 10) &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

}  // namespace

RegistryErrorBody ParseErrorBody(std::string_view body) {
  const Result<json> parsed = ParseJson(body, kDepth, "error");
  if (!parsed || !parsed->is_object()) return {};
  if (const auto list = parsed->find("errors");
      list != parsed->end() && list->is_array() && !list->empty())
    return {StringMember(list->front(), "code"), StringMember(list->front(), "message")};
  std::string words = StringMember(*parsed, "error_description");
  if (words.empty()) words = StringMember(*parsed, "details");
  return {StringMember(*parsed, "error"), std::move(words)};
}

Result<TokenBody> ParseTokenBody(std::string_view body) {
  ASSIGN_OR_RETURN(const json parsed, ParseJson(body, kDepth, "the answer with the token"));
  if (!parsed.is_object())
    return Error{Code::kInvalid, "the answer with the token is not a JSON object"};
  TokenBody out;
  out.token = StringMember(parsed, "token");
  if (out.token.empty()) out.token = StringMember(parsed, "access_token");
  if (!IsTokenText(out.token))
    return Error{Code::kInvalid, "the answer with the token has none that can be used"};
  const auto lifetime = parsed.find("expires_in");
  if (lifetime != parsed.end() && lifetime->is_number_integer())
    out.expires_in = lifetime->get<int64_t>();
  return out;
}

namespace {

Result<std::vector<std::string>> ParseNames(std::string_view body, const char* member,
                                            bool (*valid)(std::string_view)) {
  ASSIGN_OR_RETURN(const json parsed, ParseJson(body, kDepth, "the list"));
  if (!parsed.is_object()) return Error{Code::kInvalid, "the list is not a JSON object"};
  const auto names = parsed.find(member);
  if (names == parsed.end() || names->is_null()) return std::vector<std::string>();
  if (!names->is_array())
    return Error{Code::kInvalid, "the list's '" + std::string(member) + "' is not an array"};
  std::vector<std::string> out;
  for (const json& name : *names)
    if (name.is_string() && valid(name.get_ref<const std::string&>()))
      out.push_back(name.get<std::string>());
  return out;
}

}  // namespace

Result<std::vector<std::string>> ParseTagList(std::string_view body) {
  return ParseNames(body, "tags", IsValidTag);
}

Result<std::vector<std::string>> ParseCatalog(std::string_view body) {
  return ParseNames(body, "repositories", IsValidRepositoryPath);
}

}  // namespace lamina
