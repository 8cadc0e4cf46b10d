// alias: makes, removes, lists, exports and imports aliases.

#include <fcntl.h>
#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/print.h"
#include "cmd/short_references.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// More would not go through the control socket.
constexpr uint64_t kMostBytes = 900u << 10;

void ShowAliases(const Json& answer) {
  for (const Json& alias : answer.at("aliases")) {
    const std::string name = alias.value("repository", "") + ":" + alias.value("alias", "");
    const std::string platform = alias.value("platform", "");
    Print(fmt::format("{:<48} {:<20} {}{}", name, Short(alias.value("digest", "-")),
                      alias.value("target", ""), platform.empty() ? "" : " for " + platform));
  }
}

int Export(const CommonOptions& common, const std::string& path) {
  const auto write = [&](const Json& answer) -> Status {
    ASSIGN_OR_RETURN(const UniqueFd file, OpenFile(path, O_WRONLY | O_CREAT | O_TRUNC));
    return WriteExactly(file.get(), AsBytes(answer.value("document", "")), path);
  };
  Status written;
  const int code = AskAndPrint(common, {{"command", "alias export"}},
                               [&](const Json& answer) { written = write(answer); });
  return written ? code : Fail(written.error());
}

int Import(const CommonOptions& common, const std::string& path) {
  const auto document = ReadWholeFile(path, kMostBytes);
  if (!document) return Fail(document.error());
  return AskAndPrint(common, {{"command", "alias import"}, {"document", *document}},
                     [](const Json& answer) {
                       Print(fmt::format("{} aliases", answer.value("aliases", uint64_t{0})));
                     });
}

// Of a target only the beginning can be short: a tag or a digest is the repository's own.
Result<std::string> FullTarget(const std::string& text) {
  const bool own = text.empty() || text.find_first_of(":/@") == std::string::npos;
  if (own || text.starts_with("sha256:") || text.starts_with("sha512:")) return text;
  return FullName(text);
}

int OnAlias(const CommonOptions& common, const AliasCommand& command) {
  const auto name = command.name.empty() ? Result<std::string>("") : FullName(command.name);
  if (!name) return Fail(name.error());
  const auto target = FullTarget(command.target);
  if (!target) return Fail(target.error());
  if (command.remove)
    return AskAndPrint(common, {{"command", "alias rm"}, {"name", *name}}, [](const Json&) {});
  if (target->empty())
    return AskAndPrint(common, {{"command", "alias ls"}, {"repository", *name}}, ShowAliases);
  return AskAndPrint(common,
                     {{"command", "alias set"},
                      {"name", *name},
                      {"target", *target},
                      {"platform", common.platform}},
                     ShowAliases);
}

}  // namespace

int RunAlias(const CommonOptions& given, const AliasCommand& command) {
  CommonOptions common = given;
  if (!command.export_file.empty()) {
    common.json = false;  // the file is JSON in any case
    return Export(common, command.export_file);
  }
  if (!command.import_file.empty()) return Import(common, command.import_file);
  return OnAlias(common, command);
}

}  // namespace lamina
