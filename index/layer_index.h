#pragma once

// LayerIndex: what lamina knows of one layer, an immutable, checksummed file that is mapped, not
// parsed (docs/formats.md has its bytes). It holds the layer's own tree, resolved by the rules for
// one layer, the map from the flat address space to the raw tar stream, the chunk table, the
// decoder checkpoints, and what the bytes of the blob are verified by.
//
// The flat address space of a layer: the data of its regular files in tar order, each at the next
// multiple of 4096, zeros behind the end of each. Holes of sparse files take no addresses (see
// SparseGranule()).
//
// Opening costs a checksum and no heap in proportion to the size. Accessors never trust the file:
// every index and offset is checked against its section, and what is out of bounds reads as absent
// or as an Error. Immutable; any thread; views live as long as the LayerIndex.

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/result.h"
#include "index/compression.h"
#include "index/tar.h"

namespace lamina {

// Data chunks hold about this many bytes of payload; the exact cuts are in the chunk table.
inline constexpr uint64_t kChunkBytes = 1u << 20;
inline constexpr uint64_t kFlatAlign = 4096;
// No data chunk is longer in the flat address space (many tiny files have more padding than
// payload); zero chunks have any length.
inline constexpr uint64_t kMaxChunkFlat = 4 * kChunkBytes;
// More are counted, not kept.
inline constexpr size_t kMaxWarnings = 100;

// The unit, in bytes, in which a sparse file of `size` bytes is a hole or data: the least power of
// two from 4096 on that cuts it into at most 65,536 granules. A granule with any data takes its
// full length of addresses.
uint64_t SparseGranule(uint64_t size);

// Who made the index, and with that, what verifies the bytes that it leads to.
enum class IndexKind : uint8_t {
  kOwn = 0,          // the pass over the whole layer, which verified it; marks
  kStargz = 1,       // the TOC of an eStargz layer; pieces
  kZstdChunked = 2,  // the TOC of a zstd:chunked layer; pieces
  kSoci = 3,         // a SOCI zTOC; spans
};

const char* IndexKindName(IndexKind kind);  // "own", "eStargz", "zstd:chunked", "SOCI"

struct LayerFacts {
  Digest blob_digest;
  Digest diff_id;          // of the raw tar stream; computed in the pass, else as the config says
  uint64_t blob_size = 0;  // compressed bytes
  uint64_t raw_size = 0;   // bytes of the raw tar stream; 0 where a TOC does not tell it
  uint64_t flat_size = 0;  // bytes of the flat address space, multiple of 4096
  Compression compression = Compression::kNone;
  IndexKind kind = IndexKind::kOwn;
  uint64_t entry_count = 0;
  uint64_t inode_count = 0;
  uint64_t chunk_count = 0;
  uint64_t checkpoint_count = 0;
};

// One name in the layer's tree. Entry 0 is the root; the children of a directory are contiguous and
// sorted bytewise by name.
struct LayerEntry {
  enum class Kind : uint8_t {
    kInode,         // `inode` is valid
    kWhiteout,      // deletes the name in lower layers
    kExternalLink,  // a hard link to `link_path` of the layers below
  };
  Kind kind = Kind::kInode;
  bool opaque = false;  // a directory that hides the children of lower layers
  // An opaque directory whose name the layer deletes below: nothing of the one below shows, its
  // attributes neither.
  bool replaces = false;
  bool implicit =
      false;  // a directory without an entry of its own: keeps the attributes of the one below
  std::string_view name;
  uint32_t inode = 0;        // several names of one inode are hard links
  uint32_t first_child = 0;  // entry number
  uint32_t child_count = 0;
  std::string_view link_path;  // cleaned, relative to the root, without leading '/'
};

struct LayerInode {
  EntryType type = EntryType::kRegular;  // never kHardlink
  uint32_t mode = 0;                     // permission bits, 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint64_t size = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  uint64_t flat_offset = 0;  // of a regular file that is not sparse and has data
  bool sparse = false;       // then Extents() tells where the data is
  uint32_t extent_first = 0;
  uint32_t extent_count = 0;
  uint32_t xattr_first = 0;
  uint32_t xattr_count = 0;
  std::string_view symlink_target;
};

// Data of a sparse file: `length` bytes (multiple of the granule, save at the end of file) from
// `file_offset`.
struct FileExtent {
  uint64_t file_offset = 0;
  uint64_t flat_offset = 0;
  uint64_t length = 0;
};

struct XattrView {
  std::string_view name;  // with its namespace: "user.x", "security.capability"
  std::string_view value;
};

struct ChunkRecord {
  uint64_t flat_offset = 0;          // multiple of 4096
  uint64_t flat_length = 0;          // multiple of 4096; chunks follow each other without a gap
  bool zero = false;                 // all zeros: no checkpoint, costs nothing
  std::optional<uint32_t> checksum;  // CRC-32C of the flat bytes, where a pass has seen them
  // What follows is unset where the layer has pieces.
  uint64_t raw_begin = 0;  // raw stream range that holds its payload
  uint64_t raw_end = 0;
  uint64_t blob_end = 0;    // compressed bytes up to which a decoder must read to reach raw_end
  uint32_t checkpoint = 0;  // number of the last checkpoint at or before raw_begin
};

// A place from which a decoder resumes.
struct CheckpointView {
  uint64_t raw_offset = 0;
  uint64_t blob_offset = 0;
  ByteSpan lead;  // the first bytes of the blob from blob_offset on, up to the next mark
  ByteSpan state;
};

// The state of the blob's running digest at `blob_offset`, a multiple of kHashAlign. The last mark,
// at the end of the blob, holds the digest itself. In order.
struct BlobMark {
  uint64_t blob_offset = 0;
  HashState state{};
};

// A compressed range with a digest of its own (SOCI); spans follow each other and may share a byte.
struct BlobSpan {
  uint64_t blob_begin = 0;
  uint64_t blob_end = 0;
  std::array<uint8_t, 32> sha256{};
};

// A stretch of a file that is decoded and verified by itself (TocPiece), in order of flat offsets,
// without zero pieces.
struct FlatPiece {
  uint64_t flat_offset = 0;  // any
  uint64_t length = 0;
  uint64_t blob_offset = 0;
  uint64_t blob_end = 0;
  uint64_t inner_offset = 0;
  std::array<uint8_t, 32> sha256{};
};

// A stretch of payload: flat bytes [flat_offset, +length) are raw bytes [raw_offset, +length).
struct Segment {
  uint64_t flat_offset = 0;
  uint64_t raw_offset = 0;
  uint64_t length = 0;
};

class LayerIndex {
 public:
  // kNotFound where there is no file; kCorrupt where its checksum, version or digest do not fit
  // (delete it and index again).
  static Result<std::shared_ptr<const LayerIndex>> Open(const std::string& path,
                                                        const Digest& blob_digest);
  // The same over bytes that outlive the result, without the digest: for fuzzers and tests.
  static Result<std::shared_ptr<const LayerIndex>> FromBytes(ByteSpan bytes,
                                                             bool check_checksum = true);

