#pragma once

// The media types that fetch knows by name. Private to fetch; see manifest.h for the questions that
// others may ask. Constants; any thread.

#include <string_view>

namespace lamina::media_type {

inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kDockerList =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kSchema1 = "application/vnd.docker.distribution.manifest.v1+json";
inline constexpr std::string_view kSignedSchema1 =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
inline constexpr std::string_view kNydusManifest = "application/vnd.nydus.image.manifest.v1+json";

inline bool IsSchema1(std::string_view type) { return type == kSchema1 || type == kSignedSchema1; }
inline bool IsImageConfig(std::string_view type) {
  return type == kOciConfig || type == kDockerConfig;
}

}  // namespace lamina::media_type
