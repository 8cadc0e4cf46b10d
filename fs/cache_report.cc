#include "fs/cache_report.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/file.h"
#include "fetch/cache_files.h"
#include "fetch/disk_room.h"
#include "fetch/sparse_file.h"

namespace lamina {
namespace {

uint64_t DiskBytesIn(const std::string& folder) {
  uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
    struct stat st {};
    if (::lstat(item.path().c_str(), &st) == 0) bytes += static_cast<uint64_t>(st.st_blocks) * 512;
  }
  return bytes;
}

struct Chunks {
  uint64_t present = 0;
  uint64_t total = 0;
  uint64_t compressed = 0;
  uint64_t compressed_from = 0;  // bytes
  uint64_t compressed_to = 0;    // bytes, in blocks
};

void CountForm(const ChunkForm& form, const ChunkRecord& chunk, Chunks* chunks) {
  ++chunks->present;
  if (form.compression == CacheCompression::kNone) return;
  ++chunks->compressed;
  chunks->compressed_from += chunk.flat_length;
  chunks->compressed_to += (form.length + kHoleBlock - 1) / kHoleBlock * kHoleBlock;
}

// By its chunk table alone: the index is mapped and its checksum not looked at, since nothing of it
// is believed but for a figure.
Result<Chunks> ChunksOf(const StorePaths& paths, const Digest& layer) {
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(paths.Index(layer)));
  ASSIGN_OR_RETURN(const auto index, LayerIndex::FromBytes(file.bytes(), /*check_checksum=*/false));
  const LayerFacts& facts = index->facts();
  const auto map = ChunkMap::Load(CachePaths(paths.CacheFolder(), layer).map,
                                  {facts.chunk_count, facts.flat_size}, O_RDONLY);
  Chunks chunks;
  for (uint64_t number = 0; number < facts.chunk_count; ++number) {
    ASSIGN_OR_RETURN(const ChunkRecord chunk, index->Chunk(number));
    if (chunk.zero) continue;
    ++chunks.total;
    const auto form = map ? (*map)->Form(number) : std::nullopt;
    if (form) CountForm(*form, chunk, &chunks);
  }
  return chunks;
}

}  // namespace

Result<CacheReport> ReportCache(const StorePaths& paths, Store& store, const LayerStore& layers) {
  CacheReport report;
  if (const auto folder = OpenFile(paths.CacheFolder(), O_RDONLY | O_DIRECTORY))
    if (const auto disk = MeasureDisk(folder->get())) report.disk_free = disk->available;
  for (const LayerStore::KeptLayer& layer : layers.KeptLayers()) {
    report.index_bytes += layer.index_bytes;
    if (layers.cache_budget().IsPinned(layer.digest.PathName()))
      report.pinned_bytes += layer.cache_bytes;
    const auto chunks = ChunksOf(paths, layer.digest);
    if (!chunks) continue;  // no index, or a bad one: nothing of it can be told
    report.chunks_present += chunks->present;
    report.chunks_total += chunks->total;
    report.chunks_compressed += chunks->compressed;
    report.compressed_from += chunks->compressed_from;
    report.compressed_to += chunks->compressed_to;
    if (chunks->present == chunks->total)
      ++report.layers_whole;
    else
      ++(chunks->present > 0 ? report.layers_part : report.layers_none);
  }
  report.tree_bytes = DiskBytesIn(paths.TreeFolder());
  ASSIGN_OR_RETURN(const auto documents, store.KnownDocuments());
  for (const Store::KnownDocument& document : documents) report.document_bytes += document.size;
  return report;
}

}  // namespace lamina
