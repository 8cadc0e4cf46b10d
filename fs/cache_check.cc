#include "fs/cache_check.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "fetch/cache_files.h"
#include "overlay/tree.h"

namespace lamina {
namespace {

using Progress = std::function<bool(uint64_t done, uint64_t of)>;

// So that it is read from the disk. What somebody has mapped stays in memory.
void DropPages(const std::string& path) {
  if (const auto file = OpenFile(path, O_RDONLY))
    ::posix_fadvise(file->get(), 0, 0, POSIX_FADV_DONTNEED);
}

class Check {
 public:
  Check(const CheckParts& parts, const KnownContent* only, const Progress& progress)
      : parts_(parts), only_(only), progress_(progress) {}

  Result<CheckedStore> Run() {
    RETURN_IF_ERROR(Documents());
    RETURN_IF_ERROR(Trees());
    std::vector<LayerStore::KeptLayer> layers = parts_.layers.KeptLayers();
    std::erase_if(layers, [this](const auto& layer) {
      return only_ != nullptr && !only_->layers.contains(layer.digest.PathName());
    });
    of_ = layers.size();
    for (const LayerStore::KeptLayer& layer : layers) {
      RETURN_IF_ERROR(Layer(layer));
      ++done_;
    }
    return std::move(checked_);
  }

 private:
  void Bad(std::string what, std::string name, std::string reason) {
    LogWarning(fmt::format("bad in the store, and dropped: {} {}: {}", what, name, reason));
    checked_.bad.push_back({std::move(what), std::move(name), std::move(reason)});
  }

  // Whoever has the bad file mapped lets go of it.
  void LetGoOfImages() {
    for (const auto& image : parts_.catalog.LiveImages()) parts_.catalog.LetGo(*image);
  }

  // The store itself drops a document that is bad.
  Status Documents() {
    ASSIGN_OR_RETURN(const auto documents, parts_.store.KnownDocuments());
    for (const Store::KnownDocument& known : documents) {
      if (only_ != nullptr && !only_->documents.contains(known.digest)) continue;
      ASSIGN_OR_RETURN(const auto document, parts_.store.GetDocument(known.digest));
      ++checked_.documents;
      if (!document) Bad("document", known.digest.ToString(), "it is not what its digest names");
    }
    return {};
  }

  // Is it the file that is wrong? That it cannot be opened now says nothing of it.
  static bool IsBad(const Error& error) {
    return error.code == Code::kCorrupt || error.code == Code::kInvalid ||
           error.code == Code::kUnsupported;
  }

  Status Trees() {
    std::error_code ignored;
    for (const auto& item :
         std::filesystem::directory_iterator(parts_.paths.TreeFolder(), ignored)) {
      if (item.path().extension() != ".erofs") continue;
      if (only_ != nullptr && !only_->trees.contains(item.path().stem().string())) continue;
      DropPages(item.path().string());
      const auto tree = Tree::Open(item.path().string());
      if (!tree && tree.error().code == Code::kNotFound) continue;  // collected meanwhile
      ++checked_.trees;
      if (tree) continue;
      if (!IsBad(tree.error())) return tree.error();
      ::unlink(item.path().c_str());
      LetGoOfImages();
      Bad("tree", item.path().filename().string(), tree.error().message);
    }
    return {};
  }

  Status Layer(const LayerStore::KeptLayer& kept) {
    const Digest& digest = kept.digest;
    DropPages(parts_.paths.Index(digest));
    const auto index = LayerIndex::Open(parts_.paths.Index(digest), digest);
    if (!index && index.error().code == Code::kNotFound) return {};  // nothing leads to its chunks
    ++checked_.indexes;
    if (!index && !IsBad(index.error())) return index.error();
    if (!index) {
      ::unlink(parts_.paths.Index(digest).c_str());
      LetGoOfImages();
      parts_.layers.LetGo(digest);
      Bad("index", digest.ToString(), index.error().message);
      return {};
    }
    return kept.cache_bytes > 0 ? Chunks(digest, (*index)->facts()) : Status();
  }

  Status Chunks(const Digest& digest, const LayerFacts& facts) {
    // A pair of files that does not fit is dropped when it is opened, which only the log tells.
    const CachePaths paths(parts_.paths.CacheFolder(), digest);
    const ChunkShape shape{facts.chunk_count, facts.flat_size};
    const Status fits = CacheFiles::Check(paths, shape);
    if (!fits && fits.error().code == Code::kCorrupt)
      Bad("map", digest.ToString(), fits.error().message);
    const auto layer = parts_.layers.OpenStored(digest);
    // Collected meanwhile; or refused, and then nothing of it is served.
    if (!layer && (layer.error().code == Code::kNotFound || IsBad(layer.error()))) return {};
    if (!layer) return layer.error();
    ASSIGN_OR_RETURN(const LayerCache::Verified verified,
                     (*layer)->cache().Verify([this](uint64_t) { return progress_(done_, of_); }));
    checked_.chunks += verified.chunks;
    checked_.bytes += verified.bytes;
    for (const uint64_t chunk : verified.bad)
      Bad("chunk", digest.ToString(), fmt::format("chunk {} does not have its checksum", chunk));
    return {};
  }

  const CheckParts& parts_;
  const KnownContent* const only_;
  const Progress& progress_;
  uint64_t done_ = 0;
  uint64_t of_ = 0;
  CheckedStore checked_;
};

}  // namespace

Result<CheckedStore> CheckKept(const CheckParts& parts, const KnownContent* only,
                               const Progress& progress) {
  return Check(parts, only, progress).Run();
}

}  // namespace lamina
