#include "index/layer_index_writer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/file.h"
#include "index/packed_tree.h"

namespace lamina {

namespace format = index_format;

namespace {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

template <size_t... I>
std::array<Spool, sizeof...(I)> MakeSpools(const std::string& folder, const MakeRoom& make_room,
                                           std::index_sequence<I...>) {
  return {((void)I, Spool(folder, make_room))...};
}

template <typename Record>
ByteSpan BytesOf(const Record& record) {
  return {reinterpret_cast<const uint8_t*>(&record), sizeof record};
}

void StoreDigest(const Digest& digest, uint8_t* algorithm, std::array<uint8_t, 64>* bytes) {
  *algorithm = static_cast<uint8_t>(digest.algorithm());
  std::copy(digest.bytes().begin(), digest.bytes().end(), bytes->begin());
}

constexpr std::array<uint8_t, format::kSectionAlign> kZeros{};

// Appends to the file being written and sums up what it appended.
class BodyWriter {
 public:
  BodyWriter(int fd, const std::string& path) : fd_(fd), path_(path) {}
  Status Append(ByteSpan bytes) {
    RETURN_IF_ERROR(PwriteExactly(fd_, bytes, at_, path_));
    crc_ = Crc32c(bytes, crc_);
    at_ += bytes.size();
    return {};
  }
  uint32_t crc() const { return crc_; }
  uint64_t at() const { return at_; }

