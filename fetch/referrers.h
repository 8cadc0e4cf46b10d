#pragma once

// What refers to an image, as registries and layouts tell it (distribution-spec, "Listing
// Referrers"): image indexes whose entries are artifacts. Pure functions and values; any thread.

#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/http_headers.h"
#include "fetch/manifest.h"
#include "fetch/repository_source.h"

namespace lamina {

// The tag that stands in for the list where the registry has none: "sha256-1f2e…".
std::string ReferrersTag(const Digest& subject);

// A query's value, percent-encoded.
std::string EncodeQuery(std::string_view value);

// Does the answer say that its entries are of the type that was asked for?
bool IsFilteredByType(const HttpHeaders& headers);

// Collects the entries of one type, each digest once, from pages of a list.
class ReferrerList {
 public:
  explicit ReferrerList(std::string artifact_type) : artifact_type_(std::move(artifact_type)) {}

  // `untyped`: entries that say no type count as of this one, since other types have been left out
  // or since what wrote the list knew of none (skopeo drops them). kInvalid where the page is no
  // index, kLimit above 10,000 entries; messages have the reason only.
  Status Add(std::string_view page, std::string_view content_type, bool untyped);
  std::vector<Descriptor> Take() && { return std::move(found_); }

 private:
  const std::string artifact_type_;
  std::vector<Descriptor> found_;
  size_t seen_ = 0;
};

// The entries of one type in the document that ReferrersTag() names; empty where it is an image's
// manifest, which happens to have that tag. `name` is of the repository, for messages.
Result<std::vector<Descriptor>> ReferrersOfDocument(const Document& document,
                                                    const std::string& artifact_type,
                                                    std::string_view name);

}  // namespace lamina
