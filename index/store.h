#pragma once

// Store: the SQLite database of what changes (docs/formats-store.md has the schema). One process
// opens it, for writing, through one connection; methods lock inside and are safe from any thread,
// but never called on the read path of cached data or on a FUSE thread that could wait. On a
// corrupt file it is set aside, rebuilt, and work goes on.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/result.h"

namespace lamina {

// A source of images that was added by hand: a layout or an archive.
struct SourceRow {
  int64_t id = 0;
  std::string kind;      // "oci", "oci-archive", "docker-archive"
  std::string location;  // absolute path
  std::string selected;  // the REF or @N of oci:DIR:REF, empty for all
  std::string as_name;   // --as, empty where names inside the source count
  int64_t added_ns = 0;
  // Of an archive: what it was called as a layer when it was last seen.
  std::optional<Digest> layer = {};
};

// A name that a source gives: registry/path:tag -> digest.
struct LocalNameRow {
  int64_t source_id = 0;
  std::string repository;  // "localhost/sample", "docker.io/library/debian"
  std::string tag;         // empty for an untagged image; "@2" for image 2 of the source
  Digest digest;
};

struct TagRow {
  std::string repository;
  std::string tag;
  Digest digest;
  std::string origin;    // "https://…" or "oci:/…"
  int64_t seen_ns = 0;   // last time that the answer was got
  int64_t first_ns = 0;  // first time that this tag had this digest
  int64_t answers = 1;   // of a current row: digests that the tag has had, one after the other
};

// A local name for a tag or, as a pin, for a digest.
struct AliasRow {
  std::string repository;               // "docker.io/library/debian"
  std::string name;                     // "stable"
  std::string target_repository;        // may be another one
  std::string target_tag;               // empty for a pin
  std::optional<Digest> target_digest;  // of a pin
  std::string platform;                 // "linux/arm64" of an index; empty: whatever is asked for
  int64_t made_ns = 0;

  friend bool operator==(const AliasRow&, const AliasRow&) = default;
};

// Registries, repositories and images that have been seen have ids for ever: node ids are made of
// them.
enum class NodeKind : int { kRegistry = 1, kRepository = 2, kImage = 3, kName = 4 };

class Store {
 public:
  // `path` of the database file; its folder exists.
  static Result<std::unique_ptr<Store>> Open(const std::string& path);
  // Where the disk takes no writes: a copy in memory of what the file holds, if there is one.
  // Changes end with the object.
  static Result<std::unique_ptr<Store>> OpenInMemory(const std::string& path);
  ~Store();

  // The id, 1 and up, of a node with this kind and key; made where it is new. Stable for ever.
  // After a rebuild of a corrupt database, and in memory, new ids start at the seconds since
  // 2023-11-14 (27 bits today), so that lost ones name nothing else. A disk that is full or fails
  // gets to know it with the next new one that it takes.
  Result<int64_t> NodeId(NodeKind kind, const std::string& key);
  // The key of an id, for node ids that the kernel still holds after a restart.
  Result<std::string> NodeKey(NodeKind kind, int64_t id);

  Result<int64_t> AddSource(
      const SourceRow& row,
      const std::vector<LocalNameRow>& names);  // replaces the same location+selected+as_name
  Status ReplaceLocalNames(int64_t source_id, const std::vector<LocalNameRow>& names);
  Status RecordLayerOfSource(int64_t id, const Digest& layer);
  Status RemoveSource(int64_t id);
  // The answers of this origin about these names, and the images among them that nothing else names
  // (below localhost/, all images of a repository that no source names any more).
  Status ForgetNames(const std::vector<LocalNameRow>& names, const std::string& origin);
  // All answers about a tag, or about all tags and images of the repository. False where there were
  // none.
  Result<bool> ForgetTags(const std::string& repository, const std::optional<std::string>& tag);
  Result<std::vector<SourceRow>> Sources();
  Result<std::vector<LocalNameRow>> LocalNames();

