#pragma once

// Platform: os, architecture and variant of an image (OCI image-spec, image-index.md). A value.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lamina {

struct Platform {
  std::string os;            // "linux"
  std::string architecture;  // Go's names: "amd64", "arm64", …
  std::string variant;       // "v8" or empty
  std::string os_version;
  std::vector<std::string> os_features;

  // "linux/arm64", "linux/arm/v7", "arm64" (linux is meant), "linux" (the host's architecture).
  // Normalises case and aliases (x86_64, aarch64, armhf, …) and to one spelling of a variant, as
  // containerd does: arm64/v8 is arm64, amd64/v1 is amd64, arm is arm/v7.
  static Result<Platform> Parse(std::string_view text);
  static Platform Host();
  std::string ToString() const;  // linux/arm/v7
  friend bool operator==(const Platform&, const Platform&) = default;
};

// Are os, architecture and variant made of letters, digits, '.', '_' and '-' alone, and of at most
// 64 bytes? What comes out of Parse() and out of a manifest is, so that it can stand in a file
// name.
bool IsWellFormed(const Platform& platform);

// How well an image for `offered` runs where `wanted` is asked: 0 not at all, higher is better.
// The rules are containerd's: arm v7 runs v6 and v5, arm64 alone does not run arm unless asked, 386
// is never chosen for amd64, amd64 v3 takes v2 and v1, arm64 v8.2 takes v8.1 and v8, arm64 v9 takes
// v8.5 and below. The version and the features of the os are not compared. "unknown" matches
// nothing.
int PlatformMatch(const Platform& wanted, const Platform& offered);

}  // namespace lamina
