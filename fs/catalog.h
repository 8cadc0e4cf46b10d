#pragma once

// Catalog: from names to images. Knows the registries and local sources, resolves tags to digests
// (local names first, then the registry, with a time to live), opens images, and records all
// answers in the store.
//
// Any thread. "Blocks" means: for pool threads only.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/single_flight.h"
#include "fetch/reference.h"
#include "fetch/registry.h"
#include "fs/archive_store.h"
#include "fs/image.h"
#include "fs/known_content.h"
#include "fs/layer_store.h"
#include "fs/open_images.h"
#include "fs/source_set.h"
#include "index/store.h"

namespace lamina {

struct CatalogOptions {
  Platform platform = Platform::Host();
  std::chrono::seconds tag_ttl{60};
  std::chrono::seconds negative_ttl{5};  // names that a registry said it does not have
  // Of single registries, by host.
  std::map<std::string, std::chrono::seconds> tag_ttls;
  std::map<std::string, std::chrono::seconds> negative_ttls;
  std::chrono::milliseconds name_bound{15000};  // for one answer of a registry about a name
  std::chrono::milliseconds read_bound{30000};
  // Nothing shows before its layer has been verified as a whole: for all, or for single registries.
  bool strict = false;
  std::vector<std::string> strict_registries;
  RegistryOptions registry;

  // For a registry or anything below it.
  std::chrono::seconds TagTtl(const std::string& name) const;
  std::chrono::seconds NegativeTtl(const std::string& name) const;
  bool IsStrict(const std::string& name) const;
};

// What a tag names, and who said so.
struct Resolution {
  Digest digest;
  std::string origin;  // "https://…", "oci:/…"
  bool local = false;  // from a local source, which wins over the registry
  bool stale = false;  // the registry is away; the last known answer
  int64_t seen_ns = 0;
  std::string stale_reason = {};  // of a stale one: why nobody could be asked
  // Where the digest is; another repository than the one that was asked where an alias led there.
  std::string repository = {};
  std::string alias_of = {};  // of an alias: "docker.io/library/debian:bookworm", "…@sha256:…"
};

// What a path below a registry is.
enum class PathKind {
  kNothing,
  kPrefix,      // leads to repositories
  kRepository,  // is one (and may lead to others)
};

class Catalog {
 public:
  Catalog(StorePaths paths, Store& store, LayerStore& layers, CatalogOptions options,
          const WallClock& clock = WallClock::System());
  ~Catalog();
  // Once, before anything else: what the store knows.
  Status Load();

  // --- names; `repository` is "registry/path" -------------------------------------------------
  // A fresh answer from memory (within its time to live), or nullopt: ask Resolve. Never waits.
  std::optional<Result<Resolution>> KnownTag(const std::string& repository,
                                             const std::string& tag) const;
  // Blocks. kNotFound where nobody knows the tag; stale answers where the registry is away.
  Result<Resolution> ResolveTag(const std::string& repository, const std::string& tag);
  // Blocks. A reference to a digest: the digest part, or what its tag resolves to. The digest is
  // checked to exist.
  Result<Resolution> Resolve(const Reference& reference);

  // --- aliases (catalog_aliases.cc): local names, which win over all others
  // ------------------------
  std::optional<AliasRow> AliasOf(const std::string& repository, const std::string& name) const;
  // Sorted; of one repository, or of all where it is empty.
  std::vector<AliasRow> Aliases(const std::string& repository) const;
  // All or none, after a check of each: kInvalid where a name or target is none, kLimit where they
  // would lead in a circle or over too many others, kNoSpace where there are too many. Each takes
  // the place of an alias of the same name. Blocks on local disk.
  Status SetAliases(const std::vector<AliasRow>& rows);
  // kNotFound where there is none. Blocks on local disk.
  Status RemoveAlias(const std::string& repository, const std::string& name);
  // kNotFound where there is none of the old name. Blocks on local disk.
  Status RenameAlias(const std::string& repository, const std::string& from, const std::string& to);
  // Aliases that lead to this image as far as memory tells, as "repository:name". Never waits.
  std::vector<std::string> AliasesTo(const std::string& repository, const Digest& digest) const;
  // What memory, local sources or the store say, however old. Blocks on local disk alone.
  std::optional<Resolution> LastAnswer(const std::string& repository, const std::string& tag);
  // Takes over what another lamina knew of a tag, where nothing is known of it here. Blocks on
  // local disk.
  Status ImportTag(const std::string& repository, const std::string& tag, const Digest& digest);

