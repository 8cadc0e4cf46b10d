#pragma once

// The bytes of a layer index file (docs/formats.md), shared by its reader and its writer. Little
// endian, as the host is (base/bytes.cc asserts it). Constants and plain records; any thread.
//
// The file is the header, then the sections that reads need, then one zstd frame with those of the
// layer's tree, which only a merge needs; each section at a multiple of 8 of what it lies in.
// Records hold no pointers: strings are offsets into the names or the strings section, everything
// else is a record number.

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace lamina::index_format {

inline constexpr std::array<uint8_t, 8> kMagic = {'L', 'A', 'M', 'L', 'A', 'Y', 'R', '\n'};
inline constexpr uint32_t kVersion = 2;
inline constexpr uint64_t kSectionAlign = 8;

enum Section : size_t {
  kChunks = 0,
  kCheckpoints,
  kMarks,
  kSpans,
  kPieces,
  kSegments,
  kWarnings,
  kStates,   // bytes: lead and decoder state of each checkpoint
  kNotes,    // bytes: the origin, warnings
  kEntries,  // from here on in the frame
  kInodes,
  kExtents,
  kXattrs,
  kNames,    // bytes: the names of entries
  kStrings,  // bytes: link paths, symbolic link targets, xattr names and values
  kSectionCount,
};
inline constexpr Section kFirstPacked = kEntries;

struct SectionRecord {
  uint64_t offset = 0;  // bytes from the start of the file, or of what the frame holds
  uint64_t count = 0;   // records, or bytes
};

struct Header {
  std::array<uint8_t, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t header_crc = 0;  // CRC-32C of the header with this field 0
  uint64_t file_bytes = 0;
  uint32_t body_crc = 0;       // CRC-32C of all bytes behind the header
  uint8_t blob_algorithm = 0;  // Digest::Algorithm
  uint8_t diff_algorithm = 0;
  uint8_t compression = 0;                // Compression
  uint8_t kind = 0;                       // IndexKind
  std::array<uint8_t, 64> blob_digest{};  // the unused tail is 0
  std::array<uint8_t, 64> diff_id{};
  uint64_t blob_size = 0;
  uint64_t raw_size = 0;
  uint64_t flat_size = 0;
  uint64_t packed_offset = 0;  // of the frame
  uint64_t packed_bytes = 0;
  uint64_t tree_bytes = 0;     // that it holds
  uint64_t origin_offset = 0;  // in kNotes: where the index comes from, in words
  uint64_t origin_length = 0;
  std::array<SectionRecord, kSectionCount> sections{};
};
static_assert(sizeof(Header) == 464 && offsetof(Header, blob_digest) == 32 &&
              offsetof(Header, sections) == 224);

inline constexpr uint8_t kEntryOpaque = 0x1;
inline constexpr uint8_t kEntryImplicit = 0x2;
inline constexpr uint8_t kEntryReplaces = 0x4;  // only beside kEntryOpaque

struct EntryRecord {
  uint32_t name_offset = 0;  // in kNames
  uint16_t name_length = 0;
  uint8_t kind = 0;   // LayerEntry::Kind
  uint8_t flags = 0;  // kEntryOpaque, kEntryImplicit, kEntryReplaces
  uint32_t inode = 0;
  uint32_t first_child = 0;
  uint32_t child_count = 0;
  uint32_t link_length = 0;
  uint64_t link_offset = 0;  // in kStrings
};
static_assert(sizeof(EntryRecord) == 32);

inline constexpr uint8_t kInodeSparse = 0x1;

struct InodeRecord {
  uint8_t type = 0;   // EntryType
  uint8_t flags = 0;  // kInodeSparse
  uint16_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t mtime_ns = 0;
  int64_t mtime_s = 0;
  uint64_t size = 0;
  uint64_t place =
      0;  // regular: flat offset; symbolic link: offset in kStrings; device: major << 32 | minor
  uint32_t extent_first = 0;
  uint32_t extent_count = 0;
  uint32_t xattr_first = 0;
  uint32_t xattr_count = 0;
};
static_assert(sizeof(InodeRecord) == 56);

struct ExtentRecord {
  uint64_t file_offset = 0;
  uint64_t flat_offset = 0;
  uint64_t length = 0;
};
static_assert(sizeof(ExtentRecord) == 24);

struct XattrRecord {
  uint64_t offset = 0;  // in kStrings: the name, then the value
  uint32_t name_length = 0;
  uint32_t value_length = 0;
};
static_assert(sizeof(XattrRecord) == 16);

inline constexpr uint32_t kChunkZero = 0x1;
inline constexpr uint32_t kChunkChecked = 0x2;  // the checksum is set

struct ChunkRecordBytes {
  uint64_t flat_offset = 0;
  uint64_t flat_length = 0;
  uint64_t raw_begin = 0;
  uint64_t raw_end = 0;
  uint64_t blob_end = 0;
  uint32_t checkpoint = 0;
  uint32_t flags = 0;     // kChunkZero, kChunkChecked
  uint32_t checksum = 0;  // CRC-32C
  uint32_t reserved = 0;
};
static_assert(sizeof(ChunkRecordBytes) == 56);

struct CheckpointRecord {
  uint64_t raw_offset = 0;
  uint64_t blob_offset = 0;
  uint64_t state_offset = 0;  // in kStates: the lead, then the decoder's state
  uint32_t lead_length = 0;
  uint32_t state_length = 0;
};
static_assert(sizeof(CheckpointRecord) == 32);

struct MarkRecord {
  uint64_t blob_offset = 0;
  std::array<uint8_t, 64> state{};  // the unused tail is 0
};
static_assert(sizeof(MarkRecord) == 72);

struct SpanRecord {
  uint64_t blob_begin = 0;
  uint64_t blob_end = 0;
  std::array<uint8_t, 32> sha256{};
};
static_assert(sizeof(SpanRecord) == 48);

struct PieceRecord {
  uint64_t flat_offset = 0;
  uint64_t length = 0;
  uint64_t blob_offset = 0;
  uint64_t blob_end = 0;
  uint64_t inner_offset = 0;
  std::array<uint8_t, 32> sha256{};
};
static_assert(sizeof(PieceRecord) == 72);

struct SegmentRecord {
  uint64_t flat_offset = 0;
  uint64_t raw_offset = 0;
  uint64_t length = 0;
};
static_assert(sizeof(SegmentRecord) == 24);

struct WarningRecord {
  uint64_t offset = 0;  // in kNotes
  uint64_t length = 0;
};
static_assert(sizeof(WarningRecord) == 16);

// Bytes of one record of each section.
inline constexpr std::array<uint64_t, kSectionCount> kRecordBytes = {sizeof(ChunkRecordBytes),
                                                                     sizeof(CheckpointRecord),
                                                                     sizeof(MarkRecord),
                                                                     sizeof(SpanRecord),
                                                                     sizeof(PieceRecord),
                                                                     sizeof(SegmentRecord),
                                                                     sizeof(WarningRecord),
                                                                     1,
                                                                     1,
                                                                     sizeof(EntryRecord),
                                                                     sizeof(InodeRecord),
                                                                     sizeof(ExtentRecord),
                                                                     sizeof(XattrRecord),
                                                                     1,
                                                                     1};

}  // namespace lamina::index_format
