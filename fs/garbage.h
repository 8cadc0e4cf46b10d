#pragma once

// GarbageCollector: removes what nothing names any more. What names: tags as they were last
// resolved, and what they were of late; aliases, pins, and the names that sources give; images that
// were used of late; images that somebody in this process or the kernel uses. All else that lies in
// the store is made again when it is touched: layer indexes, trees, cached bytes, notes of refused
// layers, documents, databases that were set aside. Any thread; blocks on local disk.

#include <chrono>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fs/catalog.h"
#include "fs/known_content.h"
#include "fs/layer_store.h"
#include "fs/layout.h"
#include "index/store.h"

namespace lamina {

class GarbageCollector {
 public:
  // All outlive it.
  GarbageCollector(StorePaths paths, Store& store, LayerStore& layers, Catalog& catalog,
                   const WallClock& clock = WallClock::System());

  struct Options {
    // "Of late": what was named, used or made since is kept. 0: only what is named or in use now.
    std::chrono::seconds after{0};
    bool dry_run = false;  // tells what there is and removes nothing
  };
  struct Collected {
    uint64_t layers = 0;
    uint64_t trees = 0;
    uint64_t documents = 0;
    uint64_t databases = 0;  // set aside
    uint64_t bytes = 0;      // of disk; of documents those of their content
    // "repository@digest": nothing names them, but somebody uses them.
    std::vector<std::string> in_use;
  };
  // Of those that remove something one at a time; whoever comes meanwhile waits. Ends with
  // kCancelled when the layer store is cancelled.
  Result<Collected> Collect(const Options& options) EXCLUDES(mutex_);

 private:
  struct Run;

  Result<Collected> MarkAndSweep(const Options& options);
  Result<Run> Mark(const Options& options);
  Status BoundAllTimes(int64_t now_ns);
  Status MarkAll(Run* run);
  Status MarkNamed(Run* run);
  Status MarkHeld(Run* run);
  Status MarkArchives(Run* run);
  Status KeepUp(Run* run);
  std::function<bool()> AsMarked(const Run& run);
  Status CheckSameStore(const Run& run);
  void LetGo(Run* run);
  Status NoteUses(Run* run);
  Status NoteUse(const std::string& repository, const Digest& image, Run* run);
  Status MarkImage(const Digest& image, Run* run);
  Status SweepLayers(Run* run);
  Status SweepTrees(Run* run);
  void SweepDatabases(Run* run);
  Status SweepDocuments(Run* run);
  Status SweepImages(Run* run);

  const StorePaths paths_;
  Store& store_;
  LayerStore& layers_;
  Catalog& catalog_;
  const WallClock& clock_;
  Mutex mutex_;  // held over a whole run that removes: orders these
};

}  // namespace lamina
