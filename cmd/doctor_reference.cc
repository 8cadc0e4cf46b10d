// doctor REF: what doctor_request.h finds, in the daemon that holds the store or in this process.

#include <fmt/core.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "base/text.h"
#include "cmd/ask.h"
#include "cmd/commands.h"
#include "cmd/control.h"
#include "cmd/doctor_request.h"
#include "cmd/engine.h"
#include "cmd/print.h"
#include "cmd/short_references.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

void PrintLine(const char* what, const std::string& text) {
  std::printf("     %-14s %s\n", what, EscapeControl(text).c_str());
}

void PrintTrial(const char* failed, const Json& row) {
  PrintLine(row["ok"] ? "ok" : failed,
            fmt::format("{}: {} ({} ms)", row["asked"].get<std::string>(),
                        row["answer"].get<std::string>(), row["ms"].get<int64_t>()));
}

void PrintHost(size_t number, const Json& host) {
  std::printf("  %zu. %s\n", number, EscapeControl(host["url"].get<std::string>()).c_str());
  PrintLine("asked for", host["for"]);
  PrintLine("repository", host["repository"]);
  PrintLine("configured by", host["configured_by"]);
  if (host.contains("ns")) PrintLine("ns", host["ns"]);
  for (const Json& header : host.value("headers", Json::array())) PrintLine("header", header);
  PrintLine("TLS", host["tls"]);
  PrintLine("credentials", host["credentials"]);
  if (host.contains("ok"))
    PrintTrial("failed", host);
  else if (host.contains("answer"))
    PrintLine("tried", host["answer"]);
  if (host.contains("layer")) PrintTrial("failed", host["layer"]);
}

void PrintReport(const Json& report) {
  std::printf("%s\n", EscapeControl(report["reference"].get<std::string>()).c_str());
  for (const Json& alias : report.value("aliases", Json::array()))
    PrintLine("is an alias of", alias);
  if (report.contains("local"))
    PrintLine("local", fmt::format("{} has {}, and wins over hosts",
                                   report["local"]["origin"].get<std::string>(),
                                   report["local"]["digest"].get<std::string>()));
  if (report.contains("error")) PrintLine("error", report["error"]);
  size_t number = 0;
  for (const Json& host : report["hosts"]) PrintHost(++number, host);
}

void PrintAnswer(const Json& answer) {
  std::printf("as %s sees it (uid %lld, home %s)\n", answer["by"].get<std::string>().c_str(),
              static_cast<long long>(answer["user"]["uid"].get<int64_t>()),
              EscapeControl(answer["user"]["home"].get<std::string>()).c_str());
  if (answer.contains("reason")) PrintLine("names", answer["reason"]);
  for (const Json& report : answer["references"]) PrintReport(report);
}

// Without the engine nothing is known of aliases and local sources: `reason` says why.
Result<Json> ExamineWithoutStore(const CatalogOptions& options, const Json& request,
                                 const Replies& replies, const std::string& reason) {
  ASSIGN_OR_RETURN(Json answer, ExamineReferences(options, nullptr, request, replies));
  if (!reason.empty()) answer["reason"] = "aliases and local images are not looked at: " + reason;
  return answer;
}

Result<Json> ExamineHere(const CommonOptions& common, const Json& request, const Replies& replies,
                         bool daemon) {
  ASSIGN_OR_RETURN(const CatalogOptions options, CatalogOptionsOf(common));
  if (daemon)
    return ExamineWithoutStore(options, request, replies,
                               "options are given that the daemon does not have");
  // Looking makes no store.
  if (!FileExists(StorePaths{common.store}.Database()))
    return ExamineWithoutStore(options, request, replies, "");
  const auto engine = Engine::Open(common.store, options, common.cache_size);
  if (!engine) return ExamineWithoutStore(options, request, replies, engine.error().message);
  return Examine(**engine, request, replies);
}

// By whoever reads the image below the mount; with options that the daemon has not got, by this
// process, as it would be with them.
Result<Json> Answer(const CommonOptions& common, const std::string& reference) {
  const Replies replies{.progress = [](const Json&) { return true; }, .data = nullptr};
  ASSIGN_OR_RETURN(const Json request,
                   WithFullReference({{"command", "doctor"}, {"reference", reference}}));
  ASSIGN_OR_RETURN(auto daemon, FindDaemon(common.store));
  const bool asks = daemon && common.daemon_options.empty();
  ASSIGN_OR_RETURN(Json answer, asks ? daemon->Ask(request, replies)
                                     : ExamineHere(common, request, replies, daemon.has_value()));
  answer["by"] = asks ? "the daemon" : "this process";
  return answer;
}

}  // namespace

int RunDoctorOf(const CommonOptions& common, const std::string& reference) {
  const auto answer = Answer(common, reference);
  if (!answer) return Fail(answer.error());
  if (common.json)
    PrintJson(*answer);
  else
    PrintAnswer(*answer);
  return answer->value("usable", false) ? 0 : 1;
}

}  // namespace lamina
