#pragma once

// The list of images in an archive as `docker save` writes it: manifest.json, and the
// `repositories` of before Docker 1.10. Parsed values; nothing of them is trusted. Pure functions,
// but for ReadLegacyImages(), which blocks on local disk; any thread.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/source_files.h"

namespace lamina {

// An image as the archive lists it.
struct DockerArchiveImage {
  std::vector<std::string> tags;      // full references with a tag, as written
  std::string config_name;            // the member that holds the config; empty: config_bytes
  std::string config_bytes;           // of the legacy form, where the config is made here
  std::vector<std::string> layers;    // names of members, bottom first
  std::optional<Error> problem = {};  // why it cannot be read; the others can
};

// `name` is for messages. An image that is wrong by itself gets a problem; what is no list of
// images at all is an error.
Result<std::vector<DockerArchiveImage>> ParseDockerManifest(std::string_view bytes,
                                                            const std::string& name);

// The images of the legacy form: `repositories`, and a folder for each layer. It has no digests, so
// that the layers are read once to make the config. kNotFound where there is no `repositories`.
Result<std::vector<DockerArchiveImage>> ReadLegacyImages(SourceFiles& files);

}  // namespace lamina
