#include "index/layer_index.h"

#include <fcntl.h>

#include <algorithm>
#include <bit>

#include "base/set_once.h"
#include "base/text.h"
#include "index/layer_index_format.h"
#include "index/packed_tree.h"

namespace lamina {

namespace format = index_format;

namespace {

constexpr uint64_t kMaxGranules = 65536;

Error Damaged(const std::string& what) { return Error{Code::kCorrupt, "layer index: " + what}; }

Error OutOfBounds(std::string_view what, uint64_t number) {
  return Damaged(std::string(what) + " " + std::to_string(number) + " is out of bounds");
}

bool KnownAlgorithm(uint8_t algorithm) { return algorithm == 1 || algorithm == 2; }

Digest DigestOf(uint8_t algorithm, const std::array<uint8_t, 64>& bytes) {
  const auto which = static_cast<Digest::Algorithm>(algorithm);
  return Digest::FromBytes(which,
                           ByteSpan(bytes).first(which == Digest::Algorithm::kSha256 ? 32 : 64));
}

Status CheckHeader(const format::Header& header, uint64_t file_bytes, bool check_checksum) {
  if (header.magic != format::kMagic) return Damaged("it does not begin with the magic bytes");
  if (header.version != format::kVersion)
    return Damaged("its version is " + std::to_string(header.version) + ", not " +
                   std::to_string(format::kVersion));
  format::Header zeroed = header;
  zeroed.header_crc = 0;
  const ByteSpan bytes(reinterpret_cast<const uint8_t*>(&zeroed), sizeof zeroed);
  if (check_checksum && Crc32c(bytes) != header.header_crc)
    return Damaged("the checksum of its header does not fit");
  if (header.file_bytes != file_bytes)
    return Damaged("it has " + std::to_string(file_bytes) + " bytes, its header says " +
                   std::to_string(header.file_bytes));
  if (!KnownAlgorithm(header.blob_algorithm) || !KnownAlgorithm(header.diff_algorithm))
    return Damaged("unknown digest algorithm");
  if (header.compression > static_cast<uint8_t>(Compression::kZstd))
    return Damaged("unknown compression");
  if (header.kind > static_cast<uint8_t>(IndexKind::kSoci)) return Damaged("unknown kind");
  return {};
}

// O(1): what is inside the sections is checked when it is read.
Status CheckSections(const format::Header& header) {
  if (header.packed_offset < sizeof header || header.packed_offset > header.file_bytes ||
      header.packed_bytes != header.file_bytes - header.packed_offset)
    return Damaged("its packed tree is out of bounds");
  for (size_t i = 0; i < format::kSectionCount; ++i) {
    const format::SectionRecord& section = header.sections[i];
    const bool plain = i < format::kFirstPacked;
    const uint64_t begin = plain ? sizeof header : 0;
    const uint64_t end = plain ? header.packed_offset : header.tree_bytes;
    if (section.offset % format::kSectionAlign != 0 || section.offset < begin ||
        section.offset > end || section.count > (end - section.offset) / format::kRecordBytes[i])
      return Damaged("section " + std::to_string(i) + " is out of bounds");
  }
  if (header.sections[format::kEntries].count == 0) return Damaged("it has no root");
  return {};
}

// With pread, so that checking a large file does not make all of it resident.
Status CheckBody(const std::string& path, const format::Header& header) {
  constexpr size_t kStep = 1u << 20;
  ASSIGN_OR_RETURN(const UniqueFd fd, OpenOwnFile(path, O_RDONLY));
  std::vector<uint8_t> buffer(std::min<uint64_t>(kStep, header.file_bytes - sizeof header));
  uint32_t crc = Crc32c({});
  for (uint64_t at = sizeof header; at < header.file_bytes;) {
    const size_t take =
        static_cast<size_t>(std::min<uint64_t>(buffer.size(), header.file_bytes - at));
    const MutableByteSpan piece(buffer.data(), take);
    RETURN_IF_ERROR(PreadExactly(fd.get(), piece, at, path));
    crc = Crc32c(piece, crc);
    at += take;
  }
  if (crc != header.body_crc) return Damaged("its checksum does not fit");
  return {};
}

}  // namespace

const char* IndexKindName(IndexKind kind) {
  switch (kind) {
    case IndexKind::kOwn:
      return "own";
    case IndexKind::kStargz:
      return "eStargz";
    case IndexKind::kZstdChunked:
      return "zstd:chunked";
    case IndexKind::kSoci:
      return "SOCI";
  }
  return "unknown";
}

uint64_t SparseGranule(uint64_t size) {
  uint64_t granule = kFlatAlign;
  // Shifted, not multiplied: sizes go up to 2^63.
  while (((size - 1) / granule) >= kMaxGranules && size > 0) granule *= 2;
  return granule;
}

struct LayerIndex::Sections {
  ByteSpan bytes;
  format::Header header;
  std::string folder;                  // for what is unpacked; may be empty
  mutable SetOnce<UnpackedTree> tree;  // once somebody needs it

