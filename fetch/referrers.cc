#include "fetch/referrers.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "base/text.h"

namespace lamina {
namespace {

constexpr size_t kMostReferrers = 10'000;
constexpr size_t kMostHexInTag = 64;

bool IsUnreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

}  // namespace

std::string ReferrersTag(const Digest& subject) {
  const std::string whole = subject.PathName();
  return whole.substr(0, whole.find('-') + 1 + kMostHexInTag);
}

std::string EncodeQuery(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (IsUnreserved(c)) {
      out += c;
    } else {
      out += '%';
      for (const char digit : ToHex({&c, 1}))
        out += digit >= 'a' ? static_cast<char>(digit - 'a' + 'A') : digit;
    }
  }
  return out;
}

bool IsFilteredByType(const HttpHeaders& headers) {
  for (const std::string_view value : headers.FindAll("oci-filters-applied"))
    for (const std::string_view filter : Split(value, ','))
      if (TrimBlanks(filter) == "artifactType") return true;
  return false;
}

Status ReferrerList::Add(std::string_view page, std::string_view content_type, bool untyped) {
  const DocumentLimits limits{.index_manifests = kMostReferrers};
  ASSIGN_OR_RETURN(ManifestDocument document,
                   ParseManifestDocument(page, content_type, "the page", limits));
  auto* index = std::get_if<ImageIndex>(&document);
  if (index == nullptr) return Error{Code::kInvalid, "the page is an image manifest and no index"};
  seen_ += index->manifests.size();
  if (seen_ > kMostReferrers)
    return Error{Code::kLimit, "more than " + std::to_string(kMostReferrers) + " entries"};
  for (Descriptor& entry : index->manifests) {
    if (untyped && entry.artifact_type.empty()) entry.artifact_type = artifact_type_;
    if (entry.artifact_type != artifact_type_) continue;
    const auto same = [&](const Descriptor& other) { return other.digest == entry.digest; };
    if (std::ranges::none_of(found_, same)) found_.push_back(std::move(entry));
  }
  return {};
}

Result<std::vector<Descriptor>> ReferrersOfDocument(const Document& document,
                                                    const std::string& artifact_type,
                                                    std::string_view name) {
  const std::string where = std::string(name) + ": " + document.digest.ToString();
  ASSIGN_OR_RETURN(const ManifestDocument parsed,
                   ParseManifestDocument(document.bytes, document.media_type, where));
  if (!std::holds_alternative<ImageIndex>(parsed)) return std::vector<Descriptor>();
  ReferrerList list(artifact_type);
  const Status added = list.Add(document.bytes, document.media_type, /*untyped=*/true);
  if (!added) return added.error().Within(where);
  return std::move(list).Take();
}

}  // namespace lamina
