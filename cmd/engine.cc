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

namespace {

// Asked for the lock of a folder that another process holds.
Error InUse(const std::string& store_folder) {
  return Error{Code::kUnavailable, fmt::format("the store {} is in use by another lamina; give "
                                               "--store another folder, or end that one",
                                               store_folder)};
}

// On a disk that takes files.
Result<UniqueFd> Hold(const StorePaths& paths) {
  for (const std::string& folder : {paths.IndexFolder(), paths.TreeFolder(), paths.CacheFolder()})
    RETURN_IF_ERROR(MakeFolders(folder));
  ASSIGN_OR_RETURN(UniqueFd lock, OpenFile(paths.Lock(), O_RDWR | O_CREAT));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK) return InUse(paths.root);
  return ErrnoError(errno, "cannot lock " + paths.Lock());
}

// On one that takes none: a process may hold it from when it did. Several machines may have it, so
// what cannot be locked is no error.
Result<UniqueFd> HoldAsItIs(const StorePaths& paths) {
  auto lock = OpenFile(paths.Lock(), O_RDONLY);
  if (lock && ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return InUse(paths.root);
  const auto folder = paths.spare->Folder();
  if (!folder)
    return folder.error().code == Code::kUnavailable ? InUse(paths.root) : folder.error();
  return lock ? *std::move(lock) : UniqueFd();
}

void TidyUp(const StorePaths& paths) {
  SpareFolder::RemoveLeftovers(paths.root);
  for (const std::string& folder :
       {paths.root, paths.IndexFolder(), paths.TreeFolder(), paths.CacheFolder()})
    if (const auto removed = RemoveTemporaries(folder); !removed)
      LogWarning(removed.error().message);
}

}  // namespace

Engine::Engine(StorePaths paths, UniqueFd lock, std::unique_ptr<Store> store, bool lasting,
               const CatalogOptions& options, uint64_t cache_limit, CacheCompression compression)
    : paths_(std::move(paths)),
      lock_(std::move(lock)),
      lasting_(lasting),
      store_(std::move(store)),
      layers_(
          std::make_unique<LayerStore>(paths_, cache_limit, options.registry.memory, compression)),
      catalog_(std::make_unique<Catalog>(paths_, *store_, *layers_, options)),
      garbage_(std::make_unique<GarbageCollector>(paths_, *store_, *layers_, *catalog_)) {}

Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& store_folder,
                                             const CatalogOptions& options,
                                             const std::string& cache_size,
                                             CacheCompression compression) {
  const StorePaths paths{store_folder, std::make_shared<SpareFolder>(store_folder)};
  ASSIGN_OR_RETURN(bool lasting, paths.spare->DiskTakesFiles());
  ASSIGN_OR_RETURN(UniqueFd lock, lasting ? Hold(paths) : HoldAsItIs(paths));
  ASSIGN_OR_RETURN(const uint64_t cache_limit, CacheLimit(cache_size, paths.CacheFolder()));
  if (lasting) TidyUp(paths);
  auto store = lasting ? Store::Open(paths.Database()) : Store::OpenInMemory(paths.Database());
  // A disk with room for a small file may have none for those of the database.
  if (!store && store.error().code == Code::kNoSpace) {
    LogWarning(store.error().message + "; what is learnt is kept in memory");
    lasting = false;
    store = Store::OpenInMemory(paths.Database());
  }
  if (!store) return std::move(store).error();
  std::unique_ptr<Engine> engine(new Engine(paths, std::move(lock), *std::move(store), lasting,
                                            options, cache_limit, compression));
  RETURN_IF_ERROR(engine->catalog_->Load());
  return engine;
}

}  // namespace lamina
