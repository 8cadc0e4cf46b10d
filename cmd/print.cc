#include "cmd/print.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/text.h"
#include "cmd/ask.h"
#include "cmd/commands.h"

namespace lamina {

void Print(const std::string& text) { std::fputs((text + "\n").c_str(), stdout); }

void PrintJson(const nlohmann::json& json) {
  Print(json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

int AskAndShow(const CommonOptions& common, const nlohmann::json& request,
               const std::function<void(const nlohmann::json&, bool as_json)>& show) {
  const auto answer = Ask(common, request);
  if (!answer) return Fail(answer.error());
  show(*answer, common.json);
  return 0;
}

int AskAndPrint(const CommonOptions& common, const nlohmann::json& request,
                const std::function<void(const nlohmann::json&)>& show) {
  return AskAndShow(common, request, [&](const nlohmann::json& answer, bool as_json) {
    if (as_json)
      PrintJson(answer);
    else
      show(answer);
  });
}

std::string Short(const std::string& digest) { return digest.substr(0, 19); }

std::string Age(const std::string& seen) {
  int64_t ns = 0;
  if (!ParseRfc3339(seen, &ns)) return "";
  const int64_t seconds = std::max<int64_t>(0, (WallClock::System().NowNs() - ns) / 1'000'000'000);
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86400);
}

}  // namespace lamina
