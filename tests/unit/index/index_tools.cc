#include "tests/unit/index/index_tools.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "index/chunk_reader.h"
#include "index/chunk_run.h"

namespace lamina::testing {
namespace {

TemporaryFolder MakeFolder() {
  Result<TemporaryFolder> folder = TemporaryFolder::Create("lamina-index-test");
  EXPECT_TRUE(folder.has_value());
  return std::move(folder).value();
}

template <typename T>
T Must(Result<T> result) {
  EXPECT_TRUE(result.has_value()) << result.error().message;
  return std::move(result).value();
}

class TreePrinter {
 public:
  explicit TreePrinter(const IndexedLayer& layer) : layer_(layer) {}

  std::vector<std::string> Print() {
    const LayerEntry root = Must(layer_.index->Entry(0));
    if (root.opaque) lines_.push_back("d(opaque) /");
    Children(root, "");
    return std::move(lines_);
  }

 private:
  void Children(const LayerEntry& directory, const std::string& prefix) {
    std::string last;
    for (uint32_t i = 0; i < directory.child_count; ++i) {
      const LayerEntry entry = Must(layer_.index->Entry(directory.first_child + i));
      EXPECT_TRUE(i == 0 || last < entry.name) << "children are out of order";
      last = entry.name;
      lines_.push_back(Line(entry, prefix + last));
      Children(entry, prefix + last + "/");
    }
  }

  std::string Line(const LayerEntry& entry, const std::string& path) {
    if (entry.kind == LayerEntry::Kind::kWhiteout) return "w " + path;
    if (entry.kind == LayerEntry::Kind::kExternalLink)
      return "> " + path + " " + std::string(entry.link_path);
    const auto [first, added] = seen_.emplace(entry.inode, path);
    if (!added) return "= " + path + " " + first->second;
    const LayerInode inode = Must(layer_.index->Inode(entry.inode));
    const std::string device =
        " " + std::to_string(inode.device_major) + ":" + std::to_string(inode.device_minor);
    switch (inode.type) {
      case EntryType::kDirectory:
        return "d" + Flags(entry) + " " + path;
      case EntryType::kRegular:
        return "f " + path + "=" + ContentOf(layer_, inode);
      case EntryType::kSymlink:
        return "l " + path + "->" + std::string(inode.symlink_target);
      case EntryType::kCharDevice:
        return "c " + path + device;
      case EntryType::kBlockDevice:
        return "b " + path + device;
      case EntryType::kFifo:
        return "p " + path;
      default:
        return "? " + path;
    }
  }

  static std::string Flags(const LayerEntry& entry) {
    const std::string opaque = entry.replaces ? "replaces" : entry.opaque ? "opaque" : "";
    if (!entry.implicit) return opaque.empty() ? "" : "(" + opaque + ")";
    return opaque.empty() ? "(implicit)" : "(implicit," + opaque + ")";
  }

