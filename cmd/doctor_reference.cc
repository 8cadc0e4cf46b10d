// doctor REF: which hosts an image comes from on this machine, with which credentials and
// certificates, and what each answers.

#include <fmt/core.h>
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "cmd/commands.h"
#include "cmd/credentials.h"
#include "cmd/short_references.h"
#include "fetch/reference.h"
#include "fetch/registry.h"
#include "fetch/registry_hosts.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kBound{15};  // for what is asked of one host

// What one host was asked, and what came of it.
struct Trial {
  std::string asked;  // "tag 'bookworm'"
  Result<Digest> answer;
};

std::string RoleOf(const RegistryEndpoint& endpoint) {
  if (endpoint.by_tag && endpoint.by_digest) return "tags and digests";
  return endpoint.by_tag ? "tags only" : "digests only";
}

std::string TlsOf(const RegistryEndpoint& endpoint) {
  if (endpoint.api.starts_with("http://")) return "none: plain HTTP";
  const TlsOptions& tls = endpoint.tls;
  if (tls.skip_verify) return "any certificate is taken, as the configuration says";
  std::string text = "checked by the system's CAs";
  for (const std::string& file : tls.ca_files) text += " and " + file;
  if (!tls.client_cert.empty()) text += "; shows the certificate " + tls.client_cert;
  return text;
}

// Whose credentials they are and where they stand; what is secret of them stays unsaid.
std::string CredentialsOf(const RegistryEndpoint& endpoint) {
  const auto found = CredentialsOfHost(endpoint.host + "/" + endpoint.repository);
  if (found.empty()) return "none";
  const std::string who =
      found.username.empty() ? "an identity token" : "user " + Quote(found.username);
  return fmt::format("{}, from {}", who, found.found_in);
}

Result<Digest> AskForTag(RepositorySource& source, const std::string& tag,
                         const Deadline& deadline) {
  ASSIGN_OR_RETURN(const auto digest, source.TagDigest(tag, deadline));
  if (digest) return *digest;
  ASSIGN_OR_RETURN(const Document document, source.FetchTag(tag, deadline));
  return document.digest;
}

Trial TryTag(RepositorySource& source, const std::string& tag) {
  return {"tag " + Quote(tag), AskForTag(source, tag, Deadline::After(kBound))};
}

Trial TryDigest(RepositorySource& source, const Digest& digest) {
  const auto document = source.FetchManifest(digest, Deadline::After(kBound));
  return {digest.ToString(), document ? Result<Digest>(digest) : Result<Digest>(document.error())};
}

Json Described(const RegistryEndpoint& endpoint) {
  Json host{{"url", endpoint.api},
            {"repository", endpoint.repository},
            {"for", RoleOf(endpoint)},
            {"tls", TlsOf(endpoint)},
            {"credentials", CredentialsOf(endpoint)}};
  host["configured_by"] = endpoint.configured_by.empty() ? "the name" : endpoint.configured_by;
  if (!endpoint.ns.empty()) host["ns"] = endpoint.ns;
  // Their values may be secret.
  for (const std::string& header : endpoint.headers)
    host["headers"].push_back(header.substr(0, header.find(':')));
  return host;
}

