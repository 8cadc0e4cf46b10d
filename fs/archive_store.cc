#include "fs/archive_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "fetch/file_range_blob.h"
#include "fetch/repository_source.h"
#include "index/compression.h"
#include "index/tar_directory.h"

namespace lamina {
namespace {

constexpr std::chrono::minutes kReadBound(1);
// All magic numbers are within it.
constexpr uint64_t kHeadBytes = 2048;
// A member of a compressed archive is streamed in pieces of this size, each with a time of its own.
constexpr uint64_t kPiece = 1u << 20;
constexpr std::chrono::seconds kPieceBound(60);
constexpr size_t kMostKept = 16;

// The name of the index of a compressed archive: a digest of what stat(2) says of the file. The
// time of change is left out, since a new name or mode makes no new content, and the number of the
// device, which may be another one after a restart.
Digest NameOfPacked(const std::string& path, const FileIdentity& identity) {
  const std::string text = fmt::format("archive {} {} {} {}\n", identity.inode, identity.size,
                                       identity.modified_ns, path);
  return Digest::Sha256(AsBytes(text));
}

class PlainArchive : public Archive {
 public:
  PlainArchive(std::string path, const FileIdentity& identity, std::vector<ArchiveMember> members)
      : path_(std::move(path)), identity_(identity), members_(std::move(members)) {}

  const std::vector<ArchiveMember>& members() const override { return members_; }
  Result<std::shared_ptr<BlobSource>> Open(const ArchiveMember& member) const override {
    return FileRangeBlob::Open(path_, identity_, {.offset = member.offset, .size = member.size},
                               "archive:" + path_);
  }

 private:
  const std::string path_;
  const FileIdentity identity_;
  const std::vector<ArchiveMember> members_;
};

// The archive file as the one blob of a source: a layer under a name of its own.
class ArchiveFile : public RepositorySource {
 public:
  ArchiveFile(std::string path, const FileIdentity& identity, const Digest& name)
      : path_(std::move(path)), identity_(identity), name_(name) {}

  Result<Document> FetchTag(const std::string&, const Deadline&) override { return NoImages(); }
  Result<Document> FetchManifest(const Digest&, const Deadline&) override { return NoImages(); }
  Result<std::string> FetchSmallBlob(const Descriptor&, uint64_t, const Deadline&) override {
    return NoImages();
  }
  Result<std::vector<std::string>> ListTags(const Deadline&) override { return NoImages(); }
  bool MayHold(const Digest& digest) override { return digest == name_; }
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override {
    if (descriptor.digest != name_) return NoImages();
    return FileRangeBlob::Open(
        path_, identity_, {.offset = 0, .size = identity_.size, .digest_is_name = true}, origin());
  }
  std::string origin() const override { return "archive:" + path_; }
  std::string pool_key() const override { return "local"; }

 private:
  Error NoImages() const {
    return Error{Code::kUnsupported, origin() + " is one file and has no images of its own"};
  }

  const std::string path_;
  const FileIdentity identity_;
  const Digest name_;
};

// A stretch of the flat address space of the layer that the archive is.
class PackedMember : public BlobSource {
 public:
  PackedMember(std::shared_ptr<Layer> layer, const ArchiveMember& member, std::string origin,
               const std::atomic<bool>& cancelled)
      : layer_(std::move(layer)),
        flat_offset_(member.offset),
        size_(member.size),
        origin_(std::move(origin)),
        cancelled_(cancelled) {}

  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override {
    if (offset > size_ || out.size() > size_ - offset)
      return Error{Code::kInternal, "a read leaves a member of " + origin_};
    return layer_->cache().Read(flat_offset_ + offset, out, deadline);
  }
  Status Stream(uint64_t offset, const ByteSink& sink) override {
    std::vector<uint8_t> buffer(std::min(kPiece, size_));
    while (offset < size_) {
      const MutableByteSpan piece(buffer.data(), std::min<uint64_t>(buffer.size(), size_ - offset));
      RETURN_IF_ERROR(ReadPiece(offset, piece));
      RETURN_IF_ERROR(sink(piece));
      offset += piece.size();
    }
    return {};
  }
  std::string origin() const override { return origin_; }

 private:
  // What lies deep in a zstd frame may take longer than one bound; each try goes on where the last
  // one ended.
  Status ReadPiece(uint64_t offset, MutableByteSpan out) {
    const uint64_t tries = 3 + layer_->index().facts().blob_size / kPiece;
    for (uint64_t tried = 1;; ++tried) {
      if (cancelled_) return Error{Code::kCancelled, "lamina is stopping"};
      Status read = ReadAt(offset, out, Deadline::After(kPieceBound));
      if (read.has_value() || read.error().code != Code::kTimeout || tried == tries) return read;
    }
  }

  const std::shared_ptr<Layer> layer_;
  const uint64_t flat_offset_;
  const uint64_t size_;
  const std::string origin_;
  const std::atomic<bool>& cancelled_;
};

class PackedArchive : public Archive {
 public:
  PackedArchive(ArchiveStore& store, LayerRequest request, std::vector<ArchiveMember> members,
                std::string origin)
      : store_(store),
        request_(std::move(request)),
        members_(std::move(members)),
        origin_(std::move(origin)) {}

