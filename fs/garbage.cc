#include "fs/garbage.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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
// What is that much in the future was written while the clock was wrong.
constexpr int64_t kClockSlackNs = 60 * kSecondNs;

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

std::vector<FoundFile> DatabasesSetAside(const StorePaths& paths) {
  const std::string beginning =
      std::filesystem::path(paths.Database()).filename().string() + ".corrupt-";
  std::vector<FoundFile> files = FilesIn(paths.root);
  std::erase_if(files, [&](const FoundFile& file) { return !file.name.starts_with(beginning); });
  return files;
}

// So that it does not count as young until a time that was never now.
void BoundTimes(const std::vector<FoundFile>& files, int64_t now_ns) {
  const timespec now{.tv_sec = now_ns / kSecondNs, .tv_nsec = now_ns % kSecondNs};
  const std::array<timespec, 2> times{now, now};
  for (const FoundFile& file : files)
    if (std::max(file.modified_ns, file.changed_ns) > now_ns + kClockSlackNs)
      ::utimensat(AT_FDCWD, file.path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW);
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
  uint64_t namings = 0;  // of the catalog, when the marks were made
  std::set<Digest> named_images;
  KnownContent named;  // what belongs to images that something names or uses
  int64_t store_began_ns = 0;
  Collected collected;

  bool IsOld(int64_t changed_ns) const { return std::max(changed_ns, began_ns) < since_ns; }
};

GarbageCollector::GarbageCollector(StorePaths paths, Store& store, LayerStore& layers,
                                   Catalog& catalog, const WallClock& clock)
    : paths_(std::move(paths)), store_(store), layers_(layers), catalog_(catalog), clock_(clock) {}

Result<GarbageCollector::Collected> GarbageCollector::Collect(const Options& options) {
  if (options.dry_run) return MarkAndSweep(options);
  MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(Collected done, MarkAndSweep(options));
  GarbageCounters& counters = layers_.garbage_counters();
  ++counters.runs;
  counters.collected += done.layers + done.trees + done.documents + done.databases;
  counters.freed_bytes += done.bytes;
  return done;
}

Result<GarbageCollector::Collected> GarbageCollector::MarkAndSweep(const Options& options) {
  ASSIGN_OR_RETURN(Run run, Mark(options));
  if (!options.dry_run) LetGo(&run);
  RETURN_IF_ERROR(SweepLayers(&run));
  RETURN_IF_ERROR(SweepTrees(&run));
  SweepDatabases(&run);
  RETURN_IF_ERROR(SweepDocuments(&run));
  if (!options.dry_run) RETURN_IF_ERROR(SweepImages(&run));
  std::ranges::sort(run.collected.in_use);
  return std::move(run.collected);
}

// --- what is kept --------------------------------------------------------------------------------

Result<GarbageCollector::Run> GarbageCollector::Mark(const Options& options) {
  Run run;
  run.options = options;
  run.now_ns = clock_.NowNs();
  run.since_ns = run.now_ns - options.after.count() * kSecondNs;
  // What a full disk does not take is no reason to free nothing on it.
  if (Status bounded = BoundAllTimes(run.now_ns); !bounded) LogWarning(bounded.error().message);
  RETURN_IF_ERROR(NoteUses(&run));
  ASSIGN_OR_RETURN(run.store_began_ns, store_.BeganNs());
  run.began_ns = run.store_began_ns;
  // A database that was just made is no reason to keep what is to go at once.
  if (options.after.count() == 0) run.began_ns = 0;
  RETURN_IF_ERROR(MarkAll(&run));
  return run;
}

Status GarbageCollector::MarkAll(Run* run) {
  run->namings = catalog_.Namings();
  RETURN_IF_ERROR(MarkNamed(run));
  RETURN_IF_ERROR(MarkHeld(run));
  RETURN_IF_ERROR(MarkArchives(run));
  return CheckSameStore(*run);
}

// A run may take long: what was named, used or entered since the marks were made is marked, too.
Status GarbageCollector::KeepUp(Run* run) {
  if (layers_.cancelled()) return Error{Code::kCancelled, "lamina is stopping"};
  return catalog_.Namings() == run->namings ? Status() : MarkAll(run);
}

// Asked once nobody can come to use what is to go: what is named from now on is named without it.
std::function<bool()> GarbageCollector::AsMarked(const Run& run) {
  return [this, &run] { return catalog_.Namings() == run.namings; };
}

