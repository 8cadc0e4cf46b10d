#pragma once

// Namespace: the tree that users see (design.md section 1) as plain methods on node ids. Knows
// nothing of FUSE.
//
// Each operation has two forms. TryX answers from memory and mapped files and never waits: any
// thread, FUSE threads too. X blocks (network, indexing, SQLite): pool threads only. Between them
// stand WaitOf() and Prepare(): requests that wait for the same thing share one job.
//
// Errors keep their Code; the caller makes the errno (ToNameErrno for names, ToErrno for data). Why
// a tree or a read failed is in the log and in the image's status.json.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "fetch/reference.h"
#include "fs/catalog.h"
#include "fs/held_images.h"
#include "fs/layer_store.h"
#include "fs/name_failures.h"
#include "fs/namespace_names.h"
#include "fs/namespace_rows.h"
#include "fs/namespace_types.h"
#include "index/store.h"

namespace lamina {

class Namespace {
 public:
  // All outlive it. `version` is the text of .lamina/version without a newline.
  Namespace(Catalog& catalog, Store& store, const LayerStore& layers, std::string version,
            const WallClock& clock = WallClock::System());
  ~Namespace();

  Attempt<NodeEntry> TryLookup(NodeId parent, std::string_view name) {
    return LookupIn(parent, name, false);
  }
  Result<NodeEntry> Lookup(NodeId parent, std::string_view name);
  Attempt<NodeAttributes> TryGetAttr(NodeId node) { return AttrOf(node, false); }
  Result<NodeAttributes> GetAttr(NodeId node);
  Attempt<std::string> TryReadLink(NodeId node) { return LinkOf(node, false); }
  Result<std::string> ReadLink(NodeId node);
  // Exactly the bytes up to the end of the file or of `out`, or an error.
  Attempt<size_t> TryRead(NodeId node, uint64_t offset, MutableByteSpan out) {
    return ReadAt(node, offset, out, nullptr);
  }
  Result<size_t> Read(NodeId node, uint64_t offset, MutableByteSpan out, const Deadline& deadline);
  // From `cookie` (0 = start, else an item's next_cookie). With `attributes`, items carry entries
  // where these are at hand.
  Attempt<void> TryReadDirectory(NodeId node, uint64_t cookie, bool attributes,
                                 const DirectoryVisitor& visit) {
    return ListFrom(node, cookie, attributes, visit, false);
  }
  Status ReadDirectory(NodeId node, uint64_t cookie, bool attributes,
                       const DirectoryVisitor& visit);
  // For SEEK_DATA and SEEK_HOLE; nullopt: there is no data any more (ENXIO).
  Attempt<std::optional<uint64_t>> TrySeek(NodeId node, uint64_t offset, bool hole) {
    return SeekIn(node, offset, hole, false);
  }
  Result<std::optional<uint64_t>> Seek(NodeId node, uint64_t offset, bool hole);
  // nullopt: the file has no such attribute (ENODATA). user.lamina.{layer,digest,local} of regular
  // files and user.lamina.error of everything in an image, and of the folders of names, are made up
  // here and not listed, so that listings are the image's own.
  Attempt<std::optional<std::string>> TryXattr(NodeId node, std::string_view name) {
    return XattrOf(node, name, false);
  }
  Result<std::optional<std::string>> Xattr(NodeId node, std::string_view name);
  // Names, each ended by NUL.
  Attempt<std::string> TryListXattr(NodeId node) { return XattrNamesOf(node, false); }
  Result<std::string> ListXattr(NodeId node);
  FileSystemFacts Facts(NodeId node) const;

  // Aliases as links in the folder of a repository (namespace_aliases.cc); they block. kUnsupported
  // where nothing can be changed, kInvalid for what cannot be an alias, kLimit for a circle.
  // Off until AllowLinks(), which is called before anything else.
  void AllowLinks(uint32_t uid, uint32_t gid);  // who owns the folders then
  bool links_allowed() const { return link_owner_.has_value(); }
  Result<NodeEntry> MakeLink(NodeId parent, std::string_view name, std::string_view target);
  Status RemoveLink(NodeId parent, std::string_view name);
  Status RenameLink(NodeId parent, std::string_view name, NodeId new_parent,
                    std::string_view new_name);

