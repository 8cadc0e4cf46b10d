// The commands about sources: add, forget.

#include <nlohmann/json.hpp>
#include <string>

#include "base/text.h"
#include "cmd/ask.h"
#include "cmd/commands.h"
#include "cmd/print.h"
#include "cmd/short_references.h"
#include "fs/source_spec.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// A source with an absolute path: a daemon has another current folder. Anything else as it is.
Result<std::string> AbsoluteSource(const std::string& source) {
  const size_t colon = source.find(':');
  if (!IsSourceSpec(source) || colon + 1 == source.size()) return source;
  ASSIGN_OR_RETURN(const std::string path, AbsolutePath(source.substr(colon + 1)));
  return source.substr(0, colon + 1) + path;
}

// Prints what was done, and what was not as errors. The exit code.
template <typename Show>
int AskAndTell(const CommonOptions& common, const Json& request, const Show& show) {
  const auto answer = Ask(common, request);
  if (!answer) return Fail(answer.error());
  if (common.json)
    PrintJson(*answer);
  else
    show(*answer);
  int code = 0;
  for (const Json& failure : answer->at("failed"))
    code = Fail(Error{Code::kInvalid, failure.value("message", "")});
  return code;
}

}  // namespace

int RunAdd(const CommonOptions& common, const AddCommand& command) {
  Json sources = Json::array();
  for (const std::string& source : command.sources) {
    auto absolute = AbsoluteSource(source);
    if (!absolute) return Fail(absolute.error());
    sources.push_back(*absolute);
  }
  const Json request{{"command", "add"}, {"sources", sources}, {"as", command.as_name}};
  return AskAndTell(common, request, [](const Json& answer) {
    for (const Json& name : answer.at("added")) {
      const std::string tag = name.value("tag", "");
      Print(name.value("repository", "") + (tag.empty() ? "" : ":" + tag) + "@" +
            name.value("digest", ""));
    }
  });
}

int RunForget(const CommonOptions& common, const ForgetCommand& command) {
  Json names = Json::array();
  for (const std::string& name : command.names) {
    const auto full = IsSourceSpec(name) ? AbsoluteSource(name) : FullName(name);
    if (!full) return Fail(full.error());
    names.push_back(*full);
  }
  return AskAndTell(common, {{"command", "forget"}, {"names", names}}, [](const Json& answer) {
    for (const Json& word : answer.at("forgotten"))
      Print("forgotten: " + EscapeControl(word.get<std::string>()));
  });
}

}  // namespace lamina
