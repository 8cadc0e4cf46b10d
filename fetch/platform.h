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

  // "linux/arm64", "linux/arm/v7", "arm64" (linux is meant). Normalises aliases: x86_64, aarch64, armhf, …
  static Result<Platform> Parse(std::string_view text);
  static Platform Host();
  std::string ToString() const;  // linux/arm/v7
  friend bool operator==(const Platform&, const Platform&) = default;
};

// How well an image for `offered` runs where `wanted` is asked: 0 not at all, higher is better.
// The rules are containerd's: arm v7 runs v6 and v5, arm64 alone does not run arm unless asked, 386 is never
// chosen for amd64, amd64 v3 takes v2 and v1.
int PlatformMatch(const Platform& wanted, const Platform& offered);

}  // namespace lamina