  const IndexedLayer& layer_;
  std::vector<std::string> lines_;
  std::map<uint32_t, std::string> seen_;
};

LayerEntry EntryAt(const IndexedLayer& layer, const std::string& path) {
  LayerEntry entry = Must(layer.index->Entry(0));
  for (const auto& part : std::filesystem::path(path)) {
    bool found = false;
    const LayerEntry directory = entry;
    for (uint32_t i = 0; i < directory.child_count && !found; ++i) {
      entry = Must(layer.index->Entry(directory.first_child + i));
      found = entry.name == part.string();
    }
    EXPECT_TRUE(found) << "no " << path;
  }
  return entry;
}

}  // namespace

Status MemoryBlob::ReadAt(uint64_t offset, MutableByteSpan out, const Deadline&) {
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
    return Error{Code::kInternal, "read behind the end of the blob"};
  std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

Status MemoryBlob::Stream(uint64_t offset, const ByteSink& sink) {
  const ByteSpan all = AsBytes(bytes_);
  while (offset < all.size()) {
    if (before_piece) RETURN_IF_ERROR(before_piece(offset));
    const size_t take = std::min<size_t>(piece_, all.size() - offset);
    RETURN_IF_ERROR(sink({}));  // as a source does while nothing comes
    RETURN_IF_ERROR(sink(all.subspan(offset, take)));
    offset += take;
  }
  return {};
}

void MemorySink::Write(uint64_t flat_offset, ByteSpan bytes) {
  EXPECT_EQ(flat_offset % kFlatAlign, 0u);
  EXPECT_EQ(bytes.size() % kFlatAlign, 0u);
  EXPECT_GT(bytes.size(), 0u);
  EXPECT_GE(flat_offset, end_) << "writes go back";
  for (size_t at = 0; at < bytes.size(); at += kFlatAlign)
    blocks_.emplace(flat_offset + at, AsText(bytes.subspan(at, kFlatAlign)));
  end_ = flat_offset + bytes.size();
  written_ += bytes.size();
}

std::string MemorySink::Read(uint64_t flat_offset, uint64_t length) const {
  std::string out;
  while (out.size() < length) {
    const uint64_t at = flat_offset + out.size();
    const uint64_t block = AlignDown(at, kFlatAlign);
    const uint64_t take = std::min(length - out.size(), block + kFlatAlign - at);
    const auto found = blocks_.find(block);
    out +=
        found == blocks_.end() ? std::string(take, '\0') : found->second.substr(at - block, take);
  }
  return out;
}

IndexLab::IndexLab() : folder_(MakeFolder()) {}

IndexRequest IndexLab::RequestFor(const std::string& blob) {
  return IndexRequest{.blob_digest = Digest::Sha256(AsBytes(blob)),
                      .blob_size = blob.size(),
                      .diff_id = {},
                      .name = "layer 0",
                      .output_path = folder_.path() + "/" + std::to_string(serial_++) + ".idx",
                      .progress = {}};
}

Result<IndexedLayer> IndexLab::Index(const std::string& blob, size_t piece) {
  return Index(blob, RequestFor(blob), piece);
}

Result<IndexedLayer> IndexLab::Index(const std::string& blob, IndexRequest request, size_t piece) {
  IndexedLayer layer{blob, std::make_shared<MemorySink>(), nullptr};
  request.sink = layer.sink.get();
  MemoryBlob source(blob, piece);
  ASSIGN_OR_RETURN(layer.index, IndexLayer(source, request));
  return layer;
}

std::vector<std::string> IndexLab::Files() const {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator(folder_.path()))
    names.push_back(file.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> TreeOf(const IndexedLayer& layer) { return TreePrinter(layer).Print(); }

std::string ContentOf(const IndexedLayer& layer, const LayerInode& inode) {
  if (!inode.sparse) return layer.sink->Read(inode.flat_offset, inode.size);
  std::string content(inode.size, '\0');
  for (uint32_t i = 0; i < inode.extent_count; ++i) {
    const FileExtent extent = Must(layer.index->Extent(inode.extent_first + i));
    content.replace(extent.file_offset, extent.length,
                    layer.sink->Read(extent.flat_offset, extent.length));
  }
  return content;
}

LayerInode InodeAt(const IndexedLayer& layer, const std::string& path) {
  const LayerEntry entry = EntryAt(layer, path);
  EXPECT_EQ(entry.kind, LayerEntry::Kind::kInode) << path;
  return Must(layer.index->Inode(entry.inode));
}

std::map<std::string, std::string> XattrsAt(const IndexedLayer& layer, const std::string& path) {
  const LayerInode inode = InodeAt(layer, path);
  std::map<std::string, std::string> xattrs;
  for (uint32_t i = 0; i < inode.xattr_count; ++i) {
    const XattrView xattr = Must(layer.index->Xattr(inode.xattr_first + i));
    xattrs.emplace(xattr.name, xattr.value);
  }
  return xattrs;
}

// The same chunks, as many by one request as may be.
void ExpectRunsFit(const IndexedLayer& layer) {
  MemoryBlob blob(layer.blob);
  const uint64_t count = layer.index->facts().chunk_count;
  for (uint64_t first = 0; first < count; ++first) {
    if (Must(layer.index->Chunk(first)).zero) continue;
    const uint64_t last = LastOfRun(*layer.index, first, count - 1, kMostJoined);
    std::set<uint64_t> came;
    const ChunkTaker take = [&](uint64_t number, const std::vector<uint8_t>& bytes) {
      const ChunkRecord chunk = Must(layer.index->Chunk(number));
      EXPECT_TRUE(AsText(bytes) == layer.sink->Read(chunk.flat_offset, chunk.flat_length))
          << "chunk " << number;
      EXPECT_TRUE(came.insert(number).second) << "chunk " << number;
    };
    const Status decoded = DecodeRun(*layer.index, first, last, blob,
                                     Deadline::After(std::chrono::minutes(1)), take, nullptr);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
    for (; first < last; ++first)
      EXPECT_EQ(came.contains(first), !Must(layer.index->Chunk(first)).zero) << "chunk " << first;
    EXPECT_TRUE(came.contains(last));
  }
}

void ExpectChunksFit(const IndexedLayer& layer) {
  MemoryBlob blob(layer.blob);
  uint64_t end = 0;
  for (uint64_t number = 0; number < layer.index->facts().chunk_count; ++number) {
    const ChunkRecord chunk = Must(layer.index->Chunk(number));
    ASSERT_EQ(chunk.flat_offset, end) << "chunk " << number;
    end += chunk.flat_length;
    EXPECT_EQ(Must(layer.index->ChunkAt(chunk.flat_offset)), number);
    EXPECT_EQ(Must(layer.index->ChunkAt(end - 1)), number);
    if (chunk.flat_length > kMaxChunkFlat) {
      EXPECT_TRUE(chunk.zero);
      continue;
    }
    std::string bytes(chunk.flat_length, 'x');
    const Status decoded = DecodeChunk(*layer.index, number, blob,
                                       {reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()},
                                       Deadline::After(std::chrono::minutes(1)));
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message;
    EXPECT_TRUE(bytes == layer.sink->Read(chunk.flat_offset, chunk.flat_length))
        << "chunk " << number;
  }
  EXPECT_EQ(end, layer.index->facts().flat_size);
  ExpectRunsFit(layer);
}

}  // namespace lamina::testing
