#pragma once

// AliasDocument: a set of aliases as JSON, to move it between machines (docs/formats-aliases.md).
// What is read is checked wholly before anything is made of it. Pure functions; any thread.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "index/store.h"

namespace lamina {

// What a tag was known to be where the document was written.
struct KnownTagDigest {
  std::string repository;
  std::string tag;
  Digest digest;
  friend bool operator==(const KnownTagDigest&, const KnownTagDigest&) = default;
};

struct AliasDocument {
  std::vector<AliasRow> aliases;  // sorted by repository and name; made_ns is not in the document
  std::vector<KnownTagDigest> tags;  // sorted likewise

  static Result<AliasDocument> Parse(std::string_view text);
  std::string ToString() const;
};

}  // namespace lamina
