#pragma once

// The bytes of an EROFS image as lamina writes and reads them (docs/formats.md): 4096-byte blocks,
// extended inodes, chunk indexes into one device per layer, inline tails, no compression. Behind
// the image stands lamina's own trailer block, which EROFS does not see. All fields are little
// endian, and so is the host (base/bytes.cc asserts it). Constants and plain structs; any thread.

#include <array>
#include <cstddef>
#include <cstdint>

namespace lamina::erofs {

inline constexpr uint32_t kBlockBits = 12;
inline constexpr uint64_t kBlockSize = uint64_t{1} << kBlockBits;
inline constexpr uint64_t kSlotSize = 32;  // an inode's nid is its byte offset in slots
inline constexpr uint64_t kSuperOffset = 1024;
inline constexpr uint32_t kMagic = 0xE0F5E1E2;
inline constexpr uint32_t kNoBlock = 0xFFFFFFFF;

inline constexpr uint32_t kCompatChecksum = 0x1;
inline constexpr uint32_t kCompatMtime = 0x2;
inline constexpr uint32_t kIncompatChunkedFile = 0x4;
inline constexpr uint32_t kIncompatDeviceTable = 0x8;

struct Superblock {
  uint32_t magic = kMagic;
  uint32_t checksum = 0;  // CRC-32C of [1024, 4096) with this field 0
  uint32_t feature_compat = kCompatChecksum | kCompatMtime;
  uint8_t block_bits = kBlockBits;
  uint8_t extension_slots = 0;
  uint16_t root_nid = 0;
  uint64_t inode_count = 0;
  uint64_t epoch = 0;
  uint32_t fixed_nsec = 0;
  uint32_t blocks = 0;  // of the image, without lamina's trailer
  uint32_t meta_block = 0;
  uint32_t xattr_block = 0;
  std::array<uint8_t, 16> uuid{};
  std::array<char, 16> volume_name{};
  uint32_t feature_incompat = 0;
  uint16_t compression = 0;
  uint16_t device_count = 0;
  uint16_t device_slot = 0;  // the device table begins at this times 128
  uint8_t directory_block_bits = 0;
  uint8_t xattr_prefix_count = 0;
  uint32_t xattr_prefix_start = 0;
  uint64_t packed_nid = 0;
  uint32_t reserved1 = 0;
  uint32_t build_time = 0;
  std::array<uint64_t, 2> reserved2{};
};
static_assert(sizeof(Superblock) == 128 && offsetof(Superblock, uuid) == 48 &&
              offsetof(Superblock, device_count) == 86 && offsetof(Superblock, build_time) == 108);

struct DeviceSlot {
  std::array<char, 64> tag{};  // hex of the layer's digest
  uint32_t blocks = 0;
  uint32_t unified_address = 0;
  std::array<uint8_t, 56> reserved{};
};
static_assert(sizeof(DeviceSlot) == 128);

enum class Layout : uint8_t { kPlain = 0, kInline = 2, kChunked = 4 };

struct Inode {
  uint16_t format = 0;       // bit 0: extended; bits 1-3: Layout
  uint16_t xattr_count = 0;  // 0, or (xattr bytes - 12) / 4 + 1
  uint16_t mode = 0;
  uint16_t unused = 0;
  uint64_t size = 0;
  uint32_t u = 0;    // first block, device number or chunk format
  uint32_t ino = 0;  // for 32-bit stat only
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime = 0;
  uint32_t mtime_ns = 0;
  uint32_t nlink = 0;
  std::array<uint8_t, 16> reserved{};
};
static_assert(sizeof(Inode) == 64);

inline constexpr uint16_t kExtended = 0x1;
inline constexpr uint32_t kLayoutShift = 1;
inline constexpr uint16_t kLayoutMask = 0x7;

// A chunk array follows its inode at the next multiple of 8.
struct ChunkIndex {
  uint16_t block_high = 0;
  uint16_t device = 0;  // 1-based; 0 with kNoBlock is a hole
  uint32_t block = 0;
};
static_assert(sizeof(ChunkIndex) == 8);
inline constexpr ChunkIndex kHole{0xFFFF, 0, kNoBlock};
inline constexpr uint32_t kChunkIndexes = 0x20;
inline constexpr uint32_t kChunkBitsMask = 0x1F;
inline constexpr uint32_t kMaxChunkBits = kBlockBits + kChunkBitsMask;

// A directory entry: nid u64 @0, name offset u16 @8, type u8 @10, 0 u8 @11; the names follow the
// entries of a block.
inline constexpr uint64_t kDirentSize = 12;
enum class FileType : uint8_t {
  kRegular = 1,
  kDirectory = 2,
  kCharDevice = 3,
  kBlockDevice = 4,
  kFifo = 5,
  kSocket = 6,
  kSymlink = 7,
};
inline constexpr uint64_t kMaxName = 255;

// Extended attributes follow the inode: a header of 12 bytes (zeros here: no filter, none shared),
// then entries of name length u8, prefix u8, value size u16, name without prefix, value, padded
// to 4.
inline constexpr uint64_t kXattrHeaderSize = 12;
inline constexpr uint64_t kXattrEntrySize = 4;
inline constexpr uint64_t kMaxXattrBytes = (65535 - 1) * 4 + kXattrHeaderSize;
inline constexpr uint64_t kMaxXattrValue = 65535;
inline constexpr uint8_t kXattrUser = 1;
inline constexpr uint8_t kXattrTrusted = 4;
inline constexpr uint8_t kXattrSecurity = 6;

// lamina's trailer, the last block of the file.
struct Trailer {
  std::array<char, 8> magic{'L', 'A', 'M', 'T', 'R', 'E', 'E', '\n'};
  uint32_t version = 1;
  uint32_t image_crc = 0;    // CRC-32C of all bytes before the trailer
  uint64_t image_bytes = 0;  // where the trailer begins
  uint64_t inode_count = 0;
  uint64_t entry_count = 0;  // names, the root's included
  uint32_t flags = 0;
  uint32_t reserved = 0;
  std::array<uint8_t, 32> tree_key{};
  std::array<uint8_t, 4012> zeros{};
  uint32_t trailer_crc = 0;  // CRC-32C of the trailer's bytes before this field
};
static_assert(sizeof(Trailer) == 4096);
inline constexpr uint32_t kTrailerVersion = 1;
inline constexpr uint32_t kHasXattrs = 0x1;

}  // namespace lamina::erofs
