#pragma once

// SourceSpec: a source of images as users write it, KIND:PATH[:WHICH]. The one table of the kinds
// of sources is here. Any thread; ParseSourceSpec() looks at the local disk.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fetch/local_source.h"
#include "fs/archive_store.h"

namespace lamina {

struct SourceSpec {
  std::string kind;      // "oci", "oci-archive", "docker-archive"
  std::string location;  // absolute path
  std::string selected;  // REF, @N, @DIGEST; empty for all images
};

// Does the text begin with a kind of source?
bool IsSourceSpec(std::string_view text);
// A ':' may belong to the path or end it: the longest path that is there counts, and where none is,
// the part up to the first ':'.
Result<SourceSpec> ParseSourceSpec(const std::string& text);
// All readings of the text, for a source that may be away.
std::vector<SourceSpec> ReadingsOf(const std::string& text);
std::string ToString(const SourceSpec& spec);

// The source at this place, which may be away now; nothing is checked. null for a kind that is
// unknown (of a store that a newer lamina has written).
std::shared_ptr<LocalSource> SourceAt(const std::string& kind, const std::string& location,
                                      ArchiveStore& archives);

}  // namespace lamina