  const std::vector<ArchiveMember>& members() const override { return members_; }
  Result<std::shared_ptr<BlobSource>> Open(const ArchiveMember& member) const override {
    ASSIGN_OR_RETURN(std::shared_ptr<Layer> layer, store_.OpenLayer(request_));
    return std::shared_ptr<BlobSource>(
        std::make_shared<PackedMember>(std::move(layer), member, origin_, store_.cancelled()));
  }

 private:
  ArchiveStore& store_;
  const LayerRequest request_;
  const std::vector<ArchiveMember> members_;
  const std::string origin_;
};

std::optional<ArchiveMember> MemberOf(const LayerInode& inode, std::string path) {
  ArchiveMember member{.kind = ArchiveMember::Kind::kFile,
                       .sparse = inode.sparse,
                       .path = std::move(path),
                       .target = std::string(inode.symlink_target),
                       .offset = inode.flat_offset,
                       .size = inode.size};
  if (inode.type == EntryType::kRegular) return member;
  if (inode.type != EntryType::kSymlink) return std::nullopt;
  member.kind = ArchiveMember::Kind::kSymlink;
  return member;
}

// The members of an archive that is indexed as a layer, whose hard links are resolved already.
Result<std::vector<ArchiveMember>> MembersOf(const LayerIndex& index) {
  const auto count = static_cast<uint32_t>(index.facts().entry_count);
  // The children of a folder have larger numbers than itself.
  std::vector<std::string> folder_of(count);
  std::vector<ArchiveMember> members;
  for (uint32_t number = 0; number < count; ++number) {
    ASSIGN_OR_RETURN(const LayerEntry entry, index.Entry(number));
    std::string path = folder_of[number] + std::string(entry.name);
    folder_of[number] = {};
    for (uint32_t child = 0; child < entry.child_count; ++child)
      if (entry.first_child + child < count)
        folder_of[entry.first_child + child] = number == 0 ? "" : path + "/";
    if (number == 0 || entry.kind != LayerEntry::Kind::kInode) continue;
    ASSIGN_OR_RETURN(const LayerInode inode, index.Inode(entry.inode));
    if (auto member = MemberOf(inode, std::move(path))) members.push_back(*std::move(member));
  }
  RETURN_IF_ERROR(index.Intact());
  return members;
}

}  // namespace

Result<Digest> ArchiveStore::LayerNameOf(const std::string& path) {
  ASSIGN_OR_RETURN(const FileIdentity identity, IdentifyFile(path));
  return NameOfPacked(path, identity);
}

Result<std::shared_ptr<const Archive>> ArchiveStore::Open(const std::string& path,
                                                          const FileIdentity& identity) {
  ASSIGN_OR_RETURN(
      const auto file,
      FileRangeBlob::Open(path, identity, {.offset = 0, .size = identity.size}, "archive:" + path));
  std::vector<uint8_t> head(std::min(kHeadBytes, file->size()));
  RETURN_IF_ERROR(file->ReadAt(0, head, Deadline::After(kReadBound)));
  Compression compression = Compression::kNone;
  if (!head.empty()) {
    ASSIGN_OR_RETURN(compression, SniffCompression(head));
  }
  if (compression != Compression::kNone) return OpenPacked(path, identity);
  ASSIGN_OR_RETURN(std::vector<ArchiveMember> members, ReadTarDirectory(*file));
  return std::shared_ptr<const Archive>(
      std::make_shared<PlainArchive>(path, identity, std::move(members)));
}

Result<std::shared_ptr<Layer>> ArchiveStore::OpenLayer(const LayerRequest& request) {
  ASSIGN_OR_RETURN(std::shared_ptr<Layer> layer, layers_.Get(request));
  std::shared_ptr<Layer> let_go;  // closed without the lock
  MutexLock lock(mutex_);
  std::erase(kept_, layer);
  kept_.push_back(layer);
  if (kept_.size() > kMostKept) {
    let_go = std::move(kept_.front());
    kept_.pop_front();
  }
  return layer;
}

std::shared_ptr<LayerProgress> ArchiveStore::NewProgress() {
  auto progress = std::make_shared<LayerProgress>();
  MutexLock lock(mutex_);
  std::erase_if(streaming_, [](const auto& known) { return known.expired(); });
  streaming_.push_back(progress);
  return progress;
}

std::pair<uint64_t, uint64_t> ArchiveStore::Streamed() const {
  uint64_t done = 0;
  uint64_t all = 0;
  MutexLock lock(mutex_);
  for (const auto& known : streaming_) {
    const auto progress = known.lock();
    if (!progress || progress->finished) continue;
    done += progress->done_bytes;
    all += progress->total_bytes;
  }
  return {done, all};
}

Result<std::shared_ptr<const Archive>> ArchiveStore::OpenPacked(const std::string& path,
                                                                const FileIdentity& identity) {
  const Digest name = NameOfPacked(path, identity);
  const LayerRequest request{.descriptor = {"", name, identity.size, {}, {}, ""},
                             .diff_id = std::nullopt,
                             .name = "the archive " + path,
                             .sources = {std::make_shared<ArchiveFile>(path, identity, name)},
                             .progress = NewProgress()};
  ASSIGN_OR_RETURN(const std::shared_ptr<Layer> layer, OpenLayer(request));
  ASSIGN_OR_RETURN(std::vector<ArchiveMember> members, MembersOf(layer->index()));
  return std::shared_ptr<const Archive>(
      std::make_shared<PackedArchive>(*this, request, std::move(members), "archive:" + path));
}

}  // namespace lamina