  // What an operation on `node` (and, for lookups, `name` in it) that would wait waits for.
  NodeWait WaitOf(NodeId node, std::string_view name = {}) const;
  // Does the next step that WaitOf() named: learns the row, opens the image, opens or builds the
  // tree. Blocks.
  Status Prepare(NodeId node);
  // How long a request waits at most where WaitOf() says that it is bounded.
  std::chrono::milliseconds wait_bound() const { return catalog_.options().read_bound; }
  // Writes down, in the log and for an image in its status.json, why a request on this node (and
  // this name) was given up.
  void NoteFailure(NodeId node, std::string_view name, const Error& error);

  // `callback` runs (any thread, no lock held) when names may have changed; then TakeChangeable()
  // says which. Nothing in TakeChangeable() is a folder or stands in the root.
  void OnChange(std::function<void()> callback) { catalog_.OnChange(std::move(callback)); }
  HandedOut::Names TakeChangeable() { return handed_out_.Take(); }
  // The kernel holds the entry of a node since it was answered; so many times it has let go of it.
  // Of folders of images: what is below one holds it.
  void NoteHeld(NodeId node) { held_images_.Add(node, 1); }
  void NoteForgotten(NodeId node, uint64_t times) {
    held_images_.Add(node, -static_cast<int64_t>(times));
  }
  // More lines for .lamina/metrics; an empty function ends it. Not called any more once this has
  // returned.
  void SetMetricsSource(std::function<std::string()> source);

 private:
  using ImageRowPtr = std::shared_ptr<const ImageRow>;
  using KeyPtr = std::shared_ptr<const std::string>;

  // namespace.cc: which part answers
  Attempt<NodeEntry> LookupIn(NodeId parent, std::string_view name, bool may_wait);
  Attempt<NodeAttributes> AttrOf(NodeId node, bool may_wait);
  Attempt<std::string> LinkOf(NodeId node, bool may_wait);
  // A deadline where it may wait, else null.
  Attempt<size_t> ReadAt(NodeId node, uint64_t offset, MutableByteSpan out,
                         const Deadline* deadline);
  Attempt<void> ListFrom(NodeId node, uint64_t cookie, bool attributes,
                         const DirectoryVisitor& visit, bool may_wait);
  Attempt<std::optional<uint64_t>> SeekIn(NodeId node, uint64_t offset, bool hole, bool may_wait);
  Attempt<std::optional<std::string>> XattrOf(NodeId node, std::string_view name, bool may_wait);
  Attempt<std::string> XattrNamesOf(NodeId node, bool may_wait);
  void NoteEntry(NodeId parent, std::string_view name, const NodeEntry& entry);
  Attempt<NodeEntry> EntryOf(NodeId node, bool may_wait);  // for "." and ".."
  Attempt<NodeId> ParentOf(NodeId node, bool may_wait);

  // namespace_open.cc: rows to keys, images and trees
  Attempt<KeyPtr> NameKey(uint32_t row, bool may_wait);
  Attempt<ImageRowPtr> OpenRow(uint32_t row, bool may_wait);
  Attempt<ImageRowPtr> TreeRow(uint32_t row, bool may_wait);
  Attempt<uint32_t> RowOfImage(const std::string& repository, const Digest& digest, bool may_wait);
  Attempt<uint32_t> RowOfLayer(const ImageRow& image, uint32_t layer, bool may_wait);
  NodeWait WaitForNames(const std::string& registry) const;
  static NodeWait WaitForImage(const ImageRow& row, bool for_tree, NodeId gate);
  Result<ImageRowPtr> OpenImageKey(uint32_t row, const std::string& key);
  Result<ImageRowPtr> OpenTree(uint32_t row, const ImageRowPtr& image);

  // namespace_directories.cc: root, registries, repositories
  Attempt<NodeEntry> LookupInRoot(std::string_view name, bool may_wait);
  Attempt<NodeEntry> LookupInDirectory(const std::string& directory, std::string_view name,
                                       bool may_wait);
  Attempt<NodeEntry> LookupPlain(const std::string& directory, const std::string& name,
                                 bool may_wait);
  Attempt<NodeEntry> LookupTag(const std::string& directory, const std::string& name,
                               bool may_wait);
  Attempt<NodeEntry> AliasEntry(const AliasRow& alias, bool may_wait);  // namespace_aliases.cc
  Result<std::string> RepositoryOfLinks(NodeId folder);
  Attempt<NodeEntry> LookupComponent(const std::string& directory, const std::string& name,
                                     bool may_wait);
  bool IsListedBelow(const std::string& directory, const std::string& name);
  Attempt<NodeEntry> ImageFolderEntry(const std::string& repository, const Digest& digest,
                                      bool may_wait);
  Attempt<NodeEntry> DirectoryEntry(const std::string& key, bool may_wait);
  Attempt<NodeEntry> LinkEntry(const std::string& place, const std::string& target, double seconds,
                               bool may_wait);
  // `way` leads from the place to the repository: "", "debian/".
  Attempt<NodeEntry> PinEntry(const std::string& place, const std::string& repository,
                              const std::string& way, const Digest& digest, bool may_wait);
  // `name` of registries and repositories, whose times to live differ.
  NodeAttr DirectoryAttr(NodeId node, const std::string& name = {}) const;
  double TagSeconds(const std::string& repository, const Resolution& resolution) const;
  Listing ListRoot() const;
  Listing ListDirectory(NodeId node, const std::string& directory);
  void AddRepository(const std::string& repository, std::map<std::string, ListedName>* found);
  NodeEntry Negative(const std::string& directory) const;
  // The folder of names that a node is: "" for the root; null for other nodes, and where it is not
  // known without a wait.
  KeyPtr FolderOfNames(NodeId node) const;

