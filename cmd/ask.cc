#include "cmd/ask.h"

#include <fmt/core.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/control.h"
#include "cmd/engine.h"
#include "cmd/progress_bars.h"
#include "cmd/requests.h"
#include "cmd/short_references.h"
#include "fs/layout.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

}  // namespace

// Its socket is in the folder in memory where the store's disk took none.
Result<std::optional<ControlClient>> FindDaemon(const std::string& store) {
  ASSIGN_OR_RETURN(auto daemon, ControlClient::Connect(StorePaths{store}.ControlSocket()));
  for (const std::string& folder : SpareFolder::PlacesOf(store)) {
    if (daemon) break;
    if (!IsPrivateFolder(folder)) continue;
    ASSIGN_OR_RETURN(daemon, ControlClient::Connect(folder + "/" + StorePaths::kControlSocket));
  }
  return daemon;
}

Result<Json> Ask(const CommonOptions& common, const Json& given, const ByteSink& data) {
  ASSIGN_OR_RETURN(const Json request, WithFullReference(given));
  ProgressBars bars;
  const Replies replies{.progress =
                            [&](const Json& step) {
                              bars.Show(step);
                              return true;
                            },
                        .data =
                            [&](ByteSpan bytes) {
                              bars.MakeRoom();
                              return data(bytes);
                            }};
  ASSIGN_OR_RETURN(auto daemon, FindDaemon(common.store));
  if (daemon && !common.daemon_options.empty())
    return Error{Code::kInvalid,
                 fmt::format("{} is up to the daemon that holds the store {}: give it to its "
                             "`lamina mount`",
                             fmt::join(common.daemon_options, ", "), common.store)};
  if (daemon) {
    ASSIGN_OR_RETURN(const Json answer, daemon->Ask(request, replies));
    if (const std::string note = answer.value("note", ""); !note.empty())
      fmt::print(stderr, "lamina: {}\n", EscapeControl(note));
    return answer;
  }
  ASSIGN_OR_RETURN(const CatalogOptions options, CatalogOptionsOf(common));
  ASSIGN_OR_RETURN(const LogLevel level, LogLevelOf(common));
  // Warnings matter to who watches; the rest goes to the daemon's log only.
  RETURN_IF_ERROR(
      StartLog({.level = std::max(level, LogLevel::kWarning), .file = "", .to_stderr = true}));
  auto engine = Engine::Open(common.store, options, common.cache_size, CompressionOf(common));
  if (!engine) return engine.error();
  if (!(*engine)->lasting() && ChangesStore(request))
    return Error{Code::kUnsupported,
                 fmt::format("the disk of the store {} takes no files, so nothing of it can be "
                             "changed",
                             common.store)};
  return Perform(**engine, request, replies);
}

}  // namespace lamina
