#pragma once

// How one path component below a registry reads, by grammar alone. Pure functions; any thread.

#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"

namespace lamina {

struct NameForm {
  enum class Kind {
    kInvalid,      // no name of anything, ever
    kPlain,        // a tag, or a component of a repository name
    kImageFolder,  // sha256-…
    kDigestLink,   // sha256:…
    kTagLink,      // NAME:TAG
    kPinLink,      // NAME@DIGEST, NAME:TAG@DIGEST
    kNumberLink,   // @N: image N of a local source
  };
  Kind kind = Kind::kInvalid;
  std::string component;         // NAME of the links, else the whole
  std::string tag;               // of kTagLink
  std::optional<Digest> digest;  // of kImageFolder, kDigestLink, kPinLink
};

NameForm ParseNameForm(std::string_view name);

// rootfs, layers, …: what an image directory holds; never a component of a repository name.
bool IsReservedName(std::string_view name);

// A component of a repository name that may stand in a path.
bool IsUsableComponent(std::string_view name);

// Can it be a repository? Docker Hub's have two components, so that asking is vain for
// "docker.io/library".
bool MayHoldTags(std::string_view directory);

// "docker.io" of "docker.io/library/debian".
std::string RegistryOf(std::string_view name);
// "library/debian", empty for a registry alone.
std::string RepositoryPathOf(std::string_view name);

}  // namespace lamina
