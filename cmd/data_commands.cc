// The commands that print what an engine answers: ls, resolve, inspect, fetch, version.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/print.h"
#include "cmd/short_references.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

Json ReferenceRequest(const char* name, const CommonOptions& common,
                      const ReferenceCommand& command) {
  return {{"command", name}, {"reference", command.reference}, {"platform", common.platform}};
}

void ShowLayer(size_t number, const Json& layer) {
  Print(fmt::format("  {:>2}  {}  {:>10}  {}", number, Short(layer.value("digest", "")),
                    HumanSize(layer.value("size", uint64_t{0})), layer.value("media_type", "")));
  if (!layer.contains("lazy"))
    return Print("      not indexed yet: it streams once when something first reads it");
  Print(fmt::format("      {}; {}", layer.value("compression", ""), layer.value("lazy", "")));
  Print(fmt::format("      index {}: {}", layer.value("index", ""),
                    EscapeControl(layer.value("index_from", ""))));
  const Json cost = layer.value("cold_read_bytes", Json::object());
  Print(fmt::format("      a cold read of 4 KiB fetches {} (at most {})",
                    HumanSize(cost.value("mean", uint64_t{0})),
                    HumanSize(cost.value("most", uint64_t{0}))));
  if (layer.contains("refused"))
    Print("      REFUSED: " + EscapeControl(layer.value("refused", "")));
  Print(fmt::format("      {} of {} chunks local ({}); index {}",
                    layer.value("chunks_local", uint64_t{0}), layer.value("chunks", uint64_t{0}),
                    HumanSize(layer.value("bytes_local", uint64_t{0})),
                    HumanSize(layer.value("index_bytes", uint64_t{0}))));
  Print(fmt::format("      verified: {}", layer.value("verified", "")));
  for (const Json& warning : layer.value("warnings", Json::array()))
    Print("      warning: " + warning.get<std::string>());
}

void ShowInspection(const Json& answer) {
  const Json& status = answer.at("status");
  const Json& resolution = answer.at("resolution");
  Print(fmt::format("{}@{}", answer.value("name", ""), resolution.value("digest", "")));
  Print(fmt::format("  manifest  {}", status.value("manifest_digest", "")));
  Print(fmt::format("  platform  {}", status.value("platform", "")));
  Print(fmt::format("  from      {}{}", resolution.value("origin", ""),
                    resolution.value("stale", false) ? " (last known answer)" : ""));
  Print(fmt::format("  tree      {}", status.value("tree", "")));
  if (answer.value("pinned", false)) Print("  pinned    its bytes are not evicted");
  const Json config = answer.at("config").value("config", Json::object());
  for (const char* key : {"Entrypoint", "Cmd", "Env", "User", "WorkingDir"})
    if (config.is_object() && config.contains(key) && !config[key].is_null())
      Print(fmt::format(
          "  {:<9} {}", key,
          EscapeControl(config[key].dump(-1, ' ', false, Json::error_handler_t::replace))));
  for (const Json& offer : answer.value("platforms", Json::array()))
    Print(fmt::format("  {} {:<16} {}", offer.value("chosen", false) ? "chosen " : "offered",
                      EscapeControl(offer.value("platform", "")), offer.value("digest", "")));
  Print("layers, bottom first:");
  size_t number = 0;
  for (const Json& layer : status.at("layers")) ShowLayer(number++, layer);
}

}  // namespace

int Fail(const Error& error) {
  std::fprintf(stderr, "lamina: %s\n", EscapeControl(error.message).c_str());
  return 1;
}

int RunList(const CommonOptions& common, const std::string& given) {
  const auto full = given.empty() ? Result<std::string>(given) : FullName(given);
  if (!full) return Fail(full.error());
  const std::string& repository = *full;
  return AskAndPrint(
      common, {{"command", "ls"}, {"repository", repository}}, [](const Json& answer) {
        for (const Json& image : answer.at("images")) {
          const std::string tag = image.value("tag", "");
          const std::string name = image.value("repository", "") + (tag.empty() ? "" : ":" + tag);
          Print(fmt::format("{:<48} {:<20} {:>7}  {}", name, Short(image.value("digest", "-")),
                            Age(image.value("seen", "")), image.value("origin", "")));
        }
      });
}

int RunResolve(const CommonOptions& common, const ReferenceCommand& command) {
  return AskAndPrint(common, ReferenceRequest("resolve", common, command), [](const Json& answer) {
    Print(answer.value("name", "") + "@" + answer.value("digest", ""));
  });
}

int RunInspect(const CommonOptions& common, const ReferenceCommand& command) {
  return AskAndPrint(common, ReferenceRequest("inspect", common, command), ShowInspection);
}

int RunFetch(const CommonOptions& common, const ReferenceCommand& command) {
  Json request = ReferenceRequest("fetch", common, command);
  request["index_only"] = command.index_only;
  return AskAndPrint(common, request, [&](const Json& answer) {
    Print(fmt::format("{}@{}: {}", answer.value("name", ""), answer.value("digest", ""),
                      command.index_only ? "indexed" : "wholly local"));
  });
}

int RunVersion(const CommonOptions& common) {
  if (common.json)
    PrintJson({{"version", VersionText()}});
  else
    Print(fmt::format("lamina {}", VersionText()));
  return 0;
}

}  // namespace lamina