  Result<std::vector<std::string>> KeysOfHeldImages();
  void LetGo(const Image& image);

  // namespace_image.cc: image directories
  Attempt<NodeEntry> LookupInImage(const NodeParts& parts, std::string_view name, bool may_wait);
  Attempt<NodeEntry> LookupInLayers(const ImageRow& image, uint32_t row, std::string_view name,
                                    bool may_wait);
  Attempt<NodeAttr> ImagePartAttr(const NodeParts& parts, const ImageRow& image) const;
  std::string StatusOf(const ImageRow& image);
  Attempt<NodeEntry> StatusEntry(const ImageRow& image, uint32_t row, bool may_wait);
  Attempt<NodeEntry> TreeRootEntry(uint32_t row, const ImageRow& image);
  Attempt<NodeEntry> PartEntry(uint32_t row, const ImageRow& image, ImagePart part,
                               uint32_t number) const;
  static const std::string* DocumentOf(const NodeParts& parts, const ImageRow& image);
  Listing ListImage(const NodeParts& parts, const ImageRow& image) const;
  Result<std::string> ImageLink(const NodeParts& parts, const ImageRow& image) const;

  // namespace_tree.cc: inside rootfs and layers/N; the row's tree is open
  static Nid NidOf(const ImageRow& row, uint32_t position);
  static uint32_t PositionOf(const ImageRow& row, Nid nid);
  static NodeId FolderOfTree(const ImageRow& row);
  static Attempt<NodeAttr> TreeAttrOf(const ImageRow& row, uint32_t number, uint32_t position);
  Attempt<NodeEntry> LookupInTree(const NodeParts& parts, std::string_view name, bool may_wait);
  Attempt<size_t> ReadTree(const NodeParts& parts, uint64_t offset, MutableByteSpan out,
                           const Deadline* deadline);
  Attempt<void> ListTree(const NodeParts& parts, uint64_t cookie, bool attributes,
                         const DirectoryVisitor& visit, bool may_wait);
  std::optional<std::string> ErrorXattr(NodeId node, const NodeParts& parts) const;
  Attempt<std::optional<std::string>> LaminaXattr(const ImageRow& row, Nid nid,
                                                  std::string_view name, bool may_wait);

  // namespace_self.cc: .lamina, and texts that change
  Attempt<NodeEntry> LookupInSelf(std::string_view name);
  Result<std::string> SelfContent(SelfText text) const;
  Attempt<NodeEntry> SelfEntry(SelfText which);
  Listing ListSelf() const;
  static uint32_t TextCheck(std::string_view text);
  NodeAttr TextAttr(NodeId node, std::string_view text) const;
  std::string Metrics() const;
  Attempt<KeyPtr> TextOf(NodeId node, const NodeParts& parts, bool may_wait);

  Attempt<void> ListNames(NodeId node, const Listing& listing, uint64_t cookie, bool attributes,
                          const DirectoryVisitor& visit);

  Catalog& catalog_;
  const LayerStore& layers_;
  const std::string version_;
  const WallClock& clock_;
  const int64_t started_ns_;
  std::optional<std::pair<uint32_t, uint32_t>> link_owner_;  // uid and gid
  RowTable names_;
  RowTable image_keys_;
  ImageTable images_;
  TextShelf texts_;
  ListingShelf listings_;
  HandedOut handed_out_;
  HeldImages held_images_;
  NameFailures name_failures_;
  mutable Mutex metrics_mutex_;  // held while the source runs: that only formats numbers
  std::function<std::string()> metrics_source_ GUARDED_BY(metrics_mutex_);
};

}  // namespace lamina
