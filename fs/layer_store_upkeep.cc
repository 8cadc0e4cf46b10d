// The part of the LayerStore that looks after what is kept of layers: what is on disk of which,
// opening one without a source, letting go, clearing and collecting.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "fs/layer_chunks.h"
#include "fs/layer_store.h"

namespace lamina {
namespace {

constexpr std::array<std::string_view, 4> kEndings = {".idx", ".refused", ".data", ".map"};

// The layer that a file of index/ or cache/ belongs to; empty for other files.
std::string LayerOfFile(const std::string& name) {
  for (const std::string_view ending : kEndings)
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  return {};
}

}  // namespace

std::vector<LayerStore::KeptLayer> LayerStore::KeptLayers() const {
  std::map<std::string, KeptLayer> kept;
  for (const std::string& folder : {paths_.IndexFolder(), paths_.CacheFolder()}) {
    std::error_code ignored;
    for (const auto& item : std::filesystem::directory_iterator(folder, ignored)) {
      const std::string name = LayerOfFile(item.path().filename().string());
      const auto digest = Digest::FromPathName(name);
      struct stat st {};
      if (!digest || ::lstat(item.path().c_str(), &st) != 0) continue;
      KeptLayer& layer = kept.try_emplace(name, KeptLayer{.digest = *digest}).first->second;
      const bool cached = folder == paths_.CacheFolder();
      (cached ? layer.cache_bytes : layer.index_bytes) += static_cast<uint64_t>(st.st_blocks) * 512;
      layer.changed_ns = std::max(layer.changed_ns,
                                  st.st_mtim.tv_sec * int64_t{1'000'000'000} + st.st_mtim.tv_nsec);
    }
  }
  std::vector<KeptLayer> layers;
  for (auto& [name, layer] : kept) layers.push_back(layer);
  return layers;
}

Result<std::shared_ptr<Layer>> LayerStore::OpenStored(const Digest& digest) {
  LayerRequest request{.descriptor = {"", digest, 0, {}, {}, ""},
                       .diff_id = std::nullopt,
                       .name = "layer " + digest.ToString(),
                       .sources = {},
                       .progress = nullptr};
  if (auto layer = Opened(request)) return layer;
  const auto lease = leases_.Take({Leases::OfLayer(digest)});
  RETURN_IF_ERROR(CheckNotRefused(request));
  ASSIGN_OR_RETURN(auto index, OpenIndex(request));
  return Assemble(request, index);
}

void LayerStore::LetGo(const Digest& digest) {
  std::shared_ptr<Layer> layer;  // closed without the lock
  MutexLock lock(mutex_);
  const auto at = open_.find(digest);
  if (at == open_.end()) return;
  layer = at->second.lock();
  open_.erase(at);
}

bool LayerStore::Collect(const Digest& digest, const std::function<bool()>& may) {
  // Also where a document that would tell whose layer it is has been lost meanwhile.
  if (cache_budget_->IsPinned(digest.PathName())) return false;
  return leases_.Collect(Leases::OfLayer(digest), may, [&] {
    cache_budget_->RemoveClosed(digest.PathName());
    const std::string cached = paths_.CacheFolder() + "/" + digest.PathName();
    if (!FileExists(cached + ".data")) ::unlink((cached + ".map").c_str());
    for (const std::string& path : {paths_.Index(digest), paths_.Refusal(digest)})
      ::unlink(path.c_str());
  });
}

}  // namespace lamina