  // Is there a registry of this name: known locally, or it answers. Blocks.
  Result<bool> RegistryExists(const std::string& registry);
  // Blocks. Where the registry offers neither a catalog nor the repository, a prefix is assumed.
  Result<PathKind> Classify(const std::string& registry, const std::string& path);
  // The same from memory and store only.
  PathKind KnownPath(const std::string& name) const;

  // --- listings ---------------------------------------------------------------------------------
  std::vector<std::string> KnownRegistries() const;
  // The next components below `prefix` ("docker.io" or "docker.io/library") that are known locally.
  std::vector<std::string> KnownChildren(const std::string& prefix) const;
  // Components below a prefix as the registry's catalog gives them, with the local ones; blocks.
  std::vector<std::string> Children(const std::string& prefix);
  struct TagName {
    std::string tag;
    std::optional<Resolution> known;  // from memory or store; not asked for
    int64_t first_ns = 0;             // when it was first seen at this digest; 0: never recorded
    bool moved = false;               // it had another digest before
    bool listed = false;              // the registry lists it
    std::optional<AliasRow> alias = {};
  };
  struct TagList {
    std::vector<TagName> tags;      // sorted
    bool asked = false;             // a registry stands behind the repository
    std::optional<Error> unlisted;  // why its list is missing
  };
  // Like Tags(), with what became of the registry's list. Blocks.
  TagList ListTags(const std::string& repository);
  // Local and registry tags, sorted; the local ones alone where the registry cannot list or is
  // away. Blocks.
  std::vector<TagName> Tags(const std::string& repository);
  // The local ones alone. Blocks on local disk.
  std::vector<TagName> KnownTags(const std::string& repository);
  std::vector<Digest> KnownImages(const std::string& repository) const;
  // The images of local sources, with where they are. Blocks on local disk.
  std::map<Digest, std::string> LocalImages(const std::string& repository);
  // "@0", "@1", …: the images that local sources number. From memory.
  std::vector<std::string> ImageNumbers(const std::string& repository) const;
  std::vector<std::string> KnownRepositories() const;

  // The manifest's digest, where this is the id of an image (the digest of its config) of a local
  // source. What is not in memory is read from local disk where it may wait.
  std::optional<Digest> ImageOfId(const std::string& repository, const Digest& id, bool may_wait);
  // --- tags, asked for now (catalog_tags.cc)
  // ------------------------------------------------------
  struct Refreshed {
    std::string tag;
    Result<Resolution> resolution;
    bool moved = false;  // by this answer
  };
  // Told how many tags of how many are done; false ends it.
  using TagProgress = std::function<bool(size_t done, size_t of)>;
  // Asks for one tag, or where `tag` is empty for the list and all tags that have been resolved
  // before, whatever their time to live. Blocks.
  Result<std::vector<Refreshed>> RefreshTags(const std::string& repository, const std::string& tag,
                                             const TagProgress& progress);
  // Every digest that a tag was seen at, the oldest first; of all tags where `tag` is empty.
  // kNotFound where none ever was. Blocks on local disk.
  Result<std::vector<TagRow>> TagHistory(const std::string& repository, const std::string& tag);

  // --- images -----------------------------------------------------------------------------------
  // Blocks. The image with this digest in this repository; kNotFound where it has none such. One
  // object per (repository, digest), kept while in use and a while longer (OpenImages).
  Result<std::shared_ptr<Image>> OpenImage(const std::string& repository, const Digest& digest);
  // Blocks. Of an index, the digest of the image that it has for a platform; any other digest
  // itself.
  Result<Digest> DigestForPlatform(const std::string& repository, const Digest& digest,
                                   const Platform& platform);
  // Blocks. The images that an index offers, and behind them those of indexes in it that can be
  // read; none where the digest is that of an image. Attestations and companions are left out.
  struct Offer {
    std::optional<Platform> platform;
    Digest digest;
  };
  Result<std::vector<Offer>> Offers(const std::string& repository, const Digest& digest);
  // The image if it is open, else null. Never waits.
  std::shared_ptr<Image> OpenedImage(const std::string& repository, const Digest& digest) const;

