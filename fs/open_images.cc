#include "fs/open_images.h"

#include <sys/resource.h>

#include <algorithm>
#include <vector>

#include "fs/image.h"

namespace lamina {
namespace {

// The cache file and its map.
constexpr size_t kDescriptorsOfALayer = 2;

size_t LayersThatFit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
  const auto descriptors = static_cast<size_t>(std::min<rlim_t>(limit.rlim_cur, 1u << 17));
  return descriptors / 2 / kDescriptorsOfALayer;
}

// An image without layers costs something too.
size_t CostOf(const Image& image) { return image.layer_count() + 1; }

}  // namespace

OpenImages::OpenImages() : OpenImages(LayersThatFit()) {}
OpenImages::OpenImages(size_t most_layers) : most_layers_(most_layers) {}
OpenImages::~OpenImages() = default;

std::shared_ptr<Image> OpenImages::Find(const std::string& key) const {
  MutexLock lock(mutex_);
  const auto at = slots_.find(key);
  if (at == slots_.end()) return nullptr;
  at->second.used = ++clock_;
  return at->second.image;
}

OpenImages::Slots::iterator OpenImages::Oldest(const std::string& kept) {
  auto oldest = slots_.end();
  for (auto at = slots_.begin(); at != slots_.end(); ++at)
    if (at->first != kept && (oldest == slots_.end() || at->second.used < oldest->second.used))
      oldest = at;
  return oldest;
}

void OpenImages::Remove(const std::string& key) {
  std::shared_ptr<Image> let_go;  // closed without the lock
  MutexLock lock(mutex_);
  const auto at = slots_.find(key);
  if (at == slots_.end()) return;
  layers_ -= CostOf(*at->second.image);
  let_go = std::move(at->second.image);
  slots_.erase(at);
}

void OpenImages::Put(const std::string& key, std::shared_ptr<Image> image) {
  std::vector<std::shared_ptr<Image>> let_go;  // closed without the lock
  MutexLock lock(mutex_);
  const auto [at, added] = slots_.insert_or_assign(key, Slot{image, ++clock_});
  if (added) layers_ += CostOf(*image);
  while (layers_ > most_layers_) {
    const auto oldest = Oldest(key);
    if (oldest == slots_.end()) return;
    layers_ -= CostOf(*oldest->second.image);
    let_go.push_back(std::move(oldest->second.image));
    slots_.erase(oldest);
  }
}

}  // namespace lamina
