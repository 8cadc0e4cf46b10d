#pragma once

// DockerArchive: the images of an archive as `docker save` and `podman save` write it, under
// manifests that are made here: the archive has none. Such a manifest is the one that skopeo makes
// of the same archive: Docker schema 2, with the layers' diff ids as their digests. A layer that is
// compressed inside the archive is named by the digest of a text (PackedLayerName()), since nobody
// knows the digest of its bytes without reading it.
//
// Read-only; the archive is read again when its file has changed. Any thread.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/single_flight.h"
#include "fetch/file_identity.h"
#include "fetch/local_source.h"
#include "fetch/source_files.h"

namespace lamina {

class DockerArchive : public LocalSource {
 public:
  explicit DockerArchive(std::shared_ptr<SourceFiles> files) : files_(std::move(files)) {}

  Status Check() override;
  // Images that cannot be read have an error in the place of their descriptor.
  Result<std::shared_ptr<const LocalImages>> Images() override;
  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override;
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override;
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override;
  bool MayHold(const Digest& digest) override;
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override;
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override;
  std::string origin() const override { return files_->origin(); }

 private:
  class Reader;
  struct Blob {
    std::string name;             // of the member; empty: `bytes`
    std::string bytes;            // of what is made here: manifests, the configs of legacy images
    bool digest_is_name = false;  // see PackedLayerName()
  };
  struct Snapshot {
    FileIdentity identity;
    bool settled = false;
    std::shared_ptr<const LocalImages> images;
    std::map<Digest, std::string> manifests;  // their bytes
    std::map<Digest, Blob> blobs;             // configs and layers
  };
  using SnapshotPtr = std::shared_ptr<const Snapshot>;

  Result<SnapshotPtr> Current() EXCLUDES(mutex_);
  Result<SnapshotPtr> ReadArchive();
  Result<const Blob*> FindBlob(const Snapshot& snapshot, const Digest& digest) const;

  const std::shared_ptr<SourceFiles> files_;
  SingleFlight<int, SnapshotPtr> reading_;
  Mutex mutex_;  // leaf; not held while reading
  SnapshotPtr snapshot_ GUARDED_BY(mutex_);
};

// What a layer is called whose member is compressed: the sha256 of the line
// "docker-archive layer DIFF_ID PACKING SIZE\n", PACKING being "gzip" or "zstd" and SIZE the bytes
// of the member.
Digest PackedLayerName(const Digest& diff_id, std::string_view packing, uint64_t size);

}  // namespace lamina