Status GarbageCollector::BoundAllTimes(int64_t now_ns) {
  for (const std::string& folder :
       {paths_.IndexFolder(), paths_.TreeFolder(), paths_.CacheFolder()})
    BoundTimes(FilesIn(folder), now_ns);
  BoundTimes(DatabasesSetAside(paths_), now_ns);
  return store_.BoundTimes(now_ns, now_ns + kClockSlackNs);
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
Status GarbageCollector::NoteUses(Run* run) {
  layers_.StampUses();
  for (const auto& image : catalog_.LiveImages()) {
    const ImageDocuments& documents = image->documents();
    if (image->TakeUse()) RETURN_IF_ERROR(NoteUse(documents.repository, documents.digest, run));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> held, catalog_.HeldImages());
  for (const std::string& key : held)
    if (const auto digest = DigestOfKey(key))
      RETURN_IF_ERROR(NoteUse(key.substr(0, key.find('@')), *digest, run));
  return {};
}

// Where it cannot be written down, this run at least knows it.
Status GarbageCollector::NoteUse(const std::string& repository, const Digest& image, Run* run) {
  const Status noted = store_.RecordImage(repository, image, run->now_ns);
  if (noted) return {};
  LogWarning(noted.error().message);
  run->named_images.insert(image);
  return MarkImage(image, run);
}

Status GarbageCollector::MarkImage(const Digest& image, Run* run) {
  KnownContent content;
  RETURN_IF_ERROR(AddKnownContent(store_, image, &content));
  run->named.Merge(std::move(content));
  return {};
}

Status GarbageCollector::MarkNamed(Run* run) {
  // A run that collects at once asks for what was used in the future.
  const bool at_once = run->options.after.count() == 0;
  ASSIGN_OR_RETURN(const auto images, store_.NamedImages(at_once ? INT64_MAX : run->since_ns));
  KnownContent content;
  for (const Digest& image : images)
    if (run->named_images.insert(image).second)
      RETURN_IF_ERROR(AddKnownContent(store_, image, &content));
  run->named.Merge(std::move(content));
  return {};
}

Status GarbageCollector::MarkHeld(Run* run) {
  ASSIGN_OR_RETURN(const std::vector<std::string> held, catalog_.HeldImages());
  for (const std::string& key : held) {
    const auto digest = DigestOfKey(key);
    if (!digest) continue;
    const bool marked = run->named.documents.contains(*digest);
    if (marked && !run->named.missing.contains(*digest)) continue;
    RETURN_IF_ERROR(MarkImage(*digest, run));
    if (!marked) run->collected.in_use.push_back(key);
  }
  return {};
}

// What an archive is called as a layer its file tells; of one that is away what was told last.
Status GarbageCollector::MarkArchives(Run* run) {
  ASSIGN_OR_RETURN(const auto sources, store_.Sources());
  for (const SourceRow& source : sources) {
    if (source.kind == "oci") continue;
    const auto now = ArchiveStore::LayerNameOf(source.location);
    const std::optional<Digest> layer = now ? std::optional(*now) : source.layer;
    if (layer) run->named.layers.insert(layer->PathName());
    if (layer == source.layer) continue;
    if (Status noted = store_.RecordLayerOfSource(source.id, *layer); !noted)
      LogWarning(noted.error().message);
  }
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

Status GarbageCollector::SweepLayers(Run* run) {
  for (const LayerStore::KeptLayer& layer : layers_.KeptLayers()) {
    RETURN_IF_ERROR(KeepUp(run));
    const std::string name = layer.digest.PathName();
    if (run->named.layers.contains(name) || !run->IsOld(layer.changed_ns)) continue;
    if (!run->options.dry_run && !layers_.Collect(layer.digest, AsMarked(*run))) continue;
    ++run->collected.layers;
    run->collected.bytes += layer.index_bytes + layer.cache_bytes;
  }
  return {};
}

Status GarbageCollector::SweepTrees(Run* run) {
  constexpr std::string_view kEnding = ".erofs";
  for (const FoundFile& file : FilesIn(paths_.TreeFolder())) {
    RETURN_IF_ERROR(KeepUp(run));
    if (!file.name.ends_with(kEnding) || !run->IsOld(file.modified_ns)) continue;
    const std::string name = file.name.substr(0, file.name.size() - kEnding.size());
    if (run->named.trees.contains(name)) continue;
    const auto remove = [&] { ::unlink(file.path.c_str()); };
    if (!run->options.dry_run &&
        !layers_.leases().Collect(Leases::OfTree(name), AsMarked(*run), remove))
      continue;
    ++run->collected.trees;
    run->collected.bytes += file.bytes;
  }
  return {};
}

void GarbageCollector::SweepDatabases(Run* run) {
  for (const FoundFile& file : DatabasesSetAside(paths_)) {
    if (!run->IsOld(file.changed_ns)) continue;
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
    RETURN_IF_ERROR(KeepUp(run));
    if (run->named.documents.contains(document.digest) || document.kept_ns >= latest) continue;
    Status removed;
    const auto remove = [&] { removed = store_.RemoveDocument(document); };
    if (!run->options.dry_run &&
        !layers_.leases().Collect(Leases::OfDocument(document.digest), AsMarked(*run), remove))
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
    RETURN_IF_ERROR(KeepUp(run));
    const bool old = run->options.after.count() == 0 || image.used_ns < run->since_ns;
    if (run->named.documents.contains(image.digest) || !old) continue;
    Status removed;
    const auto remove = [&] { removed = store_.RemoveImage(image); };
    if (!layers_.leases().Collect(Leases::OfDocument(image.digest), AsMarked(*run), remove))
      continue;
    RETURN_IF_ERROR(std::move(removed));
    repositories.insert(image.repository);
  }
  if (!repositories.empty()) catalog_.DropUnknown(repositories);
  return {};
}

}  // namespace lamina
