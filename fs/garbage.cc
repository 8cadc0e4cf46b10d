#include "fs/garbage.h"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/log.h"
#include "base/text.h"
#include "fs/archive_store.h"

namespace lamina {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
// A document is written before what names it is: as long as that may take, and much longer.
constexpr int64_t kDocumentGraceNs = 3600 * kSecondNs;

struct FoundFile {
  std::string path;
  std::string name;
  uint64_t bytes = 0;  // of disk
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
};

int64_t Ns(const timespec& time) { return time.tv_sec * kSecondNs + time.tv_nsec; }

std::vector<FoundFile> FilesIn(const std::string& folder) {
  std::vector<FoundFile> files;
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
    struct stat st {};
    if (::lstat(item.path().c_str(), &st) != 0 || !S_ISREG(st.st_mode)) continue;
    files.push_back({.path = item.path().string(),
                     .name = item.path().filename().string(),
                     .bytes = static_cast<uint64_t>(st.st_blocks) * 512,
                     .modified_ns = Ns(st.st_mtim),
                     .changed_ns = Ns(st.st_ctim)});
  }
  return files;
}

std::string KeyOf(const std::string& repository, const Digest& digest) {
  return repository + "@" + digest.ToString();
}

// Of "repository@digest".
std::optional<Digest> DigestOfKey(const std::string& key) {
  const auto digest = Digest::Parse(key.substr(key.find('@') + 1));
  return digest ? std::optional(*digest) : std::nullopt;
}

}  // namespace

// What one run knows.
struct GarbageCollector::Run {
  Options options;
  int64_t now_ns = 0;
  int64_t since_ns = 0;
  int64_t began_ns = 0;
  KnownContent named;    // of images that something names or uses
  KnownContent unnamed;  // of the others that are known
  int64_t store_began_ns = 0;
  // Of compressed archives, some of which may be away: then a layer that belongs to no known image
  // may be one of them.
  bool archives_away = false;
  Collected collected;

  bool IsOld(int64_t changed_ns) const { return std::max(changed_ns, began_ns) < since_ns; }
};

GarbageCollector::GarbageCollector(StorePaths paths, Store& store, LayerStore& layers,
                                   Catalog& catalog, const WallClock& clock)
    : paths_(std::move(paths)), store_(store), layers_(layers), catalog_(catalog), clock_(clock) {}

Result<GarbageCollector::Collected> GarbageCollector::Collect(const Options& options) {
  MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(Run run, Mark(options));
  if (!options.dry_run) LetGo(&run);
  SweepLayers(&run);
  SweepTrees(&run);
  SweepDatabases(&run);
  RETURN_IF_ERROR(SweepDocuments(&run));
  if (!options.dry_run) RETURN_IF_ERROR(SweepImages(&run));
  std::ranges::sort(run.collected.in_use);
  if (options.dry_run) return std::move(run.collected);
  const Collected& done = run.collected;
  GarbageCounters& counters = layers_.garbage_counters();
  ++counters.runs;
  counters.collected += done.layers + done.trees + done.documents + done.databases;
  counters.freed_bytes += done.bytes;
  return std::move(run.collected);
}

// --- what is kept --------------------------------------------------------------------------------

Result<GarbageCollector::Run> GarbageCollector::Mark(const Options& options) {
  Run run;
  run.options = options;
  run.now_ns = clock_.NowNs();
  run.since_ns = run.now_ns - options.after.count() * kSecondNs;
  RETURN_IF_ERROR(NoteUses());
  ASSIGN_OR_RETURN(run.store_began_ns, store_.BeganNs());
  run.began_ns = run.store_began_ns;
  // A database that was just made is no reason to keep what is to go at once.
  if (options.after.count() == 0) run.began_ns = 0;
  RETURN_IF_ERROR(MarkNamed(&run));
  RETURN_IF_ERROR(MarkHeld(&run));
  RETURN_IF_ERROR(MarkArchives(&run));
  RETURN_IF_ERROR(MarkUnnamed(&run));
  RETURN_IF_ERROR(CheckSameStore(run));
  return run;
}

// A database that was found to be corrupt while it was read has been made anew, and names nothing;
// one that has lost a document does not know what that named.
Status GarbageCollector::CheckSameStore(const Run& run) {
  ASSIGN_OR_RETURN(const int64_t began_ns, store_.BeganNs());
  if (began_ns == run.store_began_ns) return {};
  return Error{Code::kUnavailable,
               "the database has lost something while it was read: nothing is collected"};
}

// Uses that were noted in memory alone: an image that is open is found there.
Status GarbageCollector::NoteUses() {
  layers_.StampUses();
  const int64_t now_ns = clock_.NowNs();
  for (const auto& image : catalog_.LiveImages()) {
    const ImageDocuments& documents = image->documents();
    if (image->TakeUse())
      RETURN_IF_ERROR(store_.RecordImage(documents.repository, documents.digest, now_ns));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> held, catalog_.HeldImages());
  for (const std::string& key : held)
    if (const auto digest = DigestOfKey(key))
      RETURN_IF_ERROR(store_.RecordImage(key.substr(0, key.find('@')), *digest, now_ns));
  return {};
}

Status GarbageCollector::MarkNamed(Run* run) {
  // A run that collects at once asks for what was used in the future.
  const bool at_once = run->options.after.count() == 0;
  ASSIGN_OR_RETURN(const auto images, store_.NamedImages(at_once ? INT64_MAX : run->since_ns));
  for (const Digest& image : images) RETURN_IF_ERROR(AddKnownContent(store_, image, &run->named));
  return {};
}

