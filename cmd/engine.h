#pragma once

// Engine: the store folder opened by this process, with everything behind it. One process at a time
// holds a store (a lock file says so): the daemon, or a command where no daemon runs. Any thread,
// once opened.

#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "fs/catalog.h"
#include "fs/garbage.h"
#include "fs/layer_store.h"
#include "fs/layout.h"
#include "index/store.h"

namespace lamina {

class Engine {
 public:
  // Makes the folder (0700) where it is missing. kUnavailable where another process holds the
  // store. Where the disk takes no files, what is there serves, and what comes new is kept in
  // memory. `cache_size`: see CacheLimit(); `compression`: of what is cached from now on.
  static Result<std::unique_ptr<Engine>> Open(
      const std::string& store_folder, const CatalogOptions& options,
      const std::string& cache_size = "", CacheCompression compression = CacheCompression::kNone);
  ~Engine();

  const StorePaths& paths() const { return paths_; }
  // False where what changes in the store ends with this object.
  bool lasting() const { return lasting_; }
  Store& store() { return *store_; }
  LayerStore& layers() { return *layers_; }
  Catalog& catalog() { return *catalog_; }
  GarbageCollector& garbage() { return *garbage_; }

 private:
  Engine(StorePaths paths, UniqueFd lock, std::unique_ptr<Store> store, bool lasting,
         const CatalogOptions& options, uint64_t cache_limit, CacheCompression compression);
  const StorePaths paths_;
  const UniqueFd lock_;
  const bool lasting_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<LayerStore> layers_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<GarbageCollector> garbage_;
};

// The store folder where none is given: LAMINA_STORE, /var/lib/lamina as root,
// $XDG_DATA_HOME/lamina otherwise.
std::string DefaultStoreFolder();

}  // namespace lamina