  const LayerFacts& facts() const { return facts_; }
  uint64_t file_bytes() const;
  // kCorrupt once a page of the file could not be read. Accessors say so themselves; who goes on to
  // read the views that they give asks again before it believes them.
  Status Intact() const;

  Result<LayerEntry> Entry(uint32_t number) const;
  Result<LayerInode> Inode(uint32_t number) const;
  Result<FileExtent> Extent(uint32_t number) const;
  Result<XattrView> Xattr(uint32_t number) const;
  Result<ChunkRecord> Chunk(uint64_t number) const;
  // The chunk that holds this flat offset; kInvalid beyond the end.
  Result<uint64_t> ChunkAt(uint64_t flat_offset) const;
  Result<CheckpointView> CheckpointAt(uint32_t number) const;
  uint64_t mark_count() const;
  Result<BlobMark> MarkAt(uint64_t number) const;
  // The number of the first mark at or after `blob_offset`; mark_count() where there is none.
  uint64_t FirstMarkFrom(uint64_t blob_offset) const;
  uint64_t span_count() const;
  Result<BlobSpan> SpanAt(uint64_t number) const;
  // The number of the first span that ends after `blob_offset`.
  uint64_t FirstSpanAfter(uint64_t blob_offset) const;
  uint64_t piece_count() const;
  Result<FlatPiece> PieceAt(uint64_t number) const;
  // The number of the first piece that ends after `flat_offset`.
  uint64_t FirstPieceAfter(uint64_t flat_offset) const;
  // The first segment that ends after `flat_offset`, by number; then the next ones until the chunk
  // ends.
  uint64_t FirstSegmentAfter(uint64_t flat_offset) const;
  uint64_t segment_count() const;
  Result<Segment> SegmentAt(uint64_t number) const;
  // Where the index comes from, for people: "made here", "TOC sha256:… named by the manifest".
  std::string origin() const;
  // Warnings of the pass ("device 0/0 taken as a whiteout: dev/x"), at most 100 kept.
  std::vector<std::string> Warnings() const;

 private:
  struct Sections;
  LayerIndex();
  // Before what is packed in the file is read.
  Status OpenTree() const;
  LayerFacts facts_{Digest::Sha256({}), Digest::Sha256({})};
  std::optional<MappedFile> file_;
  std::unique_ptr<Sections> sections_;

 public:
  ~LayerIndex();
};

}  // namespace lamina
