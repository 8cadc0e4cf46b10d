#pragma once

// SourceFiles: the files of a local source, by their names inside it: those of a folder, or the
// members of an archive, which is read in place. Any thread; methods block on local disk. Names are
// relative, as "blobs/sha256/1f2e…".

#include <memory>
#include <optional>
#include <string>

#include "base/blob_source.h"
#include "base/result.h"
#include "fetch/file_identity.h"

namespace lamina {

class SourceFiles {
 public:
  virtual ~SourceFiles() = default;

  // What changes whenever `name` may have changed.
  virtual Result<FileIdentity> Identify(const std::string& name) = 0;
  // Whoever is about to read several files that belong together calls this first: what was read
  // while a writer may have been at work counts no more.
  virtual void Refresh() {}
  // A small file as a whole: kNotFound, kLimit above `limit` bytes.
  virtual Result<std::string> Read(const std::string& name, uint64_t limit) = 0;
  // The bytes of a file, for random access; kCorrupt where it has another size than the one given.
  virtual Result<std::shared_ptr<BlobSource>> Open(const std::string& name,
                                                   std::optional<uint64_t> size) = 0;
  virtual Result<uint64_t> SizeOf(const std::string& name) = 0;
  virtual bool Has(const std::string& name) = 0;

  // Is it possible that a writer is in the middle of a file that has just changed, and waiting for
  // a moment helps?
  virtual bool MayBeTorn() const = 0;
  // "oci:/path", "docker-archive:/path/file.tar".
  virtual const std::string& origin() const = 0;
  // The file by its whole name, for messages.
  virtual std::string NameOf(const std::string& name) const = 0;
};

}  // namespace lamina
