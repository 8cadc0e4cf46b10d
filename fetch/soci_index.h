#pragma once

// SociIndex: the artifact in which SOCI keeps the tables of contents (zTOCs) of an image's layers
// (docs/formats-soci.md). Parsing only. Pure functions and values; any thread.

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/manifest.h"

namespace lamina {

// What such an artifact is, by its version.
inline constexpr std::string_view kSociIndexV1 = "application/vnd.amazon.soci.index.v1+json";
inline constexpr std::string_view kSociIndexV2 = "application/vnd.amazon.soci.index.v2+json";

struct SociIndex {
  std::string kind;                    // one of the two
  std::optional<Digest> subject;       // of version 1: the image manifest that it is about
  std::map<Digest, Descriptor> ztocs;  // by the layer's digest
};

// `bytes` have been checked against their digest. kInvalid where they are no index; an entry that
// names no layer counts as none.
Result<SociIndex> ParseSociIndex(std::string_view bytes, std::string_view name);

// The SOCI index (version 2) that an image's manifest names.
std::optional<Digest> SociIndexNamedBy(const ImageManifest& manifest);

}  // namespace lamina
