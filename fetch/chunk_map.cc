#include "fetch/chunk_map.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "fetch/sparse_file.h"

namespace lamina {
namespace {

constexpr char kMagic[8] = {'l', 'a', 'm', 'c', 'm', 'a', 'p', '\n'};
constexpr uint32_t kVersion = 2;

// The offsets of the header's fields, in bytes; all little-endian.
constexpr size_t kVersionAt = 8;
constexpr size_t kCrcAt = 12;  // CRC-32C of the header with this field 0
constexpr size_t kCountAt = 16;
constexpr size_t kFlatSizeAt = 24;
constexpr size_t kHeaderBytes = 32;

std::string EncodeHeader(const ChunkShape& shape) {
  std::string header(kHeaderBytes, '\0');
  auto* bytes = reinterpret_cast<uint8_t*>(header.data());
  std::memcpy(bytes, kMagic, sizeof kMagic);
  StoreLe(bytes + kVersionAt, kVersion);
  StoreLe(bytes + kCountAt, shape.chunk_count);
  StoreLe(bytes + kFlatSizeAt, shape.flat_size);
  StoreLe(bytes + kCrcAt, Crc32c(AsBytes(header)));
  return header;
}

// A record: the checksum, then the word of its form, 0 where it is not there. One pwrite, so never
// half of one.
constexpr size_t kRecordBytes = 8;
constexpr size_t kFormAt = 4;
using Record = std::array<uint8_t, kRecordBytes>;

Record EncodeRecord(const std::optional<KeptChunk>& kept) {
  Record record{};
  if (!kept) return record;
  StoreLe<uint32_t>(record.data(), kept->checksum);
  StoreLe<uint32_t>(record.data() + kFormAt, kept->form.ToWord());
  return record;
}

uint64_t PlaceOf(uint64_t chunk) { return kHeaderBytes + chunk * kRecordBytes; }

}  // namespace

ChunkMap::ChunkMap(UniqueFd fd, std::string path, const std::string& records)
    : fd_(std::move(fd)), path_(std::move(path)), words_(records.size() / kRecordBytes) {
  const ByteSpan bytes = AsBytes(records);
  for (size_t chunk = 0; chunk < words_.size(); ++chunk) {
    const auto word = LoadLe<uint32_t>(bytes.data() + chunk * kRecordBytes + kFormAt);
    if (ChunkForm::FromWord(word)) words_[chunk] = word;
  }
}

Result<std::unique_ptr<ChunkMap>> ChunkMap::Load(const std::string& path, const ChunkShape& shape,
                                                 int access) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenOwnFile(path, access));
  ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd.get(), path));
  if (size != PlaceOf(shape.chunk_count))
    return Error{Code::kCorrupt, path + " has the wrong size for its layer"};
  std::string content(size, '\0');
  RETURN_IF_ERROR(PreadExactly(
      fd.get(), {reinterpret_cast<uint8_t*>(content.data()), content.size()}, 0, path));
  // There is one right header for a shape, so comparing it whole checks every field.
  if (content.compare(0, kHeaderBytes, EncodeHeader(shape)) != 0)
    return Error{Code::kCorrupt, path + " is no chunk map of its layer"};
  return std::unique_ptr<ChunkMap>(new ChunkMap(std::move(fd), path, content.substr(kHeaderBytes)));
}

Result<std::unique_ptr<ChunkMap>> ChunkMap::Make(const std::string& path, const ChunkShape& shape,
                                                 const KeptChunks& kept) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW));
  std::string records;
  records.reserve(kept.size() * kRecordBytes);
  for (const auto& chunk : kept) records += AsText(EncodeRecord(chunk));
  if (Status written = PwriteExactly(fd.get(), AsBytes(EncodeHeader(shape) + records), 0, path);
      !written) {
    ::unlink(path.c_str());
    return std::move(written).error();
  }
  return std::unique_ptr<ChunkMap>(new ChunkMap(std::move(fd), path, records));
}

Result<uint32_t> ChunkMap::Checksum(uint64_t chunk) const {
  Record record{};
  RETURN_IF_ERROR(PreadExactly(fd_.get(), record, PlaceOf(chunk), path_));
  return LoadLe<uint32_t>(record.data());
}

Status ChunkMap::SetPresent(uint64_t chunk, const KeptChunk& kept) {
  RETURN_IF_ERROR(PwriteExactly(fd_.get(), EncodeRecord(kept), PlaceOf(chunk), path_));
  words_[chunk] = kept.form.ToWord();
  return {};
}

void ChunkMap::SetAbsent(uint64_t chunk) {
  words_[chunk] = 0;
  (void)PwriteExactly(fd_.get(), EncodeRecord({}), PlaceOf(chunk), path_).has_value();
}

Status ChunkMap::SetAbsentAndFree(uint64_t chunk, const std::function<Status()>& free) {
  Record record{};
  RETURN_IF_ERROR(PreadExactly(fd_.get(), record, PlaceOf(chunk), path_));
  RETURN_IF_ERROR(PwriteExactly(fd_.get(), EncodeRecord({}), PlaceOf(chunk), path_));
  Status freed = free();
  if (freed)
    words_[chunk] = 0;
  else  // where that fails, too, the next start frees the blocks
    (void)PwriteExactly(fd_.get(), record, PlaceOf(chunk), path_).has_value();
  return freed;
}

Status ChunkMap::RepairHeader(const ChunkShape& shape) {
  const std::string right = EncodeHeader(shape);
  std::array<uint8_t, kHeaderBytes> there{};
  const Status read = PreadExactly(fd_.get(), there, 0, path_);
  if (read && AsText(there) == right) return {};
  return PwriteExactly(fd_.get(), AsBytes(right), 0, path_);
}

uint64_t ChunkMap::DiskBytes() const { return BlockBytes(fd_.get()); }

}  // namespace lamina