  // --- what is kept (catalog_pins.cc)
  // ------------------------------------------------------------- The image that a reference
  // resolves to now is neither evicted nor collected. Blocks.
  Result<Store::PinRow> Pin(const std::string& reference, const Resolution& resolution);
  // The pins that a reference means, which are removed: those that were made by it, and that of the
  // digest that it is or last had. kNotFound where there is none. Blocks on local disk.
  Result<std::vector<Store::PinRow>> Unpin(const Reference& reference);
  // Is the image pinned, by a pin or an alias to its digest? Blocks on local disk.
  Result<bool> IsPinned(const std::string& repository, const Digest& digest);

  // Images that are open now, or still held by somebody. Never waits.
  std::vector<std::shared_ptr<Image>> LiveImages() const;
  // Who keeps images besides the catalog.
  struct Keepers {
    // Images whose names the kernel holds, as "repository@digest".
    std::function<Result<std::vector<std::string>>()> held;
    // Grows when there are more of them. Never waits.
    std::function<uint64_t()> held_changes;
    // Drops an image, so that it is opened anew when it is asked for again.
    std::function<void(const Image&)> let_go;
  };
  // Empty functions end it; not while one of them may be called.
  void SetKeepers(Keepers keepers);
  Result<std::vector<std::string>> HeldImages() const;
  // Changes whenever an image may have got a name, come into use or be held anew. Never waits.
  uint64_t Namings() const;
  void LetGo(const Image& image);
  // Repositories of which nothing is known any more are not listed any more. Blocks on local disk.
  void DropUnknown(const std::set<std::string>& repositories);

  // --- sources ----------------------------------------------------------------------------------
  struct Added {
    std::string repository;
    std::string tag;  // may be empty: by digest only
    Digest digest;
  };
  struct AddedSource {
    std::vector<Added> names;
    std::vector<Error> problems;  // images and names of it that cannot be used
  };
  // KIND:PATH[:WHICH] (source_spec.h). `as_name` as in --as, may be empty. An error where nothing
  // of it can be used. Blocks on local disk.
  Result<AddedSource> AddSource(const std::string& source, const std::string& as_name);
  // Bytes done, and of how many, of the compressed archives that are being streamed now.
  std::pair<uint64_t, uint64_t> StreamedOfArchives() const { return archives_.Streamed(); }
  // What was forgotten, in words: sources, and what was known of a name. A source as it was added,
  // or a reference (a repository without a tag means all of it). Blocks on local disk.
  Result<std::vector<std::string>> Forget(const std::string& source_or_reference);

  // A number that grows whenever a listing may have changed.
  uint64_t generation() const;
  int64_t generation_ns() const;  // when it last grew
  // Called (from any thread, no lock held) when a tag got another digest or names appeared; for
  // cache invalidation.
  void OnChange(std::function<void()> callback);

  struct RegistryStatus {
    std::string host;
    uint64_t requests = 0, range_requests = 0, blob_bytes = 0, token_requests = 0, retries = 0;
  };
  std::vector<RegistryStatus> registries() const;
  const CatalogOptions& options() const { return options_; }
  // Jobs about names of this registry run under this pool key.
  static std::string PoolKey(const std::string& registry) { return registry; }

 private:
  using Sources = std::vector<std::shared_ptr<RepositorySource>>;
  struct TagAnswer {
    Result<Resolution> resolution;
    Deadline fresh_until;
  };
  struct PathAnswer {
    PathKind kind;
    Deadline fresh_until;
  };
  struct Listing {
    std::vector<std::string> names;
    Deadline fresh_until;
  };

  using AliasMap = std::map<std::string, std::map<std::string, AliasRow>>;
  // Where a chain of aliases ends.
  struct AliasEnd {
    std::string repository;
    std::string tag;               // empty where it ends at a digest
    std::optional<Digest> digest;  // of a pin
    std::string platform;          // of the first alias of the chain that has one
    bool followed = false;         // the name was an alias

    std::string ToString() const;
  };
  static Result<AliasEnd> Follow(const AliasMap& aliases, const std::string& repository,
                                 const std::string& tag);
  Result<AliasEnd> EndOf(const std::string& repository, const std::string& tag) const;
  Status CheckAlias(const AliasRow& row) const;
  Status ChangeAliases(const Store::AliasChange& change);
  std::optional<Store::PinnedImage> ImageOf(const Reference& reference);
  void UpdatePins() EXCLUDES(pins_mutex_);
  void LearnPins(const Digest& document) EXCLUDES(pins_mutex_);
  void ApplyPins(const std::set<Digest>& images) REQUIRES(pins_mutex_);
  static AliasMap MapOf(const std::vector<AliasRow>& rows);
  static Status CheckChains(const std::vector<AliasRow>& all, const std::vector<AliasRow>& added);
  Result<Resolution> ResolveEnd(const AliasEnd& end);
  std::optional<Result<Resolution>> KnownAnswer(const std::string& repository,
                                                const std::string& tag) const;
  Result<Resolution> ResolvePlainTag(const std::string& repository, const std::string& tag);
  static Resolution WithAlias(Resolution resolution, const AliasEnd& end);
  void AddAliases(const std::string& repository, std::map<std::string, TagName>* found);

