#pragma once

// RepositorySource: where the images of one repository come from, a registry or a local layout. One
// object per repository; every method is safe from any thread and blocks at most to its deadline.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/blob_source.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/result.h"
#include "fetch/manifest.h"

namespace lamina {

// A manifest, index or config as bytes that have been checked against `digest`.
struct Document {
  Digest digest;
  std::string media_type;  // what the source said; may be empty
  std::string bytes;
};

class RepositorySource {
 public:
  virtual ~RepositorySource() = default;

  // The manifest or index that `tag` names now, with the digest of its bytes. kNotFound where there
  // is none.
  virtual Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) = 0;
  // The digest that `tag` names now, where the source says so without giving the document; nullopt
  // where it has to be asked for that. kNotFound where there is none.
  virtual Result<std::optional<Digest>> TagDigest(const std::string& /*tag*/,
                                                  const Deadline& /*deadline*/) {
    return std::optional<Digest>();
  }
  // The manifest or index with this digest; its bytes are verified.
  virtual Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) = 0;
  // Artifacts of this type that are said to refer to the manifest `subject`, each once; what one
  // really is, its own bytes say. Empty where there are none, and where the source has no such
  // lists.
  virtual Result<std::vector<Descriptor>> FetchReferrers(const Digest& /*subject*/,
                                                         const std::string& /*artifact_type*/,
                                                         const Deadline& /*deadline*/) {
    return std::vector<Descriptor>();
  }
  // A small blob (a config) as a whole, verified against digest and size; kLimit above `limit`
  // bytes.
  virtual Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                             const Deadline& deadline) = 0;
  // False where it is known without asking anybody that the blob is not here: a look at the local
  // disk, true of every registry.
  virtual bool MayHold(const Digest& digest) = 0;
  // A layer, for streaming and random access. Does no I/O that could block for long.
  virtual Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) = 0;
  // All tags, sorted. kUnsupported where the source cannot list.
  virtual Result<std::vector<std::string>> ListTags(const Deadline& deadline) = 0;

  // "https://registry-1.docker.io" or "oci:/path"; no secrets.
  virtual std::string origin() const = 0;
  // The key under which jobs on this source run in a KeyedPool: one per host, "local" for files.
  virtual std::string pool_key() const = 0;
};

}  // namespace lamina
