#pragma once

// SourceSet: the places that images come from. Makes one Registry object per host and one
// LocalSource per layout or archive, and tells which names the local ones give to which repository.
// Any thread; methods that say so block on local disk, none on the network.

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/registry.h"
#include "fs/archive_store.h"
#include "fs/local_names.h"
#include "index/store.h"

namespace lamina {

class SourceSet {
 public:
  // `archives` outlives it.
  SourceSet(Store& store, ArchiveStore& archives, RegistryOptions registry);

  // Reads the sources that the store knows. One that is away keeps the names that it last had, and
  // may come back at any time. Archives are not read before one of their names is asked for.
  Status Load();

  struct Added {
    std::vector<LocalName> names;  // known and stored now
    std::vector<Error> problems;   // images and names that cannot be used; the others can
  };
  // KIND:PATH[:WHICH]; blocks on local disk. An error where nothing of it can be used.
  Result<Added> Add(const std::string& source, const std::string& as_name, int64_t now_ns);

  struct Forgotten {
    std::string source;  // as it would be added
    std::string origin;
    std::vector<LocalName> names;  // that it gave
  };
  // The sources that are added under this text: KIND:PATH means all that were chosen from it.
  // kNotFound where there is none.
  Result<std::vector<Forgotten>> Forget(const std::string& source);
  // The sources that give this name (all names of the repository where `tag` is absent) and no
  // other one; kInvalid, naming the source, where one gives others too. Empty where none gives it.
  Result<std::vector<Forgotten>> ForgetName(const std::string& repository,
                                            const std::optional<std::string>& tag);

  // The local names of one repository as the sources are now, without the numbers of images; blocks
  // on local disk (a stat for a source that has not changed). The latest added source wins where
  // two give the same tag. Sources that are away are left out.
  std::vector<LocalName> LocalNamesOf(const std::string& repository);
  // "@0", "@1", … of one repository, from memory.
  std::vector<std::string> ImageNumbersOf(const std::string& repository) const;
  // The name that the latest added source gives to this tag. kNotFound where none does,
  // kUnavailable where the one that last did is away; an error in words where it stands for two
  // images, or for one that cannot be read.
  Result<LocalName> Find(const std::string& repository, const std::string& tag);
  // The manifest of the image with this id (the digest of its config), where a local source says
  // so; from memory.
  std::optional<Digest> ImageOfId(const std::string& repository, const Digest& id) const;
  // Reads the sources of a repository that have not been read yet; blocks on local disk.
  void Refresh(const std::string& repository);
  // Repositories that local sources name, sorted.
  std::vector<std::string> LocalRepositories() const;

  // Who may hold this image of the repository: local sources that have it, then the registry, then
  // the registries that the names inside those sources name (which complete a layout that lacks
  // blobs), then some of the other local ones. Registry "localhost" without a port is local only.
  // Blocks on local disk.
  std::vector<std::shared_ptr<RepositorySource>> SourcesOf(const std::string& repository,
                                                           const Digest& image);
  // The registry client of a host; made where new.
  std::shared_ptr<Registry> RegistryOf(const std::string& host);
  std::vector<std::pair<std::string, std::shared_ptr<Registry>>> Registries() const;

 private:
  using TablePtr = std::shared_ptr<const NameTable>;
  struct Source {
    SourceRow row;
    std::shared_ptr<LocalSource> source;
    mutable std::atomic<int64_t> checked_ms{0};  // when it was last looked at, on the steady clock
  };
  using SourcePtr = std::shared_ptr<const Source>;
  struct Known {
    SourcePtr source;
    TablePtr table;
  };

  // The latest added first.
  std::vector<Known> SourcesNaming(const std::string& repository) const EXCLUDES(mutex_);
  // Names as they are now, remembered where they have changed.
  Result<TablePtr> CurrentTable(const Known& known) EXCLUDES(mutex_);
  std::shared_ptr<LocalSource> LocalSourceAt(const std::string& kind, const std::string& location)
      EXCLUDES(mutex_);
  // In the place of what was known of the same source; one that is not known, since it was
  // forgotten meanwhile, is not made known.
  void Remember(const SourcePtr& source, TablePtr table) EXCLUDES(mutex_);
  void RememberNew(const SourcePtr& source, TablePtr table) EXCLUDES(mutex_);
  void Put(const SourcePtr& source, TablePtr table) REQUIRES(mutex_);
  void DropNames(int64_t id, const NameTable& table) REQUIRES(mutex_);
  Forgotten ForgetSource(const Known& known) EXCLUDES(mutex_);
  static bool IsOfDockerArchive(const std::vector<Known>& known, const std::string& repository,
                                const Digest& image);
  void AddRegistries(const std::vector<Known>& known, const std::string& repository,
                     const Digest& image, std::vector<std::shared_ptr<RepositorySource>>* sources);

  Store& store_;
  ArchiveStore& archives_;
  const RegistryOptions registry_options_;
  mutable Mutex mutex_;  // leaf
  std::map<int64_t, Known> sources_ GUARDED_BY(mutex_);
  // Ids, the latest added last.
  std::map<std::string, std::vector<int64_t>> by_repository_ GUARDED_BY(mutex_);
  std::map<std::string, std::weak_ptr<LocalSource>> local_sources_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<Registry>> registries_ GUARDED_BY(mutex_);
};

}  // namespace lamina
