// CacheWriter: the file has no name in the folder until Commit() where the file system allows that,
// so that even kill -9 leaves nothing behind.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "fetch/cache_files.h"
#include "fetch/chunk_cache.h"
#include "fetch/chunk_map.h"
#include "fetch/disk_room.h"
#include "fetch/sparse_file.h"

namespace lamina {
namespace {

// So much is written at most between two looks at the room on the disk.
constexpr uint64_t kLookEvery = 4u << 20;
// Given back where the disk does not tell its size.
constexpr uint64_t kUsualReserve = 64u << 20;

struct NewFile {
  UniqueFd fd;
  std::string temporary;  // empty: the file has no name
};

Result<NewFile> MakeNewFile(const CachePaths& paths) {
  RETURN_IF_ERROR(MakeFolders(paths.folder));
  if (auto unnamed = OpenFile(paths.folder, O_RDWR | O_TMPFILE))
    return NewFile{std::move(unnamed).value(), {}};
  static std::atomic<uint64_t> serial{0};
  std::string name = fmt::format("{}.tmp.{}.{}", paths.data, ::getpid(), serial.fetch_add(1));
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW));
  return NewFile{std::move(fd), std::move(name)};
}

// Often enough not to run through the reserve of a small disk between two looks: another layer's
// index may be written meanwhile.
uint64_t LookEvery(const NewFile& file) {
  const std::optional<DiskRoom> room = MeasureDisk(file.fd.get());
  return room ? std::min(kLookEvery, room->Reserve() / 4) : kLookEvery;
}

// Gives the file its name, which is free.
Status NameFile(NewFile& file, const std::string& path) {
  if (file.temporary.empty()) {
    const std::string self = "/proc/self/fd/" + std::to_string(file.fd.get());
    if (::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return ErrnoError(errno, "cannot name " + path);
    return {};
  }
  if (::rename(file.temporary.c_str(), path.c_str()) != 0)
    return ErrnoError(errno, "cannot rename to " + path);
  file.temporary.clear();
  return {};
}

}  // namespace

struct CacheWriter::Impl {
  const CachePaths paths;
  NewFile file;
  uint64_t end = 0;    // flat offset up to which everything is in the file; gaps are zeros
  bool ended = false;  // the disk was full: nothing more is kept

  std::unique_ptr<CacheBudget::Account> account = nullptr;  // absent: no limit
  const uint64_t most = CacheBudget::kUnlimited;            // bytes to keep
  const CacheCompression compression = CacheCompression::kNone;
  const uint64_t look_every = LookEvery(file);
  uint64_t unlooked = 0;  // bytes written since the last look at the disk

  Status Append(uint64_t flat_offset, ByteSpan bytes);
  Status AppendWithinBudget(uint64_t flat_offset, ByteSpan bytes);
  void StopKeeping(const Error& error);
  void FreeReserve();
  uint64_t WantedRoom() const;
  uint64_t DiskBytes() const;
  // `kept_end` becomes the end of the last chunk that is there.
  KeptChunks ChunksThere(const ChunkOwner& owner, uint64_t* kept_end) const;
  Status SizeFile(uint64_t kept_end, uint64_t flat_size) const;
  void Compress(const ChunkOwner& owner, KeptChunks& kept) const;
  Result<ChunkForm> CompressChunk(const ChunkExtent& extent) const;
};

Status CacheWriter::Impl::Append(uint64_t flat_offset, ByteSpan bytes) {
  if (flat_offset < end) return Error{Code::kInternal, "bytes came out of order"};
  end = flat_offset;
  RETURN_IF_ERROR(AppendWithinBudget(flat_offset, bytes));
  end += bytes.size();
  unlooked += bytes.size();
  if (unlooked < look_every) return {};
  unlooked = 0;
  return CheckDiskRoom(file.fd.get(), 0, paths.data);
}

Status CacheWriter::Impl::AppendWithinBudget(uint64_t flat_offset, ByteSpan bytes) {
  if (!account) return WriteIntoHole(file.fd.get(), bytes, flat_offset, paths.data);
  if (DiskBytes() + bytes.size() > most)
    return Error{Code::kLimit,
                 fmt::format("it has half of the cache's limit, {}", HumanSize(most))};
  ASSIGN_OR_RETURN(auto room, account->Reserve(bytes.size()));
  Status written = WriteIntoHole(file.fd.get(), bytes, flat_offset, paths.data);
  room.Settle([this] { return DiskBytes(); });
  return written;
}

void CacheWriter::Impl::StopKeeping(const Error& error) {
  ended = true;
  LogWarning("the rest of the layer is not kept while it is indexed: " + error.message);
}

// Frees what the disk's reserve lacks, at once: the index of this layer is written before Commit().
// Half a write that failed goes too.
void CacheWriter::Impl::FreeReserve() {
  const uint64_t wanted = WantedRoom();
  uint64_t step = wanted;
  uint64_t freed = 0;
  do {
    const uint64_t before = DiskBytes();
    end -= std::min(end, step);
    if (::ftruncate(file.fd.get(), static_cast<off_t>(end)) != 0)
      LogWarning(ErrnoError(errno, "cannot cut " + paths.data).message);
    const uint64_t after = DiskBytes();
    if (after >= before) step *= 2;  // a hole, which may be as long as the file
    freed += before - std::min(before, after);
  } while (end > 0 && freed < wanted);
  if (account) account->Settle([this] { return DiskBytes(); });
}

// Never 0: a disk that is full although its reserve seems to be free has a quota.
uint64_t CacheWriter::Impl::WantedRoom() const {
  const std::optional<DiskRoom> room = MeasureDisk(file.fd.get());
  if (!room) return kUsualReserve;
  return std::max(room->Missing() > 0 ? room->Missing() : room->Reserve(), kHoleBlock);
}

