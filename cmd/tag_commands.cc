// The commands that print names: tags ls, refresh, history.

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/print.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// What is worth saying of a tag beside its digest.
std::string MarksOf(const Json& tag) {
  std::string marks = tag.contains("alias") ? "alias" : "";
  for (const char* mark : {"local", "stale", "moved", "gone"})
    if (tag.value(mark, false)) marks += std::string(marks.empty() ? "" : ",") + mark;
  return marks.empty() ? "-" : marks;
}

void ShowTag(const Json& tag) {
  // Of an alias it is the target that says where it comes from.
  const std::string alias = tag.value("alias", "");
  Print(fmt::format("{:<32} {:<20} {:>7}  {:<12} {}", tag.value("tag", ""),
                    Short(tag.value("digest", "-")), Age(tag.value("seen", "")), MarksOf(tag),
                    alias.empty() ? tag.value("origin", "") : "-> " + alias));
}

void Warn(const std::string& text) {
  std::fprintf(stderr, "lamina: %s\n", EscapeControl(text).c_str());
}

}  // namespace

int RunTagsList(const CommonOptions& common, const ReferenceCommand& command) {
  const Json request{{"command", "tags ls"}, {"reference", command.reference}};
  return AskAndPrint(common, request, [](const Json& answer) {
    for (const Json& tag : answer.at("tags")) ShowTag(tag);
    if (answer.contains("reason"))
      Warn("the registry's list is missing: " + answer.value("reason", ""));
  });
}

int RunTagsRefresh(const CommonOptions& common, const ReferenceCommand& command) {
  bool failed = false;
  const Json request{{"command", "tags refresh"}, {"reference", command.reference}};
  const int code = AskAndPrint(common, request, [&](const Json& answer) {
    for (const Json& tag : answer.at("tags")) {
      if (!tag.contains("error")) {
        ShowTag(tag);
        continue;
      }
      failed = true;
      Warn(answer.value("repository", "") + ":" + tag.value("tag", "") + ": " +
           tag.value("error", ""));
    }
  });
  return failed ? 1 : code;
}

int RunTagsHistory(const CommonOptions& common, const ReferenceCommand& command) {
  const Json request{{"command", "tags history"}, {"reference", command.reference}};
  return AskAndPrint(common, request, [](const Json& answer) {
    for (const Json& row : answer.at("history"))
      Print(fmt::format("{:<24} {}  {}  {}  {}", row.value("tag", ""), row.value("digest", ""),
                        row.value("first_seen", ""), row.value("seen", ""),
                        row.value("origin", "")));
  });
}

}  // namespace lamina
