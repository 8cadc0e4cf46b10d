#include "fetch/oci_layout.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/errno.h"
#include "base/text.h"
#include "fetch/folder_files.h"
#include "fetch/json.h"
#include "fetch/referrers.h"

namespace lamina {
namespace {

constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
constexpr std::string_view kImageName = "io.containerd.image.name";
constexpr uint64_t kMaxLayoutFileBytes = 4096;

// skopeo writes index.json in place, so that a reader may meet half of it. Reading again for a
// moment is enough; a file that is still broken then is broken.
constexpr int kReadAttempts = 25;
constexpr std::chrono::milliseconds kReadPause(20);

Result<std::string> Absolute(const std::string& path) {
  std::error_code failure;
  std::string out = std::filesystem::absolute(path, failure).string();
  if (failure) return ErrnoError(failure.value(), "cannot find " + path);
  while (out.size() > 1 && (out.ends_with("/") || out.ends_with("/."))) out.resize(out.size() - 1);
  return out;
}

std::string BlobName(const Digest& digest) {
  const char* algorithm = digest.algorithm() == Digest::Algorithm::kSha256 ? "sha256" : "sha512";
  return std::string("blobs/") + algorithm + "/" + digest.hex();
}

// Manifests of index.json that say nothing of their type, and are read all the same for what they
// refer to.
constexpr size_t kMostUntypedRead = 256;

const std::string kIndexName = "index.json";

std::string Annotation(const Descriptor& descriptor, std::string_view key) {
  const auto found = descriptor.annotations.find(std::string(key));
  return found == descriptor.annotations.end() ? "" : found->second;
}

// The full reference that an entry carries. A plain tag is none.
std::optional<Reference> FullName(const OciLayout::Entry& entry) {
  const std::string& text = entry.image_name.empty() ? entry.ref_name : entry.image_name;
  if (text.empty() || (entry.image_name.empty() && IsValidTag(text))) return std::nullopt;
  auto reference = Reference::Parse(text);
  if (!reference) return std::nullopt;
  return *std::move(reference);
}

using EntryList = std::vector<OciLayout::Entry>;

// Do two entries of one ref name leave open which is meant?
bool AreConfused(const OciLayout::Entry& one, const OciLayout::Entry& other) {
  if (one.descriptor.digest == other.descriptor.digest) return false;
  return one.image_name.empty() || other.image_name.empty() || one.image_name == other.image_name;
}

// The one digest among the entries that `matches`; null where there is none.
template <typename Matches>
Result<const OciLayout::Entry*> FindOne(const EntryList& entries, const std::string& source,
                                        std::string_view tag, const Matches& matches) {
  const OciLayout::Entry* found = nullptr;
  for (const auto& entry : entries) {
    if (!matches(entry)) continue;
    if (found != nullptr && found->descriptor.digest != entry.descriptor.digest)
      return AmbiguousName(source, tag, found->descriptor.digest, entry.descriptor.digest);
    if (found == nullptr) found = &entry;
  }
  return found;
}

std::vector<std::string> Sorted(const std::set<std::string>& tags) {
  return {tags.begin(), tags.end()};
}

}  // namespace

struct OciLayout::Snapshot {
  FileIdentity identity;
  bool settled = false;  // may be trusted for as long as the identity stays
  EntryList entries;
  std::shared_ptr<const LocalImages> images;
};

// One repository of a layout that holds several.
class OciLayoutPart final : public RepositorySource {
 public:
  OciLayoutPart(std::shared_ptr<OciLayout> layout, RepositoryName name)
      : layout_(std::move(layout)), name_(std::move(name)) {}

  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override {
    ASSIGN_OR_RETURN(const OciLayout::SnapshotPtr snapshot, layout_->Current());
    const auto matches = [&](const OciLayout::Entry& entry) {
      const auto full = FullName(entry);
      return full && full->repository == name_ && full->tag_or_latest() == tag;
    };
    ASSIGN_OR_RETURN(const OciLayout::Entry* entry,
                     FindOne(EntriesOf(*snapshot), layout_->origin(), tag, matches));
    if (entry != nullptr) return layout_->FetchEntry(*entry);
    ASSIGN_OR_RETURN(const auto tags, ListTags(deadline));
    return NoSuchTag(layout_->origin() + " (" + name_.ToString() + ")", tag, tags);
  }
  Result<std::vector<std::string>> ListTags(const Deadline& /*deadline*/) override {
    ASSIGN_OR_RETURN(const OciLayout::SnapshotPtr snapshot, layout_->Current());
    std::set<std::string> tags;
    for (const auto& entry : EntriesOf(*snapshot))
      if (const auto full = FullName(entry); full && full->repository == name_)
        tags.insert(full->tag_or_latest());
    return Sorted(tags);
  }
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override {
    return layout_->FetchManifest(digest, deadline);
  }
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override {
    return layout_->FetchSmallBlob(descriptor, limit, deadline);
  }
  Result<std::vector<Descriptor>> FetchReferrers(const Digest& subject,
                                                 const std::string& artifact_type,
                                                 const Deadline& deadline) override {
    return layout_->FetchReferrers(subject, artifact_type, deadline);
  }
  bool MayHold(const Digest& digest) override { return layout_->MayHold(digest); }
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override {
    return layout_->OpenBlob(descriptor);
  }
  std::string origin() const override { return layout_->origin(); }
  std::string pool_key() const override { return layout_->pool_key(); }

