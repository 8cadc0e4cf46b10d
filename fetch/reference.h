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

// `registry` is `host[:port]` ("docker.io", "localhost:5000", "[::1]:5000"), `path` the repository
// within it ("library/debian").
struct RepositoryName {
  std::string registry;
  std::string path;

  std::string ToString() const { return registry + "/" + path; }
  friend auto operator<=>(const RepositoryName&, const RepositoryName&) = default;
};

struct Reference {
  RepositoryName repository;
  std::optional<std::string> tag;  // absent and no digest: "latest" is meant, see tag_or_latest()
  std::optional<Digest> digest;    // wins over the tag where both are given

  // Normalises as Docker does: no registry part means docker.io, one component there means
  // library/, index.docker.io is docker.io. The first of several components is a registry when it
  // holds '.' or ':', or is "localhost", or has an upper-case letter. Text of any length and
  // content may be given; the error says what to write instead where that is known.
  static Result<Reference> Parse(std::string_view text);
  // "registry/path:tag@digest" in full; Parse() of it gives the same value.
  std::string ToString() const;
  std::string tag_or_latest() const { return tag.value_or("latest"); }

  friend bool operator==(const Reference&, const Reference&) = default;
};

// The distribution-spec grammar. A repository path is at most 255 bytes with its registry.
// A registry is valid when Parse() would take it for one: `host[:port]` by the grammar, with a port
// of 1 to 65535 and a bracketed IPv6 address that is one, and told from a path as described above
// (so "debian" is none). Nothing valid here is "." or "..", holds '/', or needs escaping in a URL.
bool IsValidRegistry(std::string_view text);
bool IsValidRepositoryPath(std::string_view text);
bool IsValidPathComponent(std::string_view text);  // one component of a repository path
bool IsValidTag(std::string_view text);

// Loopback hosts ("localhost", 127.0.0.0/8, [::1]), for which plain HTTP is allowed.
bool IsLoopbackRegistry(std::string_view registry);

// The canonical folder of a registry below the mount point: ':', '[' and ']' become '_', and one
// more
// '_' is appended where there was any ("localhost:5000" -> "localhost_5000_", "docker.io" ->
// "docker.io", "[::1]:5000" -> "___1__5000_", "[::1:5000]" -> "___1_5000__"). No two registries
// share a folder.
std::string RegistryFolder(std::string_view registry);
// The inverse, for a path component; nullopt where it is no registry folder.
std::optional<std::string> RegistryOfFolder(std::string_view folder);

}  // namespace lamina
