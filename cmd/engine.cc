#include "cmd/engine.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "base/user.h"

namespace lamina {

std::string DefaultStoreFolder() {
  if (std::string store = EnvironmentOf("LAMINA_STORE"); !store.empty()) return store;
  if (::geteuid() == 0) return "/var/lib/lamina";
  if (const std::string data = EnvironmentOf("XDG_DATA_HOME"); !data.empty())
    return data + "/lamina";
  const std::string home = HomeFolder();
  return (home.empty() ? "." : home) + "/.local/share/lamina";
}

Engine::Engine(StorePaths paths, UniqueFd lock, std::unique_ptr<Store> store,
               const CatalogOptions& options, uint64_t cache_limit)
    : paths_(std::move(paths)),
      lock_(std::move(lock)),
      store_(std::move(store)),
      layers_(std::make_unique<LayerStore>(paths_, cache_limit, options.registry.memory)),
      catalog_(std::make_unique<Catalog>(paths_, *store_, *layers_, options)),
      garbage_(std::make_unique<GarbageCollector>(paths_, *store_, *layers_, *catalog_)) {}

Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& store_folder,
                                             const CatalogOptions& options,
                                             const std::string& cache_size) {
  const StorePaths paths{store_folder};
  RETURN_IF_ERROR(MakeFolders(paths.root));
  for (const std::string& folder : {paths.IndexFolder(), paths.TreeFolder(), paths.CacheFolder()})
    RETURN_IF_ERROR(MakeFolders(folder));
  ASSIGN_OR_RETURN(const uint64_t cache_limit, CacheLimit(cache_size, paths.CacheFolder()));
  ASSIGN_OR_RETURN(UniqueFd lock, OpenFile(paths.Lock(), O_RDWR | O_CREAT));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoError(errno, "cannot lock " + paths.Lock());
    return Error{Code::kUnavailable, fmt::format("the store {} is in use by another lamina; give "
                                                 "--store another folder, or end that one",
                                                 store_folder)};
  }
  for (const std::string& folder : {paths.IndexFolder(), paths.TreeFolder(), paths.CacheFolder()})
    if (const auto removed = RemoveTemporaries(folder); !removed)
      LogWarning(removed.error().message);
  ASSIGN_OR_RETURN(auto store, Store::Open(paths.Database()));
  std::unique_ptr<Engine> engine(
      new Engine(paths, std::move(lock), std::move(store), options, cache_limit));
  RETURN_IF_ERROR(engine->catalog_->Load());
  return engine;
}

}  // namespace lamina