  // Before the packed sections are read.
  Status OpenTree() const {
    if (tree.get() != nullptr) return {};
    const ByteSpan packed = bytes.subspan(header.packed_offset, header.packed_bytes);
    ASSIGN_OR_RETURN(auto unpacked, UnpackedTree::Make(packed, header.tree_bytes, folder));
    tree.Set(std::move(unpacked));
    return {};
  }
  const uint8_t* Begin(format::Section section) const {
    const ByteSpan all = section < format::kFirstPacked ? bytes : tree.get()->bytes();
    return all.data() + header.sections[section].offset;
  }

  uint64_t Count(format::Section section) const { return header.sections[section].count; }

  // A copy of a record, since nothing promises the mapped bytes an alignment. `number` is in
  // bounds.
  template <typename Record>
  Record At(format::Section section, uint64_t number) const {
    Record record;
    std::memcpy(&record, Begin(section) + number * sizeof record, sizeof record);
    return record;
  }

  bool Holds(format::Section section, uint64_t offset, uint64_t length) const {
    return offset <= Count(section) && length <= Count(section) - offset;
  }
  ByteSpan Bytes(format::Section section, uint64_t offset, uint64_t length) const {
    return {Begin(section) + offset, length};
  }
  // The first record of a section, in ascending order, for which `before` is false.
  template <typename Record, typename Before>
  uint64_t Search(format::Section section, Before before) const {
    uint64_t low = 0;
    uint64_t high = Count(section);
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      if (before(At<Record>(section, middle)))
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  Result<std::string_view> Text(format::Section section, uint64_t offset, uint64_t length) const {
    if (!Holds(section, offset, length)) return OutOfBounds("string at", offset);
    return AsText(Bytes(section, offset, length));
  }
};

LayerIndex::LayerIndex() = default;
LayerIndex::~LayerIndex() = default;

Result<std::shared_ptr<const LayerIndex>> LayerIndex::FromBytes(ByteSpan bytes,
                                                                bool check_checksum) {
  auto sections = std::make_unique<Sections>();
  format::Header& header = sections->header;
  if (bytes.size() < sizeof header) return Damaged("it is shorter than its header");
  std::memcpy(&header, bytes.data(), sizeof header);
  sections->bytes = bytes;
  RETURN_IF_ERROR(CheckHeader(header, bytes.size(), check_checksum));
  RETURN_IF_ERROR(CheckSections(header));
  if (check_checksum && Crc32c(bytes.subspan(sizeof header)) != header.body_crc)
    return Damaged("its checksum does not fit");

  std::shared_ptr<LayerIndex> index(new LayerIndex());
  index->facts_ = LayerFacts{
      .blob_digest = DigestOf(header.blob_algorithm, header.blob_digest),
      .diff_id = DigestOf(header.diff_algorithm, header.diff_id),
      .blob_size = header.blob_size,
      .raw_size = header.raw_size,
      .flat_size = header.flat_size,
      .compression = static_cast<Compression>(header.compression),
      .kind = static_cast<IndexKind>(header.kind),
      .entry_count = sections->Count(format::kEntries),
      .inode_count = sections->Count(format::kInodes),
      .chunk_count = sections->Count(format::kChunks),
      .checkpoint_count = sections->Count(format::kCheckpoints),
  };
  index->sections_ = std::move(sections);
  return std::shared_ptr<const LayerIndex>(std::move(index));
}

Result<std::shared_ptr<const LayerIndex>> LayerIndex::Open(const std::string& path,
                                                           const Digest& blob_digest) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  auto opened = FromBytes(file.bytes(), /*check_checksum=*/false);
  if (!opened.has_value()) return opened.error().Within(path);
  std::shared_ptr<const LayerIndex> index = *opened;
  const format::Header& header = index->sections_->header;
  Status intact = CheckHeader(header, file.bytes().size(), /*check_checksum=*/true);
  if (intact.has_value()) intact = CheckBody(path, header);
  if (!intact.has_value()) return intact.error().Within(path);
  if (index->facts_.blob_digest != blob_digest)
    return Damaged("it belongs to " + index->facts_.blob_digest.ToString() + ", not to " +
                   blob_digest.ToString())
        .Within(path);
  // The map's address does not change when it moves; nobody else has the index yet.
  index->sections_->folder = path.substr(0, path.rfind('/') + 1);
  std::const_pointer_cast<LayerIndex>(index)->file_.emplace(std::move(file));
  return index;
}

uint64_t LayerIndex::file_bytes() const { return sections_->header.file_bytes; }

Status LayerIndex::Intact() const {
  const UnpackedTree* tree = sections_->tree.get();
  if (!(file_ && file_->damaged()) && !(tree != nullptr && tree->damaged())) return {};
  return Damaged("a page of the file cannot be read");
}

// A page that was lost on the way explains whatever went wrong, and what went right is not
// believed.
Status LayerIndex::OpenTree() const {
  const Status opened = sections_->OpenTree();
  RETURN_IF_ERROR(Intact());
  return opened;
}

Result<LayerEntry> LayerIndex::Entry(uint32_t number) const {
  if (number >= facts_.entry_count) return OutOfBounds("entry", number);
  RETURN_IF_ERROR(OpenTree());
  const auto record = sections_->At<format::EntryRecord>(format::kEntries, number);
  RETURN_IF_ERROR(Intact());
  if (record.kind > static_cast<uint8_t>(LayerEntry::Kind::kExternalLink))
    return Damaged("entry " + std::to_string(number) + " has an unknown kind");
  LayerEntry entry;
  entry.kind = static_cast<LayerEntry::Kind>(record.kind);
  entry.opaque = (record.flags & format::kEntryOpaque) != 0;
  entry.replaces = (record.flags & format::kEntryReplaces) != 0;
  entry.implicit = (record.flags & format::kEntryImplicit) != 0;
  ASSIGN_OR_RETURN(entry.name,
                   sections_->Text(format::kNames, record.name_offset, record.name_length));
  entry.inode = record.inode;
  if (entry.kind == LayerEntry::Kind::kInode && entry.inode >= facts_.inode_count)
    return OutOfBounds("inode", entry.inode);
  entry.first_child = record.first_child;
  entry.child_count = record.child_count;
  // Children stand behind their directory, so that a walk always ends.
  if (entry.child_count > 0 &&
      (entry.first_child <= number || entry.first_child > facts_.entry_count ||
       entry.child_count > facts_.entry_count - entry.first_child))
    return OutOfBounds("the children of entry", number);
  ASSIGN_OR_RETURN(entry.link_path,
                   sections_->Text(format::kStrings, record.link_offset, record.link_length));
  return entry;
}

Result<LayerInode> LayerIndex::Inode(uint32_t number) const {
  if (number >= facts_.inode_count) return OutOfBounds("inode", number);
  RETURN_IF_ERROR(OpenTree());
  const auto record = sections_->At<format::InodeRecord>(format::kInodes, number);
  RETURN_IF_ERROR(Intact());
  if (record.type < static_cast<uint8_t>(EntryType::kRegular) ||
      record.type > static_cast<uint8_t>(EntryType::kSocket) ||
      record.type == static_cast<uint8_t>(EntryType::kHardlink))
    return Damaged("inode " + std::to_string(number) + " has an unknown type");
  if (record.extent_first > sections_->Count(format::kExtents) ||
      record.extent_count > sections_->Count(format::kExtents) - record.extent_first ||
      record.xattr_first > sections_->Count(format::kXattrs) ||
      record.xattr_count > sections_->Count(format::kXattrs) - record.xattr_first)
    return OutOfBounds("the extents or xattrs of inode", number);
  LayerInode inode;
  inode.type = static_cast<EntryType>(record.type);
  inode.mode = record.mode & 07777u;
  inode.uid = record.uid;
  inode.gid = record.gid;
  inode.mtime_s = record.mtime_s;
  inode.mtime_ns = record.mtime_ns;
  inode.size = record.size;
  inode.sparse = (record.flags & format::kInodeSparse) != 0;
  inode.extent_first = record.extent_first;
  inode.extent_count = record.extent_count;
  inode.xattr_first = record.xattr_first;
  inode.xattr_count = record.xattr_count;
  if (inode.type == EntryType::kSymlink) {
    ASSIGN_OR_RETURN(inode.symlink_target,
                     sections_->Text(format::kStrings, record.place, record.size));
  } else if (inode.type == EntryType::kRegular) {
    inode.flat_offset = record.place;
  } else {
    inode.device_major = static_cast<uint32_t>(record.place >> 32);
    inode.device_minor = static_cast<uint32_t>(record.place);
  }
  return inode;
}

Result<FileExtent> LayerIndex::Extent(uint32_t number) const {
  if (number >= sections_->Count(format::kExtents)) return OutOfBounds("extent", number);
  RETURN_IF_ERROR(OpenTree());
  const auto record = sections_->At<format::ExtentRecord>(format::kExtents, number);
  RETURN_IF_ERROR(Intact());
  return FileExtent{record.file_offset, record.flat_offset, record.length};
}

Result<XattrView> LayerIndex::Xattr(uint32_t number) const {
  if (number >= sections_->Count(format::kXattrs)) return OutOfBounds("xattr", number);
  RETURN_IF_ERROR(OpenTree());
  const auto record = sections_->At<format::XattrRecord>(format::kXattrs, number);
  RETURN_IF_ERROR(Intact());
  const uint64_t length = uint64_t{record.name_length} + record.value_length;
  ASSIGN_OR_RETURN(const std::string_view both,
                   sections_->Text(format::kStrings, record.offset, length));
  return XattrView{both.substr(0, record.name_length), both.substr(record.name_length)};
}

Result<ChunkRecord> LayerIndex::Chunk(uint64_t number) const {
  if (number >= facts_.chunk_count) return OutOfBounds("chunk", number);
  const auto record = sections_->At<format::ChunkRecordBytes>(format::kChunks, number);
  RETURN_IF_ERROR(Intact());
  ChunkRecord chunk;
  chunk.flat_offset = record.flat_offset;
  chunk.flat_length = record.flat_length;
  chunk.zero = (record.flags & format::kChunkZero) != 0;
  if ((record.flags & format::kChunkChecked) != 0) chunk.checksum = record.checksum;
  chunk.raw_begin = record.raw_begin;
  chunk.raw_end = record.raw_end;
  chunk.blob_end = record.blob_end;
  chunk.checkpoint = record.checkpoint;
  // What readers allocate by is held to what the writer promises.
  if (chunk.flat_offset > facts_.flat_size ||
      chunk.flat_length > facts_.flat_size - chunk.flat_offset || chunk.flat_length == 0 ||
      chunk.flat_offset % kFlatAlign != 0 || chunk.flat_length % kFlatAlign != 0)
    return OutOfBounds("the flat range of chunk", number);
  if (!chunk.zero && chunk.flat_length > kMaxChunkFlat)
    return OutOfBounds("the length of chunk", number);
  if (!chunk.zero && piece_count() == 0 &&
      (chunk.raw_begin > chunk.raw_end || chunk.raw_end > facts_.raw_size ||
       chunk.blob_end > facts_.blob_size || chunk.checkpoint >= facts_.checkpoint_count))
    return OutOfBounds("the source of chunk", number);
  return chunk;
}

Result<uint64_t> LayerIndex::ChunkAt(uint64_t flat_offset) const {
  if (flat_offset >= facts_.flat_size)
    return Error{Code::kInvalid,
                 "flat offset " + std::to_string(flat_offset) + " is behind the end of the layer"};
  // Behind the last chunk that begins at or before it.
  const uint64_t low = sections_->Search<format::ChunkRecordBytes>(
      format::kChunks, [&](const auto& record) { return record.flat_offset <= flat_offset; });
  RETURN_IF_ERROR(Intact());
  if (low == 0) return Damaged("no chunk holds flat offset " + std::to_string(flat_offset));
  ASSIGN_OR_RETURN(const ChunkRecord chunk, Chunk(low - 1));
  if (flat_offset - chunk.flat_offset >= chunk.flat_length)
    return Damaged("no chunk holds flat offset " + std::to_string(flat_offset));
  return low - 1;
}

Result<CheckpointView> LayerIndex::CheckpointAt(uint32_t number) const {
  if (number >= facts_.checkpoint_count) return OutOfBounds("checkpoint", number);
  const auto record = sections_->At<format::CheckpointRecord>(format::kCheckpoints, number);
  RETURN_IF_ERROR(Intact());
  const uint64_t both = uint64_t{record.lead_length} + record.state_length;
  if (!sections_->Holds(format::kStates, record.state_offset, both) ||
      record.raw_offset > facts_.raw_size || record.blob_offset > facts_.blob_size ||
      record.lead_length > facts_.blob_size - record.blob_offset)
    return OutOfBounds("the state of checkpoint", number);
  const ByteSpan bytes = sections_->Bytes(format::kStates, record.state_offset, both);
  return CheckpointView{record.raw_offset, record.blob_offset, bytes.first(record.lead_length),
                        bytes.subspan(record.lead_length)};
}

uint64_t LayerIndex::mark_count() const { return sections_->Count(format::kMarks); }

Result<BlobMark> LayerIndex::MarkAt(uint64_t number) const {
  if (number >= mark_count()) return OutOfBounds("mark", number);
  const auto record = sections_->At<format::MarkRecord>(format::kMarks, number);
  RETURN_IF_ERROR(Intact());
  if (record.blob_offset > facts_.blob_size ||
      (record.blob_offset != facts_.blob_size && record.blob_offset % kHashAlign != 0))
    return OutOfBounds("the place of mark", number);
  return BlobMark{record.blob_offset, record.state};
}

uint64_t LayerIndex::FirstMarkFrom(uint64_t blob_offset) const {
  return sections_->Search<format::MarkRecord>(
      format::kMarks, [&](const auto& record) { return record.blob_offset < blob_offset; });
}

uint64_t LayerIndex::span_count() const { return sections_->Count(format::kSpans); }

Result<BlobSpan> LayerIndex::SpanAt(uint64_t number) const {
  if (number >= span_count()) return OutOfBounds("span", number);
  const auto record = sections_->At<format::SpanRecord>(format::kSpans, number);
  RETURN_IF_ERROR(Intact());
  if (record.blob_begin >= record.blob_end || record.blob_end > facts_.blob_size)
    return OutOfBounds("the range of span", number);
  return BlobSpan{record.blob_begin, record.blob_end, record.sha256};
}

uint64_t LayerIndex::FirstSpanAfter(uint64_t blob_offset) const {
  return sections_->Search<format::SpanRecord>(
      format::kSpans, [&](const auto& record) { return record.blob_end <= blob_offset; });
}

uint64_t LayerIndex::piece_count() const { return sections_->Count(format::kPieces); }

Result<FlatPiece> LayerIndex::PieceAt(uint64_t number) const {
  if (number >= piece_count()) return OutOfBounds("piece", number);
  const auto record = sections_->At<format::PieceRecord>(format::kPieces, number);
  RETURN_IF_ERROR(Intact());
  if (record.flat_offset > facts_.flat_size ||
      record.length > facts_.flat_size - record.flat_offset || record.length == 0 ||
      record.blob_offset >= record.blob_end || record.blob_end > facts_.blob_size)
    return OutOfBounds("the ranges of piece", number);
  return FlatPiece{record.flat_offset, record.length,       record.blob_offset,
                   record.blob_end,    record.inner_offset, record.sha256};
}

uint64_t LayerIndex::FirstPieceAfter(uint64_t flat_offset) const {
  return sections_->Search<format::PieceRecord>(format::kPieces, [&](const auto& record) {
    return record.flat_offset + record.length <= flat_offset;
  });
}

uint64_t LayerIndex::segment_count() const { return sections_->Count(format::kSegments); }

Result<Segment> LayerIndex::SegmentAt(uint64_t number) const {
  if (number >= segment_count()) return OutOfBounds("segment", number);
  const auto record = sections_->At<format::SegmentRecord>(format::kSegments, number);
  RETURN_IF_ERROR(Intact());
  if (record.flat_offset > facts_.flat_size ||
      record.length > facts_.flat_size - record.flat_offset ||
      record.raw_offset > facts_.raw_size || record.length > facts_.raw_size - record.raw_offset)
    return OutOfBounds("the range of segment", number);
  return Segment{record.flat_offset, record.raw_offset, record.length};
}

uint64_t LayerIndex::FirstSegmentAfter(uint64_t flat_offset) const {
  return sections_->Search<format::SegmentRecord>(format::kSegments, [&](const auto& record) {
    return record.flat_offset + record.length <= flat_offset;
  });
}

std::string LayerIndex::origin() const {
  const format::Header& header = sections_->header;
  const auto text = sections_->Text(format::kNotes, header.origin_offset, header.origin_length);
  return text.has_value() ? std::string(*text) : std::string();
}

std::vector<std::string> LayerIndex::Warnings() const {
  std::vector<std::string> warnings;
  const uint64_t count = std::min<uint64_t>(sections_->Count(format::kWarnings), kMaxWarnings);
  for (uint64_t i = 0; i < count; ++i) {
    const auto record = sections_->At<format::WarningRecord>(format::kWarnings, i);
    const auto text = sections_->Text(format::kNotes, record.offset, record.length);
    if (text.has_value()) warnings.emplace_back(*text);
  }
  return warnings;
}

}  // namespace lamina
