// Any bytes as an index file whose checksums are not looked at: nothing may be read out of bounds,
// and no walk may go on without an end.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "index/layer_index.h"
#include "index/layer_index_format.h"

namespace {

using namespace lamina;

constexpr uint64_t kMost = 500;

// Reads every byte of a view, so that a sanitizer sees it.
uint64_t Sum(std::string_view text) {
  uint64_t sum = 0;
  for (const char c : text) sum += static_cast<unsigned char>(c);
  return sum;
}

uint64_t Walk(const LayerIndex& index, uint32_t number, uint64_t* budget) {
  const Result<LayerEntry> entry = index.Entry(number);
  if (!entry.has_value() || *budget == 0) return 0;
  --*budget;
  uint64_t sum = Sum(entry->name) + Sum(entry->link_path);
  if (entry->kind == LayerEntry::Kind::kInode) {
    const Result<LayerInode> inode = index.Inode(entry->inode);
    if (inode.has_value()) {
      sum += Sum(inode->symlink_target);
      for (uint32_t i = 0; i < std::min<uint64_t>(inode->xattr_count, kMost); ++i) {
        const Result<XattrView> xattr = index.Xattr(inode->xattr_first + i);
        if (xattr.has_value()) sum += Sum(xattr->name) + Sum(xattr->value);
      }
      for (uint32_t i = 0; i < std::min<uint64_t>(inode->extent_count, kMost); ++i)
        sum += index.Extent(inode->extent_first + i).has_value() ? 1 : 0;
    }
  }
  for (uint32_t i = 0; i<entry->child_count&& * budget> 0; ++i)
    sum += Walk(index, entry->first_child + i, budget);
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace format = index_format;
  // Magic, version and length are set right, or hardly any input would get further.
  std::vector<uint8_t> bytes(data, data + size);
  if (bytes.size() >= sizeof(format::Header)) {
    std::copy(format::kMagic.begin(), format::kMagic.end(), bytes.begin());
    StoreLe<uint32_t>(&bytes[offsetof(format::Header, version)], format::kVersion);
    StoreLe<uint64_t>(&bytes[offsetof(format::Header, file_bytes)], bytes.size());
  }
  const auto opened = LayerIndex::FromBytes(bytes, /*check_checksum=*/false);
  if (!opened.has_value()) return 0;
  const LayerIndex& index = **opened;
  uint64_t budget = kMost;
  uint64_t sum = Walk(index, 0, &budget);
  for (uint64_t i = 0; i < std::min(index.facts().chunk_count, kMost); ++i) {
    const Result<ChunkRecord> chunk = index.Chunk(i);
    if (!chunk.has_value()) continue;
    sum += chunk->checksum.value_or(0);
    const Result<CheckpointView> checkpoint = index.CheckpointAt(chunk->checkpoint);
    if (checkpoint.has_value())
      sum += Sum(AsText(checkpoint->lead)) + Sum(AsText(checkpoint->state));
    (void)index.MarkAt(index.FirstMarkFrom(chunk->blob_end)).has_value();
    (void)index.SpanAt(index.FirstSpanAfter(chunk->blob_end)).has_value();
    (void)index.PieceAt(index.FirstPieceAfter(chunk->flat_offset)).has_value();
    (void)index.ChunkAt(chunk->flat_offset).has_value();
    (void)index.SegmentAt(index.FirstSegmentAfter(chunk->flat_offset)).has_value();
  }
  sum += Sum(index.origin());
  for (const std::string& warning : index.Warnings()) sum += Sum(warning);
  return sum == ~uint64_t{0} ? 1 : 0;
}
