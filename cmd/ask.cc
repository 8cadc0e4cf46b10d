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

namespace lamina {
namespace {

using Json = nlohmann::json;

}  // namespace

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
  ASSIGN_OR_RETURN(auto daemon, ControlClient::Connect(StorePaths{common.store}.ControlSocket()));
  if (daemon && !common.daemon_options.empty())
    return Error{Code::kInvalid,
                 fmt::format("{} is up to the daemon that holds the store {}: give it to its "
                             "`lamina mount`",
                             fmt::join(common.daemon_options, ", "), common.store)};
  if (daemon) return daemon->Ask(request, replies);
  ASSIGN_OR_RETURN(const CatalogOptions options, CatalogOptionsOf(common));
  ASSIGN_OR_RETURN(const LogLevel level, LogLevelOf(common));
  // Warnings matter to who watches; the rest goes to the daemon's log only.
  RETURN_IF_ERROR(
      StartLog({.level = std::max(level, LogLevel::kWarning), .file = "", .to_stderr = true}));
  auto engine = Engine::Open(common.store, options, common.cache_size, CompressionOf(common));
  if (!engine) return engine.error();
  return Perform(**engine, request, replies);
}

}  // namespace lamina
