#include "fetch/cache_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/errno.h"
#include "base/file.h"
#include "base/log.h"
#include "fetch/chunk_walk.h"
#include "fetch/disk_room.h"
#include "fetch/sparse_file.h"

namespace lamina {

namespace {

// Reading brings in what is asked for and no neighbours, which nobody would have checked.
void ReadNoNeighbours(int fd) { ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); }

// Bytes in the file of a chunk of so many.
uint64_t StoredLength(const ChunkForm& form, uint64_t flat_length) {
  return form.compression == CacheCompression::kNone ? flat_length
                                                     : std::min<uint64_t>(form.length, flat_length);
}

}  // namespace

CacheFiles::CacheFiles(CachePaths paths, ChunkShape shape, UniqueFd data,
                       std::unique_ptr<ChunkMap> map, bool writable)
    : paths_(std::move(paths)),
      shape_(shape),
      data_(std::move(data)),
      map_(std::move(map)),
      pages_(data_.get(), shape_.flat_size),
      writable_(writable) {
  ReadNoNeighbours(data_.get());
}

Status CacheFiles::Remove(const CachePaths& paths) {
  RETURN_IF_ERROR(RemoveOwnFile(paths.map));
  return RemoveOwnFile(paths.data);
}

// On a disk that cannot be written, what is there still serves.
Result<std::unique_ptr<CacheFiles>> CacheFiles::OpenExisting(const CachePaths& paths,
                                                             const ChunkShape& shape) {
  auto existing = OpenFor(O_RDWR, paths, shape);
  if (existing) return existing;
  if (const Code code = existing.error().code; code != Code::kIo && code != Code::kNoSpace)
    return existing;
  auto readable = OpenFor(O_RDONLY, paths, shape);
  return readable || readable.error().code == Code::kCorrupt ? std::move(readable)
                                                             : std::move(existing);
}

Result<std::unique_ptr<CacheFiles>> CacheFiles::OpenFor(int access, const CachePaths& paths,
                                                        const ChunkShape& shape) {
  ASSIGN_OR_RETURN(UniqueFd data, OpenOwnFile(paths.data, access));
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(data.get(), paths.data));
  if (size != shape.flat_size)
    return Error{Code::kCorrupt, paths.data + " has " + std::to_string(size) +
                                     " bytes, its layer has " + std::to_string(shape.flat_size)};
  ASSIGN_OR_RETURN(auto map, ChunkMap::Load(paths.map, shape, access));
  return std::unique_ptr<CacheFiles>(
      new CacheFiles(paths, shape, std::move(data), std::move(map), access == O_RDWR));
}

Status CacheFiles::MakeWritable() {
  RETURN_IF_ERROR(ReopenForWriting(data_.get(), paths_.data));
  ReadNoNeighbours(data_.get());
  RETURN_IF_ERROR(map_->MakeWritable());
  writable_ = true;
  return {};
}

Status CacheFiles::Check(const CachePaths& paths, const ChunkShape& shape) {
  const auto existing = OpenExisting(paths, shape);
  return existing ? Status() : Status(existing.error());
}

Result<std::unique_ptr<CacheFiles>> CacheFiles::Make(const CachePaths& paths,
                                                     const ChunkShape& shape) {
  RETURN_IF_ERROR(MakeFolders(paths.folder));
  ASSIGN_OR_RETURN(UniqueFd data, OpenFile(paths.data, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW));
  if (::ftruncate(data.get(), static_cast<off_t>(shape.flat_size)) != 0)
    return ErrnoError(errno, "cannot size " + paths.data);
  ASSIGN_OR_RETURN(auto map, ChunkMap::Make(paths.map, shape, KeptChunks(shape.chunk_count)));
  return std::unique_ptr<CacheFiles>(
      new CacheFiles(paths, shape, std::move(data), std::move(map), /*writable=*/true));
}

Result<std::unique_ptr<CacheFiles>> CacheFiles::Open(const CachePaths& paths,
                                                     const ChunkShape& shape, bool may_make) {
  auto existing = OpenExisting(paths, shape);
  if (existing) return existing;
  // A lack of descriptors, or a disk that fails now, says nothing of what is in the files.
  const Code code = existing.error().code;
  if (code == Code::kIo || code == Code::kNoSpace || code == Code::kUnavailable) return existing;
  if (code != Code::kNotFound)
    LogInfo("cache files dropped, to be fetched again: " + existing.error().message);
  RETURN_IF_ERROR(Remove(paths));
  if (!may_make) return existing;
  auto made = Make(paths, shape);
  if (!made) (void)Remove(paths).has_value();  // why there are none says more
  return made;
}

Status CacheFiles::Load(uint64_t flat_offset, MutableByteSpan out) const {
  return PreadExactly(data_.get(), out, flat_offset, paths_.data);
}

bool CacheFiles::ChunkIsInMemory(uint64_t chunk, const ChunkExtent& extent) const {
  const auto form = map_->Form(chunk);
  return form && InMemory(extent.flat_offset, StoredLength(*form, extent.flat_length));
}