 private:
  static const EntryList& EntriesOf(const OciLayout::Snapshot& snapshot) {
    return snapshot.entries;
  }

  const std::shared_ptr<OciLayout> layout_;
  const RepositoryName name_;
};

OciLayout::OciLayout(std::shared_ptr<SourceFiles> files) : files_(std::move(files)) {}
OciLayout::~OciLayout() = default;

Result<std::shared_ptr<OciLayout>> OciLayout::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::string absolute, Absolute(path));
  std::shared_ptr<OciLayout> layout = At(std::move(absolute));
  RETURN_IF_ERROR(layout->Check());
  return layout;
}

std::shared_ptr<OciLayout> OciLayout::At(std::string path) {
  std::string origin = "oci:" + path;
  return Over(std::make_shared<FolderFiles>(std::move(path), std::move(origin)));
}

std::shared_ptr<OciLayout> OciLayout::Over(std::shared_ptr<SourceFiles> files) {
  return std::shared_ptr<OciLayout>(new OciLayout(std::move(files)));
}

Status OciLayout::CheckLayoutFile() {
  const std::string path = files_->NameOf("oci-layout");
  auto content = files_->Read("oci-layout", kMaxLayoutFileBytes);
  if (!content && content.error().code == Code::kNotFound)
    return Error{Code::kNotFound, origin() + " is not an OCI layout: it has no file oci-layout"};
  if (!content) return std::move(content).error();
  ASSIGN_OR_RETURN(const nlohmann::json json,
                   ParseJson(*content, DocumentLimits().json_depth, path));
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(json, {"imageLayoutVersion"}, path));
  ASSIGN_OR_RETURN(const std::string version, object.String("imageLayoutVersion"));
  if (version.starts_with("1.")) return {};
  return Error{Code::kUnsupported,
               path + ": the layout has version " + Quote(version) + "; lamina reads 1.x"};
}

Status OciLayout::Check() {
  files_->Refresh();
  RETURN_IF_ERROR(CheckLayoutFile());
  RETURN_IF_ERROR(Current());
  return {};
}

Result<OciLayout::SnapshotPtr> OciLayout::ReadIndex() const {
  const std::string path = files_->NameOf(kIndexName);
  auto snapshot = std::make_shared<Snapshot>();
  ASSIGN_OR_RETURN(snapshot->identity, files_->Identify(kIndexName));
  // Judged before the reading: a change after this moment gives another identity.
  snapshot->settled = IsSettled(snapshot->identity);
  files_->Refresh();
  const DocumentLimits limits{.manifest_bytes = kMostListBytes,
                              .index_manifests = kMostLocalImages};
  ASSIGN_OR_RETURN(const std::string bytes, files_->Read(kIndexName, limits.manifest_bytes));
  ASSIGN_OR_RETURN(ManifestDocument document, ParseManifestDocument(bytes, "", path, limits));
  auto* index = std::get_if<ImageIndex>(&document);
  if (index == nullptr)
    return Error{Code::kInvalid, path + ": it is an image manifest and not an index"};
  auto images = std::make_shared<LocalImages>();
  for (Descriptor& descriptor : index->manifests) {
    std::string ref_name = Annotation(descriptor, kRefName);
    std::string image_name = Annotation(descriptor, kImageName);
    // The one that says more.
    const std::string& name = image_name.empty() ? ref_name : image_name;
    images->push_back({.names = {}, .descriptor = descriptor});
    if (!name.empty()) images->back().names.push_back(name);
    snapshot->entries.push_back(
        {std::move(ref_name), std::move(descriptor), std::move(image_name)});
  }
  snapshot->images = std::move(images);
  return SnapshotPtr(std::move(snapshot));
}

