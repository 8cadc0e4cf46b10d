#include "cmd/ask.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/control.h"
#include "cmd/engine.h"
#include "cmd/requests.h"
#include "cmd/short_references.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

// One line that is drawn over itself. Silent where standard error is no terminal.
class ProgressLine {
 public:
  void Show(const Json& step) {
    if (!terminal_ || !due_.passed()) return;
    due_ = Deadline::After(std::chrono::milliseconds(50));
    indexing_ = step.value("what", "") == "indexing";
    const uint64_t done = step.value("done", uint64_t{0});
    const uint64_t of = step.value("of", uint64_t{0});
    constexpr uint64_t kWidth = 30;
    const uint64_t filled = of == 0 ? 0 : done * kWidth / of;
    const bool bytes = step.value("unit", "") == "bytes";
    const std::string counts = bytes ? HumanSize(done) + " of " + HumanSize(of)
                                     : fmt::format("{} of {} {}", done, of, step.value("unit", ""));
    std::fprintf(stderr, "\r\033[K%-9s [%s%s] %s", step.value("what", "").c_str(),
                 std::string(filled, '#').c_str(), std::string(kWidth - filled, '.').c_str(),
                 counts.c_str());
    std::fflush(stderr);
    drawn_ = true;
  }
  // Before data that may go to the same terminal. That of a copy goes into files.
  void MakeRoom() {
    if (indexing_) Erase();
  }
  ~ProgressLine() { Erase(); }

 private:
  void Erase() {
    if (drawn_) std::fputs("\r\033[K", stderr);
    drawn_ = false;
  }

  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  Deadline due_ = Deadline::After(std::chrono::milliseconds(0));
  bool drawn_ = false;
  bool indexing_ = false;
};

}  // namespace

Result<Json> Ask(const CommonOptions& common, const Json& given, const ByteSink& data) {
  ASSIGN_OR_RETURN(const Json request, WithFullReference(given));
  ProgressLine line;
  const Replies replies{.progress =
                            [&](const Json& step) {
                              line.Show(step);
                              return true;
                            },
                        .data =
                            [&](ByteSpan bytes) {
                              line.MakeRoom();
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
  auto engine = Engine::Open(common.store, options);
  if (!engine) return engine.error();
  return Perform(**engine, request, replies);
}

}  // namespace lamina
