#include "cmd/doctor_request.h"

#include <fmt/core.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "base/user.h"
#include "cmd/request_json.h"
#include "fetch/reference.h"
#include "fs/alias_target.h"

namespace lamina {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kBound{15};  // for one thing that one host is asked
constexpr int kMostAliases = 32;            // that lead from one to the next

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
std::string CredentialsOf(const RegistryOptions& options, const RegistryEndpoint& endpoint) {
  const auto found = options.credentials(endpoint.host + "/" + endpoint.repository);
  if (found.empty()) return "none";
  const std::string who =
      found.username.empty() ? "an identity token" : "user " + Quote(found.username);
  return fmt::format("{}, from {}", who, found.found_in);
}

Json Described(const RegistryOptions& options, const RegistryEndpoint& endpoint) {
  Json host{{"url", endpoint.api},
            {"repository", endpoint.repository},
            {"for", RoleOf(endpoint)},
            {"tls", TlsOf(endpoint)},
            {"credentials", CredentialsOf(options, endpoint)}};
  host["configured_by"] = endpoint.configured_by.empty() ? "the name" : endpoint.configured_by;
  if (!endpoint.ns.empty()) host["ns"] = endpoint.ns;
  // Their values may be secret.
  for (const std::string& header : endpoint.headers)
    host["headers"].push_back(header.substr(0, header.find(':')));
  return host;
}

// Asks, and notes in `row` what was asked and what came of it.
template <typename Ask>
auto Tried(const std::string& asked, const Ask& ask, Json* row) {
  const auto began = std::chrono::steady_clock::now();
  auto answer = ask(Deadline::After(kBound));
  const auto took = std::chrono::steady_clock::now() - began;
  (*row)["asked"] = asked;
  (*row)["ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  (*row)["ok"] = answer.has_value();
  if (!answer) (*row)["answer"] = answer.error().message;
  return answer;
}

Result<Digest> AskForTag(RepositorySource& source, const std::string& tag,
                         const Deadline& deadline) {
  ASSIGN_OR_RETURN(const auto digest, source.TagDigest(tag, deadline));
  if (digest) return *digest;
  ASSIGN_OR_RETURN(const Document document, source.FetchTag(tag, deadline));
  return document.digest;
}

Result<ImageManifest> ManifestOf(RepositorySource& source, Digest digest, const Platform& platform,
                                 const Deadline& deadline) {
  for (int depth = 0; depth <= DocumentLimits().index_nesting; ++depth) {
    const std::string name = digest.ToString();
    ASSIGN_OR_RETURN(const Document document, source.FetchManifest(digest, deadline));
    ASSIGN_OR_RETURN(ManifestDocument parsed,
                     ParseManifestDocument(document.bytes, document.media_type, name));
    if (auto* const manifest = std::get_if<ImageManifest>(&parsed)) return std::move(*manifest);
    ASSIGN_OR_RETURN(const Descriptor chosen,
                     ChoosePlatform(std::get<ImageIndex>(parsed), platform, name));
    digest = chosen.digest;
  }
  return Error{Code::kLimit, "its indexes nest too deep"};
}

// One reference at the hosts that are asked for it.
class Trials {
 public:
  Trials(const CatalogOptions& options, const Reference& reference,
         std::vector<RegistryEndpoint> endpoints)
      : options_(options),
        reference_(reference),
        registry_(Registry::Create(reference.repository.registry, options.registry)),
        endpoints_(std::move(endpoints)),
        known_(reference.digest),
        manifests_(endpoints_.size()) {
    for (const RegistryEndpoint& endpoint : endpoints_)
      hosts_.push_back(Described(options.registry, endpoint));
  }

  // The tag at every host that may be asked for it; then, at those that may be asked for bytes, the
  // image that it is; then a byte of it.
  Status Run(const Replies& replies) {
    size_t done = 0;
    const size_t of = 3 * endpoints_.size();
    for (const auto step : {&Trials::TryTag, &Trials::TryDigest, &Trials::TryLayer})
      for (size_t i = 0; i < endpoints_.size(); ++i) {
        const Json progress{{"what", "asking"}, {"unit", "times"}, {"done", done++}, {"of", of}};
        if (!replies.progress(progress))
          return Error{Code::kCancelled, "nobody waits for the answer"};
        (this->*step)(i);
      }
    return {};
  }
  // One has told what the image is, and one has given bytes of it.
  bool usable() const { return named_ && gives_bytes_; }
  Json TakeHosts() { return std::move(hosts_); }

 private:
  void TryTag(size_t i) {
    if (reference_.digest || !endpoints_[i].by_tag) return;
    const std::string tag = reference_.tag_or_latest();
    const auto source = registry_->At(endpoints_[i]);
    const auto ask = [&](const Deadline& deadline) { return AskForTag(*source, tag, deadline); };
    const auto found = Tried("tag " + Quote(tag), ask, &hosts_[i]);
    if (!found) return;
    hosts_[i]["answer"] = found->ToString();
    if (!known_) known_ = *found;
    named_ = true;
  }

  void TryDigest(size_t i) {
    Json& host = hosts_[i];
    const bool named_it = host.contains("ok");
    // Who does not tell what the tag is has said already what is wrong.
    if (!endpoints_[i].by_digest || (named_it && !host["ok"])) return;
    if (!known_) {
      host["answer"] = "not asked: no other host has said which image it is";
      return;
    }
    const auto source = registry_->At(endpoints_[i]);
    const auto ask = [&](const Deadline& deadline) {
      return ManifestOf(*source, *known_, options_.platform, deadline);
    };
    Json row;
    auto manifest = Tried(known_->ToString(), ask, &row);
    if (manifest) row["answer"] = known_->ToString();
    if (!named_it) host.update(row);
    if (named_it && !manifest) host["layer"] = row;
    named_ |= manifest.has_value();
    if (manifest) manifests_[i] = *std::move(manifest);
  }

  // By range, as reads are made: who redirects elsewhere for the bytes is followed there.
  void TryLayer(size_t i) {
    if (!manifests_[i]) return;
    if (manifests_[i]->layers.empty()) {
      gives_bytes_ = true;
      return;
    }
    const Descriptor& layer = manifests_[i]->layers.front();
    const auto source = registry_->At(endpoints_[i]);
    const auto ask = [&](const Deadline& deadline) -> Result<std::string> {
      ASSIGN_OR_RETURN(const auto blob, source->OpenBlob(layer));
      std::array<uint8_t, 1> byte{};
      const auto wanted = MutableByteSpan(byte).first(layer.size == 0 ? 0 : 1);
      RETURN_IF_ERROR(blob->ReadAt(0, wanted, deadline));
      return fmt::format("a byte of {}", HumanSize(layer.size));
    };
    Json row;
    const auto given = Tried("layer " + layer.digest.ToString(), ask, &row);
    if (given) row["answer"] = *given;
    gives_bytes_ |= given.has_value();
    hosts_[i]["layer"] = std::move(row);
  }

  const CatalogOptions& options_;
  const Reference reference_;
  const std::shared_ptr<Registry> registry_;
  const std::vector<RegistryEndpoint> endpoints_;
  std::optional<Digest> known_;                          // what the image is
  std::vector<std::optional<ImageManifest>> manifests_;  // as each host has given it
  Json hosts_ = Json::array();
  bool named_ = false;
  bool gives_bytes_ = false;
};

// Where the aliases of a name lead; each is noted.
Result<Reference> EndOfAliases(const Catalog& catalog, Reference reference, Json* report) {
  for (int i = 0; i < kMostAliases && !reference.digest; ++i) {
    const auto alias = catalog.AliasOf(reference.repository.ToString(), reference.tag_or_latest());
    if (!alias) break;
    const std::string target = AliasTargetText(*alias, /*full=*/true);
    (*report)["aliases"].push_back(target);
    ASSIGN_OR_RETURN(reference, Reference::Parse(target));
  }
  return reference;
}

// What a local source has under this name wins over every host.
void AddLocal(Catalog& catalog, const Reference& reference, Json* report) {
  const std::string repository = reference.repository.ToString();
  const auto images = catalog.LocalImages(repository);
  const auto add = [&](const Digest& digest, const std::string& origin) {
    (*report)["local"] = {{"digest", digest.ToString()}, {"origin", origin}};
  };
  if (reference.digest) {
    const auto image = images.find(*reference.digest);
    if (image != images.end()) add(image->first, image->second);
    return;
  }
  for (const Catalog::TagName& tag : catalog.KnownTags(repository))
    if (tag.tag == reference.tag_or_latest() && tag.known && tag.known->local)
      add(tag.known->digest, tag.known->origin);
}

Result<Json> ExamineOne(const CatalogOptions& options, Catalog* catalog, const std::string& text,
                        const Replies& replies) {
  ASSIGN_OR_RETURN(Reference reference, Reference::Parse(text));
  Json report{{"reference", reference.ToString()}, {"usable", false}, {"hosts", Json::array()}};
  if (catalog != nullptr) {
    ASSIGN_OR_RETURN(reference, EndOfAliases(*catalog, reference, &report));
    AddLocal(*catalog, reference, &report);
  }
  report["usable"] = report.contains("local");
  if (reference.repository.registry == "localhost") {
    if (!report.contains("local"))
      report["error"] = Quote(text) + " names local images only, and none is known by it";
    return report;
  }
  const auto endpoints = options.registry.endpoints(reference.ToString());
  if (!endpoints) {
    report["error"] = endpoints.error().message;
    return report;
  }
  Trials trials(options, reference, *endpoints);
  RETURN_IF_ERROR(trials.Run(replies));
  if (trials.usable()) report["usable"] = true;
  report["hosts"] = trials.TakeHosts();
  return report;
}

}  // namespace

Result<Json> ExamineReferences(const CatalogOptions& options, Catalog* catalog, const Json& request,
                               const Replies& replies) {
  auto texts = request.value("candidates", std::vector<std::string>());
  if (texts.empty()) texts.push_back(TextOf(request, "reference"));
  Json reports = Json::array();
  bool usable = false;
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(Json report, ExamineOne(options, catalog, text, replies));
    usable = usable || report["usable"].get<bool>();
    reports.push_back(std::move(report));
  }
  return Json{{"usable", usable},
              {"user", {{"uid", ::geteuid()}, {"home", HomeFolder()}}},
              {"references", std::move(reports)}};
}

Result<Json> Examine(Engine& engine, const Json& request, const Replies& replies) {
  return ExamineReferences(engine.catalog().options(), &engine.catalog(), request, replies);
}

}  // namespace lamina
