#pragma once

// ChunkMap: the file beside a layer's data file that says which chunks are there
// (docs/formats-cache.md has its bytes), with the checksum of each. One record a chunk, written
// with pwrite: a mapped file would kill the process (SIGBUS) when somebody truncates it, and a bit
// a chunk would need a lock around its neighbours. The bytes reach the page cache with the call, so
// they survive kill -9. Presence is a claim; who reads the data compares it with the checksum. Any
// thread.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "fetch/chunk_codec.h"

namespace lamina {

// What a map must fit: the layer's chunk table.
struct ChunkShape {
  uint64_t chunk_count = 0;
  uint64_t flat_size = 0;  // bytes
};

struct KeptChunk {
  uint32_t checksum = 0;  // CRC-32C of its bytes
  ChunkForm form = {};
};
// Of each chunk that is there.
using KeptChunks = std::vector<std::optional<KeptChunk>>;

class ChunkMap {
 public:
  // kNotFound where the file is missing, kCorrupt where it is not a map of this shape.
  // `access`: O_RDWR or O_RDONLY; with the latter the file stays as it is until MakeWritable().
  static Result<std::unique_ptr<ChunkMap>> Load(const std::string& path, const ChunkShape& shape,
                                                int access);
  // Makes a new file, which must not exist. `kept` has one item for each chunk.
  static Result<std::unique_ptr<ChunkMap>> Make(const std::string& path, const ChunkShape& shape,
                                                const KeptChunks& kept);

  bool Present(uint64_t chunk) const { return words_[chunk].load() != 0; }
  // Nothing where it is not there.
  std::optional<ChunkForm> Form(uint64_t chunk) const {
    return ChunkForm::FromWord(words_[chunk].load());
  }
  // Of a chunk that is there.
  Result<uint32_t> Checksum(uint64_t chunk) const;
  // In the file first, then in memory.
  Status SetPresent(uint64_t chunk, const KeptChunk& kept);
  // In memory first. A failed write is no error: the claim is then found wrong when it is verified.
  void SetAbsent(uint64_t chunk);
  // Lets `free` give back the chunk's blocks while the file does not name it. Where one of the two
  // fails the chunk stays present.
  Status SetAbsentAndFree(uint64_t chunk, const std::function<Status()>& free);
  Status MakeWritable() { return ReopenForWriting(fd_.get(), path_); }
  // Writes the file's header again where it is not the one of this shape.
  Status RepairHeader(const ChunkShape& shape);
  uint64_t DiskBytes() const;  // blocks of the file

 private:
  ChunkMap(UniqueFd fd, std::string path, const std::string& records);

  const UniqueFd fd_;
  const std::string path_;
  // What the file says of each chunk; 0: it is not there. Seen by who finds the word: what was
  // written before it was set.
  std::vector<std::atomic<uint32_t>> words_;
};

}  // namespace lamina
