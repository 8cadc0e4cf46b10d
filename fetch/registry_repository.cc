#include "fetch/registry_repository.h"

#include <functional>
#include <optional>
#include <utility>

#include "base/text.h"
#include "fetch/media_types.h"
#include "fetch/reference.h"
#include "fetch/referrers.h"
#include "fetch/registry_blob.h"
#include "fetch/registry_json.h"
#include "fetch/registry_lists.h"

namespace lamina {
namespace {

// Bytes that fail verification are fetched again so often.
constexpr int kRefetches = 2;

template <typename T>
Result<T> RefetchingWhatIsCorrupt(RegistryCounters& counters,
                                  const std::function<Result<T>()>& fetch) {
  for (int refetches = 0;; ++refetches) {
    Result<T> fetched = fetch();
    const bool corrupt = !fetched && fetched.error().code == Code::kCorrupt;
    if (!corrupt || refetches == kRefetches) return fetched;
    counters.retries.fetch_add(1);
  }
}

// The digest that the registry claims for the bytes of a tag has to be theirs; without a claim it
// is sha256.
Result<Digest> DigestOfTagged(std::string_view bytes, std::optional<std::string_view> claim,
                              const std::string& name) {
  if (!claim) return Digest::Sha256(AsBytes(bytes));
  const Result<Digest> claimed = Digest::Parse(TrimBlanks(*claim));
  if (!claimed)
    return Error{Code::kCorrupt, name + ": Docker-Content-Digest is " + Quote(*claim, 150) +
                                     ", which is no digest"};
  RETURN_IF_ERROR(CheckDocument(bytes, *claimed, std::nullopt, name));
  return *claimed;
}

}  // namespace

RegistryRepository::RegistryRepository(std::shared_ptr<RegistrySession> session, std::string path,
                                       std::string registry, bool trusted, bool hasty)
    : session_(std::move(session)),
      path_(std::move(path)),
      registry_(std::move(registry)),
      trusted_(trusted),
      hasty_(hasty) {}

Status RegistryRepository::CheckName() const {
  if (IsValidRepositoryPath(path_)) return {};
  return Error{Code::kInvalid, Quote(path_) + " is not a repository name"};
}

Status RegistryRepository::CheckTag(const std::string& tag) const {
  RETURN_IF_ERROR(CheckName());
  if (IsValidTag(tag)) return {};
  return Error{Code::kInvalid, Quote(tag) + " is not a tag"};
}

std::string RegistryRepository::WhatOfTag(const std::string& tag) const {
  return "tag " + Quote(tag) + " of " + path_;
}

RegistryRequest RegistryRepository::ManifestRequest(const std::string& name,
                                                    const std::string& what) const {
  RegistryRequest request;
  request.target = "/v2/" + path_ + "/manifests/" + name;
  request.scope = Scope();
  request.what = what;
  request.accept = ManifestMediaTypes();
  return request;
}

Result<Document> RegistryRepository::FetchTag(const std::string& tag, const Deadline& deadline) {
  RETURN_IF_ERROR(CheckTag(tag));
  return FetchDocument(tag, WhatOfTag(tag), nullptr, deadline);
}

Result<std::optional<Digest>> RegistryRepository::TagDigest(const std::string& tag,
                                                            const Deadline& deadline) {
  RETURN_IF_ERROR(CheckTag(tag));
  RegistryRequest request = ManifestRequest(tag, WhatOfTag(tag));
  BodyReceiver receiver(session_->host() + ": " + request.what,
                        session_->options().limits.manifest_bytes);
  request.head = true;
  request.hasty = hasty_;
  request.receiver = &receiver;
  RegistryAnswer answer = session_->Run(request, deadline);
  // Who does not answer a HEAD may still answer a GET.
  if (answer.end != RegistryAnswer::End::kDone && answer.error.code == Code::kUnsupported)
    return std::optional<Digest>();
  if (answer.end != RegistryAnswer::End::kDone) return std::move(answer.error);
  const auto claim = answer.headers.Find("docker-content-digest");
  const auto digest = Digest::Parse(TrimBlanks(claim.value_or("")));
  return digest ? std::optional<Digest>(*digest) : std::nullopt;
}

Result<Document> RegistryRepository::FetchManifest(const Digest& digest, const Deadline& deadline) {
  RETURN_IF_ERROR(CheckName());
  const std::string name = digest.ToString();
  return FetchDocument(name, "manifest " + name + " of " + path_, &digest, deadline);
}

Result<Document> RegistryRepository::FetchDocument(const std::string& name, const std::string& what,
                                                   const Digest* digest, const Deadline& deadline) {
  return RefetchingWhatIsCorrupt<Document>(
      session_->counters(), [&] { return FetchDocumentOnce(name, what, digest, deadline); });
}

Result<Document> RegistryRepository::FetchDocumentOnce(const std::string& name,
                                                       const std::string& what,
                                                       const Digest* digest,
                                                       const Deadline& deadline) {
  const std::string full_name = session_->host() + ": " + what;
  BodyReceiver receiver(full_name, session_->options().limits.manifest_bytes);
  RegistryRequest request = ManifestRequest(name, what);
  request.hasty = hasty_ && digest == nullptr;
  request.receiver = &receiver;
  RegistryAnswer answer = session_->Run(request, deadline);
  if (answer.end != RegistryAnswer::End::kDone) return std::move(answer.error);
  const std::string media_type(answer.headers.Find("content-type").value_or(""));
  if (digest != nullptr) {
    RETURN_IF_ERROR(CheckDocument(receiver.body(), *digest, std::nullopt, full_name));
    return Document{*digest, media_type, std::move(receiver.body())};
  }
  // Of a tag whose digest the registry does not tell nothing else would show it.
  if (receiver.body().empty())
    return Error{Code::kCorrupt, full_name + ": it sent an empty document"};
  const auto claim = answer.headers.Find("docker-content-digest");
  ASSIGN_OR_RETURN(const Digest found, DigestOfTagged(receiver.body(), claim, full_name));
  return Document{found, media_type, std::move(receiver.body())};
}

Result<std::vector<Descriptor>> RegistryRepository::AskReferrersApi(
    const Digest& subject, const std::string& artifact_type, const Deadline& deadline) {
  RegistryRequest request;
  request.target = "/v2/" + path_ + "/referrers/" + subject.ToString() +
                   "?artifactType=" + EncodeQuery(artifact_type);
  request.scope = Scope();
  request.what = "the referrers of " + subject.ToString() + " of " + path_;
  request.accept = {std::string(media_type::kOciIndex)};
  ReferrerList list(artifact_type);
  const auto take = [&](std::string_view body, const RegistryAnswer& answer) {
    return list.Add(body, answer.headers.Find("content-type").value_or(""),
                    IsFilteredByType(answer.headers));
  };
  RETURN_IF_ERROR(FetchPages(*session_, std::move(request), take, deadline));
  return std::move(list).Take();
}

Result<std::vector<Descriptor>> RegistryRepository::FetchReferrers(const Digest& subject,
                                                                   const std::string& artifact_type,
                                                                   const Deadline& deadline) {
  RETURN_IF_ERROR(CheckName());
  if (!trusted_) return std::vector<Descriptor>();
  auto referrers = AskReferrersApi(subject, artifact_type, deadline);
  if (referrers) return referrers;
  // 404 is what the specification says; others answer as they do to whatever they do not know.
  const Code code = referrers.error().code;
  if (code != Code::kNotFound && code != Code::kUnsupported && code != Code::kInvalid)
    return referrers;
  const auto document = FetchTag(ReferrersTag(subject), deadline);
  if (!document && document.error().code == Code::kNotFound) return std::vector<Descriptor>();
  if (!document) return document.error();
  return ReferrersOfDocument(*document, artifact_type, session_->host() + ": " + path_);
}

Result<std::string> RegistryRepository::FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                                       const Deadline& deadline) {
  RETURN_IF_ERROR(CheckName());
  RegistryRequest request = BlobRequest(path_, descriptor.digest);
  const std::string name = session_->host() + ": " + request.what;
  if (descriptor.size > limit)
    return Error{Code::kLimit, name + " has " + HumanSize(descriptor.size) +
                                   ", more than the limit of " + HumanSize(limit)};
  return RefetchingWhatIsCorrupt<std::string>(session_->counters(), [&]() -> Result<std::string> {
    BodyReceiver receiver(name, limit);
    request.receiver = &receiver;
    RegistryAnswer answer = session_->Run(request, deadline);
    session_->counters().blob_bytes.fetch_add(receiver.body().size());
    if (answer.end != RegistryAnswer::End::kDone) return std::move(answer.error);
    RETURN_IF_ERROR(CheckDocument(receiver.body(), descriptor.digest, descriptor.size, name));
    return std::move(receiver.body());
  });
}

Result<std::shared_ptr<BlobSource>> RegistryRepository::OpenBlob(const Descriptor& descriptor) {
  RETURN_IF_ERROR(CheckName());
  return std::shared_ptr<BlobSource>(std::make_shared<RegistryBlob>(session_, path_, descriptor));
}

Result<std::vector<std::string>> RegistryRepository::ListTags(const Deadline& deadline) {
  RETURN_IF_ERROR(CheckName());
  RegistryRequest request;
  request.target = "/v2/" + path_ + "/tags/list?n=1000";
  request.scope = Scope();
  request.what = "the tags of " + path_;
  return FetchList(*session_, std::move(request), ParseTagList, deadline);
}

}  // namespace lamina