bool CacheFiles::IsCompressed(uint64_t chunk) const {
  const auto form = map_->Form(chunk);
  return form && form->compression != CacheCompression::kNone;
}

Status CacheFiles::LoadForm(const ChunkForm& form, uint64_t flat_offset,
                            MutableByteSpan out) const {
  if (form.compression == CacheCompression::kNone) return Load(flat_offset, out);
  if (form.length > out.size())
    return Error{Code::kCorrupt, "its record in " + paths_.map + " leads beyond its place"};
  std::vector<uint8_t> stored(form.length);
  RETURN_IF_ERROR(Load(flat_offset, stored));
  return DecodeChunkForm(form.compression, stored, out);
}

Status CacheFiles::LoadChecked(uint64_t chunk, uint64_t flat_offset, MutableByteSpan out) const {
  const auto form = map_->Form(chunk);
  if (!form) return Error{Code::kNotFound, "it is not there any more"};
  RETURN_IF_ERROR(LoadForm(*form, flat_offset, out));
  ASSIGN_OR_RETURN(const uint32_t checksum, map_->Checksum(chunk));
  if (Crc32c(out) != checksum)
    return Error{Code::kCorrupt, "its checksum in " + paths_.map + " does not fit"};
  pages_.NoteRead(flat_offset, StoredLength(*form, out.size()));
  return {};
}

Status CacheFiles::Keep(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes,
                        CacheCompression compression) {
  RETURN_IF_ERROR(CheckWritable());
  RETURN_IF_ERROR(CheckDiskRoom(data_.get(), bytes.size(), paths_.data));
  ASSIGN_OR_RETURN(const EncodedChunk encoded, EncodeChunk(compression, bytes));
  const ByteSpan place = encoded.padded.empty() ? bytes : ByteSpan(encoded.padded);
  const bool stale = MayHoldData(data_.get(), extent.flat_offset, extent.flat_length);
  Status kept = stale ? WriteOver(data_.get(), place, extent.flat_offset, paths_.data)
                      : WriteIntoHole(data_.get(), place, extent.flat_offset, paths_.data);
  if (kept) kept = map_->SetPresent(chunk, {Crc32c(bytes), encoded.form});
  if (!kept && !stale)  // half a chunk on a full disk helps nobody; what stays is overwritten later
    (void)PunchHole(data_.get(), extent.flat_offset, extent.flat_length, paths_.data).has_value();
  return kept;
}

bool CacheFiles::SizeIsRight() const {
  const auto size = FileSize(data_.get(), paths_.data);
  return size && *size == shape_.flat_size;
}

Status CacheFiles::CheckWritable() const {
  if (writable()) return {};
  return Error{Code::kIo, paths_.data + " is open for reading only"};
}

Status CacheFiles::RestoreSize() {
  if (!writable()) return {};
  if (::ftruncate(data_.get(), static_cast<off_t>(shape_.flat_size)) != 0)
    return ErrnoError(errno, "cannot size " + paths_.data);
  return {};
}

Status CacheFiles::Evict(uint64_t chunk, const ChunkExtent& extent) {
  RETURN_IF_ERROR(CheckWritable());
  return map_->SetAbsentAndFree(chunk, [&] {
    return PunchHole(data_.get(), extent.flat_offset, extent.flat_length, paths_.data);
  });
}

void CacheFiles::FreeBlocks(const ChunkExtent& extent) {
  if (!writable()) return;
  (void)PunchHole(data_.get(), extent.flat_offset, extent.flat_length, paths_.data).has_value();
}

void CacheFiles::FreeUnnamed(const ChunkOwner& owner) {
  if (!writable()) return;
  for (uint64_t at = 0; at < shape_.flat_size;) {
    const off_t data = ::lseek(data_.get(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0) return;  // no data behind it
    const uint64_t chunk = LastChunkFrom(owner, static_cast<uint64_t>(data));
    const ChunkExtent extent = owner.Extent(chunk);
    const uint64_t end = extent.flat_offset + extent.flat_length;
    if (end <= at) return;  // a table that cannot be
    if (!Present(chunk)) FreeBlocks(extent);
    at = end;
  }
}

void CacheFiles::DropPages(const ChunkExtent& extent) const {
  ::posix_fadvise(data_.get(), static_cast<off_t>(extent.flat_offset),
                  static_cast<off_t>(extent.flat_length), POSIX_FADV_DONTNEED);
}

bool CacheFiles::HaveNames() const {
  struct stat st {};
  return ::fstat(data_.get(), &st) == 0 && st.st_nlink > 0;
}

uint64_t CacheFiles::Inode() const {
  struct stat st {};
  return ::fstat(data_.get(), &st) == 0 ? st.st_ino : 0;
}

uint64_t CacheFiles::DiskBytes() const { return BlockBytes(data_.get()) + map_->DiskBytes(); }

}  // namespace lamina