Result<OciLayout::SnapshotPtr> OciLayout::Current() {
  SnapshotPtr known;
  {
    const MutexLock lock(mutex_);
    known = snapshot_;
  }
  if (known != nullptr && known->settled) {
    ASSIGN_OR_RETURN(const FileIdentity now, files_->Identify(kIndexName));
    if (now == known->identity) return known;
  }
  auto fresh = ReadIndex();
  for (int attempt = 1; !fresh && files_->MayBeTorn() && attempt < kReadAttempts; ++attempt) {
    const Code code = fresh.error().code;
    const bool torn = code == Code::kInvalid || code == Code::kIo;
    const auto identity = files_->Identify(kIndexName);
    if (!torn || !identity || IsSettled(*identity)) break;
    std::this_thread::sleep_for(kReadPause);
    fresh = ReadIndex();
  }
  if (!fresh) return std::move(fresh).error().Within(origin());
  const MutexLock lock(mutex_);
  snapshot_ = *fresh;
  return *std::move(fresh);
}

Result<std::shared_ptr<const LocalImages>> OciLayout::Images() {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  return snapshot->images;
}

Result<std::vector<OciLayout::Entry>> OciLayout::Entries() {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  std::multimap<std::string_view, const Entry*> seen;
  for (const Entry& entry : snapshot->entries) {
    if (entry.ref_name.empty()) continue;
    const auto [begin, end] = seen.equal_range(entry.ref_name);
    for (auto other = begin; other != end; ++other)
      if (AreConfused(entry, *other->second))
        return AmbiguousName(origin(), entry.ref_name, other->second->descriptor.digest,
                             entry.descriptor.digest);
    seen.emplace(entry.ref_name, &entry);
  }
  return snapshot->entries;
}

std::shared_ptr<RepositorySource> OciLayout::Repository(const RepositoryName& name) {
  return std::make_shared<OciLayoutPart>(shared_from_this(), name);
}

Result<Document> OciLayout::FetchTag(const std::string& tag, const Deadline& deadline) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  ASSIGN_OR_RETURN(const Entry* entry,
                   FindOne(snapshot->entries, origin(), tag, [&](const Entry& candidate) {
                     return !tag.empty() && candidate.ref_name == tag;
                   }));
  if (entry == nullptr) {
    ASSIGN_OR_RETURN(entry, FindOne(snapshot->entries, origin(), tag, [&](const Entry& candidate) {
                       return !tag.empty() && TagOfRefName(candidate.ref_name) == tag;
                     }));
  }
  if (entry != nullptr) return FetchEntry(*entry);
  ASSIGN_OR_RETURN(const auto tags, ListTags(deadline));
  return NoSuchTag(origin(), tag, tags);
}

Error OciLayout::BlobError(const Digest& digest, Error error) const {
  if (error.code != Code::kNotFound) return error;
  if (!files_->Has(kIndexName))
    return Error{Code::kUnavailable,
                 origin() + " is away: there is no " + files_->NameOf(kIndexName)};
  return Error{Code::kNotFound, origin() + " lacks the blob " + digest.ToString() +
                                    " (there is no file " + files_->NameOf(BlobName(digest)) + ")"};
}

Result<std::string> OciLayout::ReadBlob(const Digest& digest, std::optional<uint64_t> size,
                                        uint64_t limit) const {
  const std::string name = BlobName(digest);
  auto bytes = files_->Read(name, limit);
  if (!bytes) return BlobError(digest, std::move(bytes).error());
  RETURN_IF_ERROR(CheckDocument(*bytes, digest, size, files_->NameOf(name)));
  return bytes;
}