  // Records an answer: updates the current row and appends to the history when the digest is a new
  // one for the tag. True when the tag moved (it had another digest before). `row.first_ns` is not
  // looked at.
  Result<bool> RecordTag(const TagRow& row);
  Result<std::optional<TagRow>> CurrentTag(const std::string& repository, const std::string& tag);
  Result<std::vector<TagRow>> CurrentTags(
      const std::string& repository);  // empty: of all repositories
  // The oldest first; of all tags of the repository, by name, where `tag` is empty.
  Result<std::vector<TagRow>> TagHistory(const std::string& repository, const std::string& tag);

  struct AliasChange {
    std::vector<std::pair<std::string, std::string>> remove;  // repository and name
    std::vector<AliasRow> put;  // then, each in the place of an alias of the same name
  };
  struct AliasState {
    uint64_t change = 0;         // grows with each change in this process
    std::vector<AliasRow> rows;  // all, as Aliases() gives them
  };
  // All or nothing: nothing where `check` refuses what all aliases would be (it runs under the
  // store's lock: no I/O, no other lock), kNotFound where one to remove is not there.
  Result<AliasState> ChangeAliases(
      const AliasChange& change,
      const std::function<Status(const std::vector<AliasRow>& all)>& check);
  // Sorted by repository and name.
  Result<std::vector<AliasRow>> Aliases();
  // Images that an alias to a digest or a pin names: whatever frees space leaves them alone.
  struct PinnedImage {
    std::string repository;
    Digest digest;

    friend auto operator<=>(const PinnedImage&, const PinnedImage&) = default;
  };
  Result<std::vector<PinnedImage>> PinnedImages();

  // --- what is kept, and why (store_garbage.cc)
  struct PinRow {
    std::string repository;
    Digest digest;
    std::string reference;  // as it was given
    int64_t made_ns = 0;
  };
  // In the place of a pin of the same image.
  Status PutPin(const PinRow& row);
  Status RemovePin(const std::string& repository, const Digest& digest);
  Result<std::vector<PinRow>> Pins();
  struct KnownImage {
    std::string repository;
    Digest digest;
    int64_t used_ns = 0;  // give or take an hour; not before the database was made
  };
  Result<std::vector<KnownImage>> KnownImages();
  struct KnownDocument {
    Digest digest;
    uint64_t size = 0;    // bytes
    int64_t kept_ns = 0;  // when it last came; not before the database was made
  };
  Result<std::vector<KnownDocument>> KnownDocuments();
  // Unless it was used, or came, again since the row was read.
  Status RemoveImage(const KnownImage& image);
  Status RemoveDocument(const KnownDocument& document);
  // What names keep: the images that tags have now, or had since `since_ns`, those of sources,
  // aliases and pins, and those used since.
  Result<std::vector<Digest>> NamedImages(int64_t since_ns);
  // Grows, once that is written, whenever NamedImages() may have got more. Never waits.
  uint64_t Namings() const;
  // Times in it that are after `latest_ns`, of a clock that was wrong, become `now_ns`.
  Status BoundTimes(int64_t now_ns, int64_t latest_ns);
  // When the database was made, or got the times of what is in it.
  Result<int64_t> BeganNs();

  // Images (manifest or index digests) known in a repository, with when they were first seen and
  // last used. Writes the time of use once an hour at most.
  Status RecordImage(const std::string& repository, const Digest& digest, int64_t now_ns);
  Result<std::vector<Digest>> Images(const std::string& repository);
  // All repositories that have a tag, an image, a local name or an alias, sorted. (A node id alone
  // says only that somebody asked.)
  Result<std::vector<std::string>> Repositories();

  // Manifests, indexes and configs as verified bytes, so that known images work offline. kCorrupt
  // where the bytes are not what the digest names. The digest says nothing of the media type, which
  // is a source's word: where two of them differ the store forgets it for good (an empty one), so
  // that no source decides how a document of another one is read.
  Status PutDocument(const Digest& digest, const std::string& media_type, const std::string& bytes);
  struct StoredDocument {
    std::string media_type;  // empty: not known, the bytes have to tell
    std::string bytes;
  };
  // Checked against the digest on the way out; a rotten row is dropped and reads as absent.
  Result<std::optional<StoredDocument>> GetDocument(const Digest& digest);

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  static Result<std::unique_ptr<Store>> OpenAs(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace lamina
