#pragma once

// CacheFiles: the two files of one layer in the cache folder, `<digest>.data` (sparse, in the
// layout of the flat address space) and `<digest>.map`. Files that do not fit the layer or each
// other are dropped together; a missing one means a missing pair. A pair that the disk gives for
// reading only serves what is there and stays as it is. Any thread, as long as one chunk is kept or
// dropped by one thread at a time.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "fetch/chunk_cache.h"
#include "fetch/chunk_map.h"
#include "fetch/resident_pages.h"

namespace lamina {

struct CachePaths {
  CachePaths(const std::string& cache_folder, const Digest& layer)
      : folder(cache_folder),
        data(folder + "/" + layer.PathName() + ".data"),
        map(folder + "/" + layer.PathName() + ".map") {}
  std::string folder;
  std::string data;
  std::string map;
};

class CacheFiles {
 public:
  // Opens the pair, or makes it anew where there is none that fits (kNotFound where it may not).
  static Result<std::unique_ptr<CacheFiles>> Open(const CachePaths& paths, const ChunkShape& shape,
                                                  bool may_make = true);
  // Does the pair fit? kNotFound where one is missing, kCorrupt where not.
  static Status Check(const CachePaths& paths, const ChunkShape& shape);
  // Removes the pair. The map goes first, so that no map ever stands beside data of another making.
  static Status Remove(const CachePaths& paths);

  // False where the disk gave the files for reading only: then nothing can be kept, and nothing is
  // freed or repaired.
  bool writable() const { return writable_.load(); }
  // Tries again; kCorrupt where other files have taken their names. One thread at a time.
  Status MakeWritable();

  bool Present(uint64_t chunk) const { return map_->Present(chunk); }
  // Of a chunk that is there: by LoadChecked() alone.
  bool IsCompressed(uint64_t chunk) const;
  // Of plain chunks: nothing of the range would have to come from the disk.
  bool InMemory(uint64_t flat_offset, uint64_t length) const {
    return pages_.Hold(flat_offset, length);
  }
  // Of a chunk that is there, however it lies there.
  bool ChunkIsInMemory(uint64_t chunk, const ChunkExtent& extent) const;
  // Of plain chunks.
  Status Load(uint64_t flat_offset, MutableByteSpan out) const;
  // A whole chunk that is present; kCorrupt where it does not have the checksum that it was kept
  // with.
  Status LoadChecked(uint64_t chunk, uint64_t flat_offset, MutableByteSpan out) const;
  // Writes the data, compressed where that is worth it, then the record. On failure nothing counts
  // as present and the blocks are given back. kNoSpace already where only the disk's reserve is
  // left.
  Status Keep(uint64_t chunk, const ChunkExtent& extent, ByteSpan bytes,
              CacheCompression compression);
  void Drop(uint64_t chunk) { map_->SetAbsent(chunk); }
  // Gives back the blocks of a chunk that is present, which then is not. On failure it still is, by
  // a claim that has to be checked again.
  Status Evict(uint64_t chunk, const ChunkExtent& extent);
  // Gives back the blocks of a chunk that was dropped.
  void FreeBlocks(const ChunkExtent& extent);
  // Frees the blocks of chunks that the map does not name. While nobody writes to the files.
  void FreeUnnamed(const ChunkOwner& owner);
  // Writes the header of the map again where it is damaged.
  Status RepairMap() { return writable() ? map_->RepairHeader(shape_) : Status(); }
  // What is read next comes from the disk.
  void DropPages(const ChunkExtent& extent) const;
  // False once another pair has taken the place of this one, or nothing has.
  bool HaveNames() const;
  uint64_t Inode() const;  // of the data file

  // False when somebody has truncated the data file under us.
  bool SizeIsRight() const;
  Status RestoreSize();
  uint64_t DiskBytes() const;  // of both files

 private:
  CacheFiles(CachePaths paths, ChunkShape shape, UniqueFd data, std::unique_ptr<ChunkMap> map,
             bool writable);
  static Result<std::unique_ptr<CacheFiles>> OpenExisting(const CachePaths& paths,
                                                          const ChunkShape& shape);
  static Result<std::unique_ptr<CacheFiles>> OpenFor(int access, const CachePaths& paths,
                                                     const ChunkShape& shape);
  static Result<std::unique_ptr<CacheFiles>> Make(const CachePaths& paths, const ChunkShape& shape);

  Status CheckWritable() const;
  Status LoadForm(const ChunkForm& form, uint64_t flat_offset, MutableByteSpan out) const;

  const CachePaths paths_;
  const ChunkShape shape_;
  const UniqueFd data_;
  const std::unique_ptr<ChunkMap> map_;
  const ResidentPages pages_;  // of the data
  std::atomic<bool> writable_;
};

}  // namespace lamina