template <typename Ask>
std::optional<Digest> AddTrial(const Ask& ask, Json* host) {
  const auto began = std::chrono::steady_clock::now();
  const Trial trial = ask();
  const auto took = std::chrono::steady_clock::now() - began;
  (*host)["asked"] = trial.asked;
  (*host)["ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  (*host)["ok"] = trial.answer.has_value();
  (*host)["answer"] = trial.answer ? trial.answer->ToString() : trial.answer.error().message;
  return trial.answer ? std::optional<Digest>(*trial.answer) : std::nullopt;
}

// The tag at every host that may be asked for it; then the image that it is at the others.
bool TryAll(Registry& registry, const std::vector<RegistryEndpoint>& endpoints,
            const Reference& reference, Json* hosts) {
  std::optional<Digest> known = reference.digest;
  bool usable = false;
  for (size_t i = 0; !reference.digest && i < endpoints.size(); ++i) {
    if (!endpoints[i].by_tag) continue;
    const auto source = registry.At(endpoints[i]);
    const auto found =
        AddTrial([&] { return TryTag(*source, reference.tag_or_latest()); }, &(*hosts)[i]);
    if (!known) known = found;
    usable = usable || found.has_value();
  }
  for (size_t i = 0; i < endpoints.size(); ++i) {
    if ((*hosts)[i].contains("ok")) continue;
    const auto source = registry.At(endpoints[i]);
    if (known && endpoints[i].by_digest)
      usable |= AddTrial([&] { return TryDigest(*source, *known); }, &(*hosts)[i]).has_value();
    else
      (*hosts)[i]["answer"] = "not asked: no other host has said which image it is";
  }
  return usable;
}

Json Examined(const CommonOptions& common, const Reference& reference) {
  Json report{{"reference", reference.ToString()}, {"usable", false}, {"hosts", Json::array()}};
  const RegistryHosts hosts(RegistryPlacesOf(common));
  const auto endpoints = hosts.Find(reference.ToString());
  if (!endpoints) {
    report["error"] = endpoints.error().message;
    return report;
  }
  const auto registry = Registry::Create(reference.repository.registry, RegistryOptionsOf(common));
  for (const RegistryEndpoint& endpoint : *endpoints)
    report["hosts"].push_back(Described(endpoint));
  report["usable"] = TryAll(*registry, *endpoints, reference, &report["hosts"]);
  return report;
}

void PrintLine(const char* what, const std::string& text) {
  std::printf("     %-14s %s\n", what, EscapeControl(text).c_str());
}

void Print(const Json& report) {
  std::printf("%s\n", EscapeControl(report["reference"].get<std::string>()).c_str());
  if (report.contains("error")) PrintLine("error", report["error"]);
  size_t number = 0;
  for (const Json& host : report["hosts"]) {
    std::printf("  %zu. %s\n", ++number, EscapeControl(host["url"].get<std::string>()).c_str());
    PrintLine("asked for", host["for"]);
    PrintLine("repository", host["repository"]);
    PrintLine("configured by", host["configured_by"]);
    if (host.contains("ns")) PrintLine("ns", host["ns"]);
    for (const Json& header : host.value("headers", Json::array())) PrintLine("header", header);
    PrintLine("TLS", host["tls"]);
    PrintLine("credentials", host["credentials"]);
    if (!host.contains("ok")) {
      PrintLine("tried", host["answer"]);
      continue;
    }
    PrintLine(host["ok"] ? "ok" : "failed",
              fmt::format("{}: {} ({} ms)", host["asked"].get<std::string>(),
                          host["answer"].get<std::string>(), host["ms"].get<int64_t>()));
  }
}

Result<std::vector<Reference>> Meanings(const std::string& text) {
  ASSIGN_OR_RETURN(const auto names, FullNames(text));
  std::vector<Reference> references;
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(Reference reference, Reference::Parse(name));
    if (reference.repository.registry == "localhost")
      return Error{Code::kInvalid, Quote(name) + " names local images only: no host is asked"};
    references.push_back(std::move(reference));
  }
  return references;
}

}  // namespace

int RunDoctorOf(const CommonOptions& common, const std::string& text) {
  const auto references = Meanings(text);
  if (!references) return Fail(references.error());
  Json reports = Json::array();
  bool usable = false;
  for (const Reference& reference : *references) {
    Json report = Examined(common, reference);
    usable = usable || report["usable"].get<bool>();
    if (!common.json) Print(report);
    reports.push_back(std::move(report));
  }
  if (common.json)
    std::puts(Json{{"usable", usable}, {"references", reports}}
                  .dump(2, ' ', false, Json::error_handler_t::replace)
                  .c_str());
  return usable ? 0 : 1;
}

}  // namespace lamina
