#pragma once

// ArchiveFiles: the members of an archive file as SourceFiles. The archive is opened when it is
// first asked for something, and again when the file has changed. Links between members are
// followed inside the archive, to a bound. Any thread; one caller opens, the others wait for it.

#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/archive.h"
#include "base/mutex.h"
#include "base/single_flight.h"
#include "fetch/source_files.h"

namespace lamina {

// Opens the archive at a path as it is now; the identity is that of the file that is to be read.
using ArchiveOpener = std::function<Result<std::shared_ptr<const Archive>>(
    const std::string& path, const FileIdentity& identity)>;

class ArchiveFiles : public SourceFiles {
 public:
  // `path` is absolute. Nothing is checked.
  ArchiveFiles(std::string path, std::string origin, ArchiveOpener opener)
      : path_(std::move(path)), origin_(std::move(origin)), opener_(std::move(opener)) {}

  Result<FileIdentity> Identify(const std::string& name) override;
  void Refresh() override EXCLUDES(mutex_);
  Result<std::string> Read(const std::string& name, uint64_t limit) override;
  Result<std::shared_ptr<BlobSource>> Open(const std::string& name,
                                           std::optional<uint64_t> size) override;
  Result<uint64_t> SizeOf(const std::string& name) override;
  bool Has(const std::string& name) override;
  bool MayBeTorn() const override { return false; }
  const std::string& origin() const override { return origin_; }
  std::string NameOf(const std::string& name) const override { return origin_ + ": " + name; }

 private:
  struct Opened {
    FileIdentity identity;
    bool settled = false;
    std::shared_ptr<const Archive> archive;
    std::unordered_map<std::string, const ArchiveMember*> by_name;  // cleaned
  };
  using OpenedPtr = std::shared_ptr<const Opened>;
  struct Found {
    OpenedPtr opened;
    const ArchiveMember* member;
  };

  Result<OpenedPtr> Current() EXCLUDES(mutex_);
  Result<OpenedPtr> OpenNow();
  Error Away(Error error) const;
  // The file that a name leads to; kNotFound where there is none.
  Result<Found> Resolve(const std::string& name);
  Result<Found> ResolveFile(const std::string& name);

  const std::string path_;
  const std::string origin_;
  const ArchiveOpener opener_;
  SingleFlight<int, OpenedPtr> opening_;
  Mutex mutex_;  // leaf; not held while reading
  OpenedPtr opened_ GUARDED_BY(mutex_);
};

// A member's name without "./", "//" and "..", relative to the root of the archive; nullopt where
// it leads out of it or names nothing.
std::optional<std::string> CleanMemberName(std::string_view name);

}  // namespace lamina