 private:
  const int fd_;
  const std::string& path_;
  uint64_t at_ = sizeof(format::Header);
  uint32_t crc_ = Crc32c({});
};

}  // namespace

LayerIndexWriter::LayerIndexWriter(std::string path, MakeRoom make_room)
    : path_(std::move(path)),
      folder_(FolderOf(path_)),
      make_room_(std::move(make_room)),
      sections_(
          MakeSpools(folder_, make_room_, std::make_index_sequence<format::kSectionCount>())) {}

Result<uint32_t> LayerIndexWriter::NumberOf(format::Section section) const {
  const uint64_t count = sections_[section].size() / format::kRecordBytes[section];
  if (count >= std::numeric_limits<uint32_t>::max())
    return Error{Code::kLimit, "a layer index holds at most 4294967295 records of one kind"};
  return static_cast<uint32_t>(count);
}

Result<uint32_t> LayerIndexWriter::AddExtent(const FileExtent& extent) {
  ASSIGN_OR_RETURN(const uint32_t number, NumberOf(format::kExtents));
  RETURN_IF_ERROR(sections_[format::kExtents].AppendRecord(
      format::ExtentRecord{extent.file_offset, extent.flat_offset, extent.length}));
  return number;
}

Result<uint32_t> LayerIndexWriter::AddXattr(std::string_view name, std::string_view value) {
  ASSIGN_OR_RETURN(const uint32_t number, NumberOf(format::kXattrs));
  ASSIGN_OR_RETURN(const StringPlace first, AddString(name));
  ASSIGN_OR_RETURN(const StringPlace second, AddString(value));
  RETURN_IF_ERROR(sections_[format::kXattrs].AppendRecord(
      format::XattrRecord{first.offset, first.length, second.length}));
  return number;
}

Result<uint32_t> LayerIndexWriter::AddCheckpoint(const Checkpoint& checkpoint, ByteSpan lead) {
  ASSIGN_OR_RETURN(const uint32_t number, NumberOf(format::kCheckpoints));
  Spool& states = sections_[format::kStates];
  RETURN_IF_ERROR(sections_[format::kCheckpoints].AppendRecord(format::CheckpointRecord{
      checkpoint.raw_offset, checkpoint.blob_offset, states.size(),
      static_cast<uint32_t>(lead.size()), static_cast<uint32_t>(checkpoint.state.size())}));
  RETURN_IF_ERROR(states.Append(lead));
  RETURN_IF_ERROR(states.Append(checkpoint.state));
  return number;
}

Status LayerIndexWriter::AddMark(const BlobMark& mark) {
  return sections_[format::kMarks].AppendRecord(format::MarkRecord{mark.blob_offset, mark.state});
}

Status LayerIndexWriter::AddSpan(const BlobSpan& span) {
  return sections_[format::kSpans].AppendRecord(
      format::SpanRecord{span.blob_begin, span.blob_end, span.sha256});
}

Status LayerIndexWriter::AddPiece(const FlatPiece& piece) {
  return sections_[format::kPieces].AppendRecord(
      format::PieceRecord{piece.flat_offset, piece.length, piece.blob_offset, piece.blob_end,
                          piece.inner_offset, piece.sha256});
}

Result<uint32_t> LayerIndexWriter::AddInode(const format::InodeRecord& inode) {
  ASSIGN_OR_RETURN(const uint32_t number, NumberOf(format::kInodes));
  RETURN_IF_ERROR(sections_[format::kInodes].AppendRecord(inode));
  return number;
}

Status LayerIndexWriter::AddEntry(const format::EntryRecord& entry) {
  return sections_[format::kEntries].AppendRecord(entry);
}

Status LayerIndexWriter::AddNames(std::string_view names) {
  return sections_[format::kNames].Append(AsBytes(names));
}

Status LayerIndexWriter::AddChunk(const ChunkRecord& chunk) {
  const uint32_t flags =
      (chunk.zero ? format::kChunkZero : 0) | (chunk.checksum ? format::kChunkChecked : 0);
  return sections_[format::kChunks].AppendRecord(format::ChunkRecordBytes{
      chunk.flat_offset, chunk.flat_length, chunk.raw_begin, chunk.raw_end, chunk.blob_end,
      chunk.checkpoint, flags, chunk.checksum.value_or(0), 0});
}

Status LayerIndexWriter::AddSegment(const Segment& segment) {
  return sections_[format::kSegments].AppendRecord(
      format::SegmentRecord{segment.flat_offset, segment.raw_offset, segment.length});
}

Result<StringPlace> LayerIndexWriter::AddString(std::string_view text) {
  const StringPlace place{sections_[format::kStrings].size(), static_cast<uint32_t>(text.size())};
  RETURN_IF_ERROR(sections_[format::kStrings].Append(AsBytes(text)));
  return place;
}

Result<std::string> LayerIndexWriter::ReadString(StringPlace place) const {
  std::string text(place.length, '\0');
  RETURN_IF_ERROR(sections_[format::kStrings].Read(
      place.offset, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

Result<StringPlace> LayerIndexWriter::AddNote(std::string_view text) {
  const StringPlace place{sections_[format::kNotes].size(), static_cast<uint32_t>(text.size())};
  RETURN_IF_ERROR(sections_[format::kNotes].Append(AsBytes(text)));
  return place;
}

Status LayerIndexWriter::AddWarnings(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) {
    ASSIGN_OR_RETURN(const StringPlace place, AddNote(warning));
    RETURN_IF_ERROR(sections_[format::kWarnings].AppendRecord(
        format::WarningRecord{place.offset, place.length}));
  }
  return {};
}

format::Header LayerIndexWriter::MakeHeader(const LayerFacts& facts, StringPlace origin) const {
  format::Header header;
  StoreDigest(facts.blob_digest, &header.blob_algorithm, &header.blob_digest);
  StoreDigest(facts.diff_id, &header.diff_algorithm, &header.diff_id);
  header.compression = static_cast<uint8_t>(facts.compression);
  header.kind = static_cast<uint8_t>(facts.kind);
  header.blob_size = facts.blob_size;
  header.raw_size = facts.raw_size;
  header.flat_size = facts.flat_size;
  header.origin_offset = origin.offset;
  header.origin_length = origin.length;
  uint64_t at = sizeof header;
  for (size_t i = 0; i < format::kSectionCount; ++i) {
    if (i == format::kFirstPacked) header.packed_offset = std::exchange(at, 0);
    const uint64_t bytes = sections_[i].size();
    header.sections[i] = {at, bytes / format::kRecordBytes[i]};
    at = AlignUp(at + bytes, format::kSectionAlign);
  }
  header.tree_bytes = at;
  return header;
}

Result<AtomicFile> LayerIndexWriter::Write(const LayerFacts& facts, std::string_view origin,
                                           const std::vector<std::string>& warnings) {
  RETURN_IF_ERROR(AddWarnings(warnings));
  ASSIGN_OR_RETURN(const StringPlace origin_place, AddNote(origin));
  const format::Header header = MakeHeader(facts, origin_place);
  return WithRoom(make_room_, [&] { return WriteFile(header); });
}

Result<AtomicFile> LayerIndexWriter::WriteFile(format::Header header) const {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path_));
  BodyWriter body(file.fd(), path_);
  PackedWriter packed([&](ByteSpan bytes) { return body.Append(bytes); });
  for (size_t i = 0; i < format::kSectionCount; ++i) {
    const bool plain = i < format::kFirstPacked;
    const auto append = [&](ByteSpan bytes) {
      return plain ? body.Append(bytes) : packed.Append(bytes);
    };
    RETURN_IF_ERROR(sections_[i].ForEach(append));
    const uint64_t at = plain ? body.at() : packed.taken();
    RETURN_IF_ERROR(append(ByteSpan(kZeros).first(AlignUp(at, format::kSectionAlign) - at)));
  }
  RETURN_IF_ERROR(packed.Finish());
  if (packed.taken() != header.tree_bytes)
    return Error{Code::kInternal, "the layer index came out longer than it was laid out"};
  header.packed_bytes = body.at() - header.packed_offset;
  header.file_bytes = body.at();
  header.body_crc = body.crc();
  header.header_crc = Crc32c(BytesOf(header));
  RETURN_IF_ERROR(PwriteExactly(file.fd(), BytesOf(header), 0, path_));
  return file;
}

}  // namespace lamina