Status GarbageCollector::MarkHeld(Run* run) {
  ASSIGN_OR_RETURN(const std::vector<std::string> held, catalog_.HeldImages());
  for (const std::string& key : held) {
    const auto digest = DigestOfKey(key);
    if (!digest || run->named.documents.contains(*digest)) continue;
    RETURN_IF_ERROR(AddKnownContent(store_, *digest, &run->named));
    run->collected.in_use.push_back(key);
  }
  return {};
}

Status GarbageCollector::MarkArchives(Run* run) {
  ASSIGN_OR_RETURN(const auto sources, store_.Sources());
  for (const SourceRow& source : sources) {
    if (source.kind == "oci") continue;
    const auto layer = ArchiveStore::LayerNameOf(source.location);
    if (layer)
      run->named.layers.insert(layer->PathName());
    else
      run->archives_away = true;
  }
  return {};
}

Status GarbageCollector::MarkUnnamed(Run* run) {
  ASSIGN_OR_RETURN(const auto images, store_.KnownImages());
  for (const Store::KnownImage& image : images)
    if (!run->named.documents.contains(image.digest))
      RETURN_IF_ERROR(AddKnownContent(store_, image.digest, &run->unnamed));
  return {};
}

// --- what goes -----------------------------------------------------------------------------------

// Images that are open only since somebody looked at them once. Whoever is at work on one keeps it,
// and with it the leases on what it is made of.
void GarbageCollector::LetGo(Run* run) {
  std::vector<std::pair<std::string, std::weak_ptr<Image>>> unnamed;
  for (const auto& image : catalog_.LiveImages()) {
    const ImageDocuments& documents = image->documents();
    if (run->named.documents.contains(documents.digest)) continue;
    catalog_.LetGo(*image);
    unnamed.emplace_back(KeyOf(documents.repository, documents.digest), image);
  }
  for (const auto& [key, image] : unnamed)
    if (!image.expired()) run->collected.in_use.push_back(key);
}

void GarbageCollector::SweepLayers(Run* run) {
  for (const LayerStore::KeptLayer& layer : layers_.KeptLayers()) {
    const std::string name = layer.digest.PathName();
    if (run->named.layers.contains(name) || !run->IsOld(layer.changed_ns)) continue;
    if (run->archives_away && !run->unnamed.layers.contains(name)) continue;
    if (!run->options.dry_run && !layers_.Collect(layer.digest)) continue;
    ++run->collected.layers;
    run->collected.bytes += layer.index_bytes + layer.cache_bytes;
  }
}

void GarbageCollector::SweepTrees(Run* run) {
  constexpr std::string_view kEnding = ".erofs";
  for (const FoundFile& file : FilesIn(paths_.TreeFolder())) {
    if (!file.name.ends_with(kEnding) || !run->IsOld(file.modified_ns)) continue;
    const std::string name = file.name.substr(0, file.name.size() - kEnding.size());
    if (run->named.trees.contains(name)) continue;
    const auto remove = [&] { ::unlink(file.path.c_str()); };
    if (!run->options.dry_run && !layers_.leases().Collect(Leases::OfTree(name), remove)) continue;
    ++run->collected.trees;
    run->collected.bytes += file.bytes;
  }
}

void GarbageCollector::SweepDatabases(Run* run) {
  const std::string beginning =
      std::filesystem::path(paths_.Database()).filename().string() + ".corrupt-";
  for (const FoundFile& file : FilesIn(paths_.root)) {
    if (!file.name.starts_with(beginning) || !run->IsOld(file.changed_ns)) continue;
    if (!run->options.dry_run) ::unlink(file.path.c_str());
    ++run->collected.databases;
    run->collected.bytes += file.bytes;
  }
}

Status GarbageCollector::SweepDocuments(Run* run) {
  RETURN_IF_ERROR(CheckSameStore(*run));
  ASSIGN_OR_RETURN(const auto documents, store_.KnownDocuments());
  const int64_t latest = std::min(run->since_ns, run->now_ns - kDocumentGraceNs);
  for (const Store::KnownDocument& document : documents) {
    if (run->named.documents.contains(document.digest) || document.kept_ns >= latest) continue;
    Status removed;
    const auto remove = [&] { removed = store_.RemoveDocument(document); };
    if (!run->options.dry_run &&
        !layers_.leases().Collect(Leases::OfDocument(document.digest), remove))
      continue;
    RETURN_IF_ERROR(std::move(removed));
    ++run->collected.documents;
    run->collected.bytes += document.size;
  }
  return {};
}

// Images that were only looked at are known no more, and with the last one of it a repository.
Status GarbageCollector::SweepImages(Run* run) {
  ASSIGN_OR_RETURN(const auto images, store_.KnownImages());
  std::set<std::string> repositories;
  for (const Store::KnownImage& image : images) {
    const bool old = run->options.after.count() == 0 || image.used_ns < run->since_ns;
    if (run->named.documents.contains(image.digest) || !old) continue;
    Status removed;
    const auto remove = [&] { removed = store_.RemoveImage(image); };
    if (!layers_.leases().Collect(Leases::OfDocument(image.digest), remove)) continue;
    RETURN_IF_ERROR(std::move(removed));
    repositories.insert(image.repository);
  }
  if (!repositories.empty()) catalog_.DropUnknown(repositories);
  return {};
}

}  // namespace lamina
