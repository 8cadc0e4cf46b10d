#pragma once

// Reference: the name of an image as users write it, `debian`, `debian:bookworm`,
// `localhost:5000/team/app:1@sha256:…`, in Docker's normal form (distribution/reference grammar).
// A value, valid by construction; any thread.

#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/result.h"

namespace lamina {

// `registry` is `host[:port]` ("docker.io", "localhost:5000", "[::1]:5000"), `path` the repository within
// it ("library/debian").
struct RepositoryName {
  std::string registry;
  std::string path;

  std::string ToString() const { return registry + "/" + path; }
  friend auto operator<=>(const RepositoryName&, const RepositoryName&) = default;
};

struct Reference {
  RepositoryName repository;
  std::optional<std::string> tag;     // absent and no digest: "latest" is meant, see tag_or_latest()
  std::optional<Digest> digest;       // wins over the tag where both are given

  // Normalises as Docker does: no registry part means docker.io, one component there means library/,
  // index.docker.io is docker.io. The first component is a registry when it holds '.' or ':', or is
  // "localhost", or has an upper-case letter.
  static Result<Reference> Parse(std::string_view text);
  // "registry/path:tag@digest" in full.
  std::string ToString() const;
  std::string tag_or_latest() const { return tag.value_or("latest"); }
};

// The distribution-spec grammar. A repository path is at most 255 bytes with its registry.
bool IsValidRegistry(std::string_view text);
bool IsValidRepositoryPath(std::string_view text);
bool IsValidPathComponent(std::string_view text);  // one component of a repository path
bool IsValidTag(std::string_view text);

// Loopback hosts ("localhost", 127.0.0.0/8, [::1]), for which plain HTTP is allowed.
bool IsLoopbackRegistry(std::string_view registry);

// The canonical folder of a registry below the mount point: ':' becomes '_' and a '_' is appended where
// there was one ("localhost:5000" -> "localhost_5000_", "docker.io" -> "docker.io"); '[' and ']' go too.
std::string RegistryFolder(std::string_view registry);
// The inverse, for a path component; nullopt where it is no registry folder.
std::optional<std::string> RegistryOfFolder(std::string_view folder);

}  // namespace lamina