  Result<Resolution> AskForTag(const std::string& repository, const std::string& tag);
  Result<Resolution> AskLocal(const std::string& repository, const std::string& tag);
  Result<Resolution> AskRegistry(const std::string& repository, const std::string& tag);
  Result<Resolution> LastKnown(const std::string& repository, const std::string& tag,
                               const Error& reason);
  void Record(const std::string& repository, const std::string& tag, const Resolution& resolution);
  Result<PathKind> AskForPath(const std::string& registry, const std::string& path);
  Result<std::vector<std::string>> RegistryTags(const std::string& repository);
  Result<std::vector<std::string>> RegistryCatalog(const std::string& registry);
  std::vector<std::string> TagsNaming(const std::string& repository, const Digest& digest);
  Result<std::shared_ptr<Image>> LoadImage(const std::string& repository, const Digest& digest);
  // Taken before a document is looked for, so that it is not collected once it was found.
  Leases::Lease LeaseOn(const Digest& document) {
    return layers_.leases().Take({Leases::OfDocument(document)});
  }
  std::vector<TagName> TagsWith(const std::string& repository,
                                const std::vector<std::string>& listed);
  std::optional<TagAnswer> RememberedTag(const std::string& repository,
                                         const std::string& tag) const;
  Result<std::optional<Digest>> UnmovedDigest(RepositorySource& source,
                                              const std::string& repository, const std::string& tag,
                                              const Deadline& deadline);
  Refreshed RefreshTag(const std::string& repository, const std::string& tag);
  Result<Document> Manifest(const std::string& repository, const Digest& digest,
                            const Sources& sources);
  // From the sources alone; keeps it.
  Result<Document> FetchManifest(const std::string& repository, const Digest& digest,
                                 const Sources& sources);
  // A document of this repository, which the store knows from now on as one of its images.
  Result<ManifestDocument> KnownManifest(const std::string& repository, const Digest& digest);
  Result<std::string> Config(const Descriptor& descriptor, const Sources& sources);
  void Keep(const Document& document, const std::string& name);
  void LearnRepository(const std::string& repository);
  Status DropRecords(const std::vector<SourceSet::Forgotten>& forgotten);
  void Changed();
  Deadline NameBound() const { return Deadline::After(options_.name_bound); }

  const StorePaths paths_;
  Store& store_;
  LayerStore& layers_;
  const CatalogOptions options_;
  const WallClock& clock_;
  ArchiveStore archives_;
  SourceSet sources_;
  SingleFlight<std::string, Resolution> tag_flights_;
  SingleFlight<std::string, PathKind> path_flights_;
  SingleFlight<std::string, std::shared_ptr<Image>> image_flights_;
  OpenImages images_;  // "repository@digest"
  std::vector<std::weak_ptr<Image>> live_images_ GUARDED_BY(mutex_);
  Keepers keepers_ GUARDED_BY(mutex_);
  mutable Mutex mutex_;                                       // leaf; guards the answers below
  std::map<std::string, TagAnswer> tags_ GUARDED_BY(mutex_);  // "repository:tag"
  std::map<std::string, PathAnswer> paths_answers_ GUARDED_BY(mutex_);
  std::map<std::string, Listing> listings_
      GUARDED_BY(mutex_);                                  // "repository" tags, "registry" catalogs
  std::set<std::string> repositories_ GUARDED_BY(mutex_);  // known, sorted
  Mutex pins_mutex_;  // orders the changes of what is pinned; held over the store's reads
  // What the pinned images are made of, by digest.
  std::map<Digest, KnownContent> pins_ GUARDED_BY(pins_mutex_);
  AliasMap aliases_ GUARDED_BY(mutex_);           // by repository and name
  uint64_t alias_change_ GUARDED_BY(mutex_) = 0;  // the store's number of aliases_
  std::vector<std::function<void()>> callbacks_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> generation_{1};
  std::atomic<int64_t> generation_ns_{0};
};

}  // namespace lamina