uint64_t CacheWriter::Impl::DiskBytes() const { return BlockBytes(file.fd.get()); }

KeptChunks CacheWriter::Impl::ChunksThere(const ChunkOwner& owner, uint64_t* kept_end) const {
  const uint64_t whole_until = ended ? end : owner.flat_size();
  KeptChunks kept(owner.chunk_count());
  for (uint64_t chunk = 0; chunk < kept.size(); ++chunk) {
    const ChunkExtent extent = owner.Extent(chunk);
    const uint64_t chunk_end = extent.flat_offset + extent.flat_length;
    if (extent.zero || chunk_end > whole_until || chunk_end < extent.flat_offset) continue;
    const auto checksum = owner.Checksum(chunk);
    if (!checksum) continue;
    kept[chunk] = KeptChunk{.checksum = *checksum};
    *kept_end = std::max(*kept_end, chunk_end);
  }
  return kept;
}

// Frees what stands behind the last whole chunk, then gives the file its full length.
Status CacheWriter::Impl::SizeFile(uint64_t kept_end, uint64_t flat_size) const {
  const auto size = [this](uint64_t bytes) {
    return ::ftruncate(file.fd.get(), static_cast<off_t>(bytes)) == 0
               ? Status()
               : Status(ErrnoError(errno, "cannot size " + paths.data));
  };
  if (ended) RETURN_IF_ERROR(size(kept_end));
  return size(flat_size);
}

// The bytes have just been written, so they come from memory. A chunk that fails on the way may be
// half of each form: it is not kept, and the others stay as they are.
void CacheWriter::Impl::Compress(const ChunkOwner& owner, KeptChunks& kept) const {
  if (compression == CacheCompression::kNone) return;
  for (uint64_t chunk = 0; chunk < kept.size(); ++chunk) {
    if (!kept[chunk]) continue;
    const auto form = CompressChunk(owner.Extent(chunk));
    if (!form) {
      LogWarning("the rest of the layer is not compressed: " + form.error().message);
      kept[chunk].reset();
      return;
    }
    kept[chunk]->form = *form;
  }
}

Result<ChunkForm> CacheWriter::Impl::CompressChunk(const ChunkExtent& extent) const {
  std::vector<uint8_t> bytes(extent.flat_length);
  RETURN_IF_ERROR(PreadExactly(file.fd.get(), bytes, extent.flat_offset, paths.data));
  ASSIGN_OR_RETURN(const EncodedChunk encoded, EncodeChunk(compression, bytes));
  if (!encoded.padded.empty())
    RETURN_IF_ERROR(WriteOver(file.fd.get(), encoded.padded, extent.flat_offset, paths.data));
  return encoded.form;
}

CacheWriter::CacheWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

CacheWriter::~CacheWriter() {
  if (!impl_->file.temporary.empty()) ::unlink(impl_->file.temporary.c_str());
}

Result<std::unique_ptr<CacheWriter>> CacheWriter::Create(const std::string& folder,
                                                         const Digest& layer,
                                                         std::shared_ptr<CacheBudget> budget,
                                                         CacheCompression compression) {
  CachePaths paths(folder, layer);
  ASSIGN_OR_RETURN(NewFile file, MakeNewFile(paths));
  const uint64_t most = budget != nullptr ? budget->limit() / 2 : CacheBudget::kUnlimited;
  std::unique_ptr<CacheBudget::Account> account;
  if (budget != nullptr) {
    account = std::make_unique<CacheBudget::Account>(std::move(budget), layer);
    struct stat st {};
    if (::fstat(file.fd.get(), &st) == 0) account->SetFile(st.st_ino);
  }
  return std::unique_ptr<CacheWriter>(
      new CacheWriter(std::make_unique<Impl>(Impl{.paths = std::move(paths),
                                                  .file = std::move(file),
                                                  .account = std::move(account),
                                                  .most = most,
                                                  .compression = compression})));
}

void CacheWriter::Write(uint64_t flat_offset, ByteSpan bytes) {
  if (impl_->ended) return;
  const Status written = impl_->Append(flat_offset, bytes);
  if (written) return;
  impl_->StopKeeping(written.error());
  // At the cache's own limit the disk itself has room.
  if (written.error().code != Code::kLimit) impl_->FreeReserve();
}

bool CacheWriter::GiveBack() {
  if (impl_->end == 0) return false;
  if (!impl_->ended) impl_->StopKeeping({Code::kNoSpace, "others need the disk"});
  impl_->FreeReserve();
  return true;
}

Status CacheWriter::Commit(const ChunkOwner& owner) {
  if (impl_->end > owner.flat_size())
    return Error{Code::kInternal, fmt::format("{} bytes were written to {}, its layer has {}",
                                              impl_->end, impl_->paths.data, owner.flat_size())};
  uint64_t kept_end = 0;
  KeptChunks kept = impl_->ChunksThere(owner, &kept_end);
  RETURN_IF_ERROR(impl_->SizeFile(kept_end, owner.flat_size()));
  impl_->Compress(owner, kept);
  RETURN_IF_ERROR(CacheFiles::Remove(impl_->paths));
  RETURN_IF_ERROR(NameFile(impl_->file, impl_->paths.data));
  auto map = ChunkMap::Make(impl_->paths.map, {owner.chunk_count(), owner.flat_size()}, kept);
  if (!map) {
    (void)CacheFiles::Remove(impl_->paths).has_value();  // why there is none says more
    return std::move(map).error();
  }
  if (impl_->account) {
    impl_->account->Settle([&] { return impl_->DiskBytes() + (*map)->DiskBytes(); });
    impl_->account->Keep();
  }
  return {};
}

}  // namespace lamina
