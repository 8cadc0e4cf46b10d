#pragma once

// SourceSet: the places that images come from. Makes one Registry object per host and one OciLayout
// per folder, and tells which local names the layouts give to which repository. Any thread; methods
// that say so block on local disk, none on the network.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/oci_layout.h"
#include "fetch/reference.h"
#include "fetch/registry.h"
#include "index/store.h"

namespace lamina {

// A name that a local source gives to an image.
struct LocalName {
  std::string repository;  // "localhost/sample"
  std::string tag;         // empty: by digest only
  Digest digest;
  std::shared_ptr<RepositorySource> source;

  friend bool operator==(const LocalName& a, const LocalName& b) {
    return a.repository == b.repository && a.tag == b.tag && a.digest == b.digest;
  }
};

class SourceSet {
 public:
  SourceSet(Store& store, RegistryOptions registry, std::vector<std::string> insecure_registries);

  // Reads the sources that the store knows. A layout that is away is logged and keeps the names
  // that it last had; it may come back at any time.
  Status Load();

  // "oci:DIR[:REF]"; blocks on local disk. Returns the names given, which are then known and
  // stored.
  Result<std::vector<LocalName>> Add(const std::string& source, const std::string& as_name,
                                     int64_t now_ns);

  // The local names of one repository as the layouts are now; blocks on local disk (a stat for a
  // layout that has not changed). The latest added source wins where two give the same tag. Layouts
  // that are away are left out.
  std::vector<LocalName> LocalNamesOf(const std::string& repository);
  // The name that the latest added source gives to this tag. kNotFound where none does,
  // kUnavailable where the one that last did is away.
  Result<LocalName> Find(const std::string& repository, const std::string& tag);
  // Repositories that local sources name, sorted.
  std::vector<std::string> LocalRepositories() const;

  // Who may hold this image of the repository: local sources that have it, then the registry, then
  // the other local ones. Registry "localhost" without a port is local only. Blocks on local disk.
  std::vector<std::shared_ptr<RepositorySource>> SourcesOf(const std::string& repository,
                                                           const Digest& image);
  // The registry client of a host; made where new.
  std::shared_ptr<Registry> RegistryOf(const std::string& host);
  std::vector<std::pair<std::string, std::shared_ptr<Registry>>> Registries() const;

 private:
  struct Source {
    SourceRow row;
    std::shared_ptr<OciLayout> layout;
    std::vector<LocalName> last_names;
  };
  using SourcePtr = std::shared_ptr<const Source>;
  // The latest added first.
  std::vector<SourcePtr> SourcesNaming(const std::string& repository) const;
  // Names as they are now, remembered where they have changed.
  Result<std::vector<LocalName>> CurrentNames(const Source& source);
  static Result<std::vector<LocalName>> NamesOf(const Source& source);
  // In the place of what was known of the same source.
  void Remember(Source source, const std::vector<LocalName>& names);

  Store& store_;
  const RegistryOptions registry_options_;
  const std::vector<std::string> insecure_registries_;
  mutable Mutex mutex_;  // leaf
  // The latest added last.
  std::map<std::string, std::vector<SourcePtr>> by_repository_ GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<Registry>> registries_ GUARDED_BY(mutex_);
};

}  // namespace lamina
