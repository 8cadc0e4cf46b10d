#include "cmd/credential_helper.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "base/user.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// The user name that says that the secret is an identity token.
constexpr const char* kTokenUser = "<token>";
// How helpers say that they keep nothing for a server; they exit with 1 then, too.
constexpr const char* kNothingKept = "credentials not found";
// What helpers need to find the user's keys and session, and no more.
constexpr const char* kInherited[] = {"USER", "LOGNAME", "XDG_RUNTIME_DIR",
                                      "DBUS_SESSION_BUS_ADDRESS"};

bool IsHelperName(const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && std::ranges::all_of(name, plain);
}

Result<std::string> FindProgram(const std::string& program, const HelperPlaces& places) {
  for (const std::string& folder : places.folders)
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return folder + "/" + program;
  return Error{Code::kNotFound,
               fmt::format("there is no {} in {}", program, fmt::join(places.folders, ":"))};
}

std::vector<std::string> Environment(const HelperPlaces& places) {
  std::vector<std::string> lines = {fmt::format("PATH={}", fmt::join(places.folders, ":"))};
  if (const std::string home = HomeFolder(); !home.empty()) lines.push_back("HOME=" + home);
  for (const char* name : kInherited)
    if (const char* value = std::getenv(name)) lines.push_back(fmt::format("{}={}", name, value));
  return lines;
}

// The parser's message may quote the answer, and the answer holds secrets.
Result<RegistryCredentials> ParseAnswer(const std::string& output) {
  const Json answer = Json::parse(output, nullptr, false);
  const auto text = [&](const char* key) -> std::string {
    const auto at = answer.is_object() ? answer.find(key) : answer.end();
    return at != answer.end() && at->is_string() ? at->get<std::string>() : "";
  };
  const std::string user = text("Username");
  const std::string secret = text("Secret");
  if (user.empty() || secret.empty())
    return Error{Code::kInvalid, "its answer has no Username or no Secret"};
  RegistryCredentials found;
  if (user == kTokenUser) {
    found.identity_token = secret;
  } else {
    found.username = user;
    found.password = secret;
  }
  return found;
}

}  // namespace

Result<RegistryCredentials> AskCredentialHelper(const std::string& name, const std::string& server,
                                                const HelperPlaces& places) {
  if (!IsHelperName(name))
    return Error{Code::kInvalid, Quote(name) + " is no name of a credential helper"};
  const std::string program = "docker-credential-" + name;
  ASSIGN_OR_RETURN(const std::string path, FindProgram(program, places));
  const auto answer = RunHelper({path, "get"}, Environment(places), server, places.bounds);
  if (!answer) return answer.error().Within(program);
  if (answer->exit_code == 0) {
    auto found = ParseAnswer(answer->output);
    return found ? std::move(found) : Result<RegistryCredentials>(found.error().Within(program));
  }
  if (answer->output.find(kNothingKept) != std::string::npos) return RegistryCredentials();
  return Error{Code::kDenied, fmt::format("{} ended with {}", program, answer->exit_code)};
}

}  // namespace lamina
