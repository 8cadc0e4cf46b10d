#pragma once

// OciLayout: files in the OCI image-layout form (image-spec, image-layout.md), in a folder or in an
// archive (`oci-archive`). Read-only. The index.json is read again whenever its change time moves,
// so a layout may be written while it is mounted. Any thread. What is read as a document is checked
// against its digest first.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "fetch/local_source.h"
#include "fetch/reference.h"
#include "fetch/source_files.h"

namespace lamina {

class OciLayout : public LocalSource, public std::enable_shared_from_this<OciLayout> {
 public:
  struct Entry {
    std::string ref_name;   // annotation org.opencontainers.image.ref.name as written; may be empty
    Descriptor descriptor;  // of a manifest or an index
    std::string image_name;  // annotation io.containerd.image.name: a full reference; may be empty
  };

  // `path` holds `oci-layout` and `index.json`; both are checked. The path is made absolute.
  static Result<std::shared_ptr<OciLayout>> Open(const std::string& path);
  // The layout at this absolute path, which may be away now and come back: nothing is checked until
  // it is used.
  static std::shared_ptr<OciLayout> At(std::string path);
  // The same over any files, those of an archive for one.
  static std::shared_ptr<OciLayout> Over(std::shared_ptr<SourceFiles> files);
  ~OciLayout() override;

  // A layout of a version that lamina reads, with an index.json?
  Status Check() override;
  Result<std::shared_ptr<const LocalImages>> Images() override;

  // All entries of index.json, in order. A ref name that stands twice with different digests is an
  // error that lists both, unless the image names tell them apart (`docker save` of several
  // images).
  Result<std::vector<Entry>> Entries();

  // The part of this layout that carries `name`: entries whose image_name or ref_name is a full
  // reference to that repository. It reads through this object, and sees changes as this does. Tags
  // and ListTags() are those of the part; documents and blobs are found by digest as before.
  std::shared_ptr<RepositorySource> Repository(const RepositoryName& name);

  // A tag is an entry whose ref_name is the tag, or a full reference that ends in `:tag`; the first
  // kind wins. kInvalid, listing the digests, where it stands for several.
  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override;
  // Any manifest among the blobs, whether or not index.json names it.
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override;
  // What index.json lists and names this subject, and what the tag lists that stands in for a
  // registry's list of referrers.
  Result<std::vector<Descriptor>> FetchReferrers(const Digest& subject,
                                                 const std::string& artifact_type,
                                                 const Deadline& deadline) override;
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override;
  bool MayHold(const Digest& digest) override;
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override;
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override;
  std::string origin() const override { return files_->origin(); }

 private:
  friend class OciLayoutPart;
  struct Snapshot;
  using SnapshotPtr = std::shared_ptr<const Snapshot>;

  explicit OciLayout(std::shared_ptr<SourceFiles> files);
  Status CheckLayoutFile();
  // index.json as it is now; reads it only if it has changed.
  Result<SnapshotPtr> Current() EXCLUDES(mutex_);
  Result<SnapshotPtr> ReadIndex() const;
  Result<Document> FetchEntry(const Entry& entry) const;
  // Is this entry an artifact of the type, about the subject?
  bool Refers(const Entry& entry, const Digest& subject, const std::string& artifact_type) const;
  // A blob of at most `limit` bytes, checked.
  Result<std::string> ReadBlob(const Digest& digest, std::optional<uint64_t> size,
                               uint64_t limit) const;
  // The error of opening a blob, in words where it is missing; kUnavailable where the whole layout
  // is.
  Error BlobError(const Digest& digest, Error error) const;

  const std::shared_ptr<SourceFiles> files_;
  Mutex mutex_;  // leaf; not held while reading
  SnapshotPtr snapshot_ GUARDED_BY(mutex_);
};

}  // namespace lamina
