#pragma once

// OciLayout: a folder in the OCI image-layout form (image-spec, image-layout.md). Read-only. The index.json
// is read again whenever its change time moves, so a layout may be written while it is mounted. Any thread.

#include <memory>
#include <string>
#include <vector>

#include "fetch/repository_source.h"

namespace lamina {

class OciLayout : public RepositorySource {
 public:
  struct Entry {
    std::string ref_name;   // annotation org.opencontainers.image.ref.name as written; may be empty
    Descriptor descriptor;  // of a manifest or an index
  };

  // `path` holds `oci-layout` and `index.json`; both are checked. The path is made absolute.
  static Result<std::shared_ptr<OciLayout>> Open(const std::string& path);

  // All entries of index.json, in order. A ref name that stands twice with different digests is an error that
  // lists both.
  Result<std::vector<Entry>> Entries();
  const std::string& path() const { return path_; }

  // A tag is an entry whose ref_name is the tag, or a full reference that ends in `:tag`.
  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override;
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override;
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override;
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override;
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override;
  std::string origin() const override { return "oci:" + path_; }
  std::string pool_key() const override { return "local"; }

 private:
  explicit OciLayout(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace lamina
