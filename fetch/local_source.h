#pragma once

// LocalSource: a source on this machine that holds images under names of its own: an OCI layout, an
// archive. Any thread; methods block on local disk, none on the network.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/result.h"
#include "fetch/manifest.h"
#include "fetch/repository_source.h"

namespace lamina {

// An image as a local source lists it.
struct LocalImage {
  std::vector<std::string> names;       // as written: tags alone or full references; may be empty
  Result<Descriptor> descriptor;        // of its manifest or index; or why the image cannot be read
  std::optional<Digest> image_id = {};  // of docker-archive: the digest of the config
};
// In the order of the source: image N is the one that `@N` names.
using LocalImages = std::vector<LocalImage>;

// Images of one source, and layers of all of them together: more than any honest archive has.
inline constexpr size_t kMostLocalImages = 10'000;
inline constexpr size_t kMostLocalLayers = 262'144;
// Of the document that lists them (index.json, manifest.json).
inline constexpr uint64_t kMostListBytes = 8u << 20;

class LocalSource : public RepositorySource {
 public:
  // Is it what it is taken for? An error says what is wrong with it.
  virtual Status Check() = 0;
  // All images as they are now: the same object for as long as nothing has changed. kUnavailable
  // where the source is away.
  virtual Result<std::shared_ptr<const LocalImages>> Images() = 0;

  std::string pool_key() const override { return "local"; }
};

// The tag that a ref name stands for: itself where it is one, that of a full reference ("latest"
// where it has none), and empty where it is neither.
std::string TagOfRefName(std::string_view ref_name);

// What is said of a tag that stands for two images, and of one that is not there. `source` is its
// origin.
Error AmbiguousName(const std::string& source, std::string_view name, const Digest& one,
                    const Digest& other);
Error NoSuchTag(const std::string& source, std::string_view tag,
                const std::vector<std::string>& tags);

}  // namespace lamina
