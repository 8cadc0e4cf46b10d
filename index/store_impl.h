#pragma once

// What store.cc and store_tags.cc share: the lock, the connection, and what happens on a corrupt
// file.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "index/sqlite.h"
#include "index/store.h"

namespace lamina {

// Of a DELETE FROM image: what is pinned stays known, whatever else names it no more.
inline constexpr const char* kImageIsNotPinned =
    " AND NOT EXISTS (SELECT 1 FROM pin p WHERE p.repository=image.repository"
    " AND p.digest=image.digest)"
    " AND NOT EXISTS (SELECT 1 FROM alias a WHERE a.target_repository=image.repository"
    " AND a.target_digest=image.digest AND a.target_tag='')";

struct Store::Impl {
  using NodeName = std::pair<int, std::string>;  // kind, key

  Impl(std::string database_path, bool is_in_memory)
      : path(std::move(database_path)), in_memory(is_in_memory) {}

  const std::string path;
  const bool in_memory;  // a copy of what lies on a disk that takes no writes

  // Held while SQLite works: it serialises the one connection, which is what it is for. No other
  // lock is taken under it, and nothing is logged.
  Mutex mutex;
  std::unique_ptr<Database> database GUARDED_BY(mutex);  // null after a failed rebuild
  std::map<NodeName, int64_t> nodes GUARDED_BY(mutex);   // ids handed out in this process, bounded
  int64_t largest_node GUARDED_BY(mutex) = 0;            // of those ids
  // Ids that were handed out and that the disk did not take yet.
  std::map<NodeName, int64_t> unsaved GUARDED_BY(mutex);
  std::atomic<uint64_t> alias_changes{0};  // written under the mutex
  std::atomic<uint64_t> namings{0};        // the same; see Store::Namings()

  bool restores GUARDED_BY(mutex) = false;  // a new file has none of the ids of the lost one yet

  // Opens the file with its schema; a corrupt one is set aside and begun anew. What was done is put
  // into
  // `*warning`.
  Status OpenOrRebuild(std::string* warning) REQUIRES(mutex);
  Status Rebuild(const Error& reason, std::string* warning) REQUIRES(mutex);
  Status OpenDatabase(std::string* warning) REQUIRES(mutex);
  Status Prepare(std::string* warning) REQUIRES(mutex);
  Result<std::string> SetAside() REQUIRES(mutex);

  Status RestoreNodes() REQUIRES(mutex);
  Status RaiseNodeIds(Database& of) const REQUIRES(mutex);
  static Status InsertNode(Database& into, const NodeName& name, int64_t id);
  Result<int64_t> MakeNode(Database& in, const NodeName& name) REQUIRES(mutex);
  // Where the disk did not take it: an id that is saved with the next one. `reason` where that
  // would be wrong.
  Result<int64_t> NodeInMemory(const NodeName& name, const Error& reason) REQUIRES(mutex);
  void RememberNode(const NodeName& name, int64_t id) REQUIRES(mutex);

  // Runs `work(Database&)`, which returns a Result, under the lock; where the file was found to be
  // corrupt once more on the file opened anew, and where it is still on the rebuilt one.
  template <typename Work>
  auto With(Work work) -> decltype(work(std::declval<Database&>())) {
    std::string warning;
    auto result = WithLocked(work, &warning);
    if (!warning.empty()) LogWarning(warning);
    return result;
  }

 private:
  template <typename Work>
  auto WithLocked(Work& work, std::string* warning) -> decltype(work(std::declval<Database&>())) {
    MutexLock lock(mutex);
    if (database == nullptr) RETURN_IF_ERROR(OpenOrRebuild(warning));
    auto result = work(*database);
    if (result.has_value() || result.error().code != Code::kCorrupt) return result;
    // SQLite calls it corruption, too, where the disk failed once.
    database.reset();
    RETURN_IF_ERROR(OpenOrRebuild(warning));
    result = work(*database);
    if (result.has_value() || result.error().code != Code::kCorrupt) return result;
    RETURN_IF_ERROR(Rebuild(result.error(), warning));
    return work(*database);
  }
};

}  // namespace lamina