Result<Document> OciLayout::FetchEntry(const Entry& entry) const {
  const Descriptor& descriptor = entry.descriptor;
  ASSIGN_OR_RETURN(std::string bytes,
                   ReadBlob(descriptor.digest, descriptor.size, DocumentLimits().manifest_bytes));
  return Document{descriptor.digest, descriptor.media_type, std::move(bytes)};
}

Result<Document> OciLayout::FetchManifest(const Digest& digest, const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(std::string bytes,
                   ReadBlob(digest, std::nullopt, DocumentLimits().manifest_bytes));
  // The media type is known where index.json names the manifest, and stands in its bytes otherwise.
  std::string media_type;
  if (const auto snapshot = Current())
    for (const Entry& entry : (*snapshot)->entries)
      if (entry.descriptor.digest == digest) media_type = entry.descriptor.media_type;
  return Document{digest, std::move(media_type), std::move(bytes)};
}

bool OciLayout::Refers(const Entry& entry, const Digest& subject,
                       const std::string& artifact_type) const {
  if (!IsManifestMediaType(entry.descriptor.media_type)) return false;
  const auto document = FetchEntry(entry);
  if (!document) return false;
  const auto parsed = ParseManifestDocument(document->bytes, "", origin());
  const auto* manifest = parsed ? std::get_if<ImageManifest>(&*parsed) : nullptr;
  return manifest != nullptr && manifest->subject.has_value() &&
         manifest->subject->digest == subject && ArtifactType(*manifest) == artifact_type;
}

Result<std::vector<Descriptor>> OciLayout::FetchReferrers(const Digest& subject,
                                                          const std::string& artifact_type,
                                                          const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  std::vector<Descriptor> found;
  size_t untyped = 0;
  for (const Entry& entry : snapshot->entries) {
    const std::string& type = entry.descriptor.artifact_type;
    // Few tools repeat the type in index.json, so that the manifests have to be read.
    const bool possible = type.empty() ? ++untyped <= kMostUntypedRead : type == artifact_type;
    if (!possible || !Refers(entry, subject, artifact_type)) continue;
    found.push_back(entry.descriptor);
    found.back().artifact_type = artifact_type;
  }
  const std::string tag = ReferrersTag(subject);
  for (const Entry& entry : snapshot->entries) {
    if (entry.ref_name != tag && TagOfRefName(entry.ref_name) != tag) continue;
    ASSIGN_OR_RETURN(const Document document, FetchEntry(entry));
    ASSIGN_OR_RETURN(const auto listed, ReferrersOfDocument(document, artifact_type, origin()));
    for (const Descriptor& referrer : listed) {
      const auto same = [&](const Descriptor& other) { return other.digest == referrer.digest; };
      if (std::ranges::none_of(found, same)) found.push_back(referrer);
    }
  }
  return found;
}

Result<std::string> OciLayout::FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                              const Deadline& /*deadline*/) {
  if (descriptor.size > limit)
    return Error{Code::kLimit, files_->NameOf(BlobName(descriptor.digest)) + " has " +
                                   std::to_string(descriptor.size) +
                                   " bytes by its descriptor, more than the limit of " +
                                   std::to_string(limit)};
  return ReadBlob(descriptor.digest, descriptor.size, limit);
}

bool OciLayout::MayHold(const Digest& digest) { return files_->Has(BlobName(digest)); }

Result<std::shared_ptr<BlobSource>> OciLayout::OpenBlob(const Descriptor& descriptor) {
  auto blob = files_->Open(BlobName(descriptor.digest), descriptor.size);
  if (!blob) return BlobError(descriptor.digest, std::move(blob).error());
  return blob;
}

Result<std::vector<std::string>> OciLayout::ListTags(const Deadline& /*deadline*/) {
  ASSIGN_OR_RETURN(const SnapshotPtr snapshot, Current());
  std::set<std::string> tags;
  for (const Entry& entry : snapshot->entries)
    if (std::string tag = TagOfRefName(entry.ref_name); !tag.empty()) tags.insert(std::move(tag));
  return Sorted(tags);
}

}  // namespace lamina
