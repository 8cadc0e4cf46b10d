// The part of the Catalog that tells what is kept: the layers of pinned images, as far as their
// documents are known here, are not evicted; images that somebody has open are known by name.

#include <fmt/core.h>

#include <algorithm>

#include "base/log.h"
#include "fs/catalog.h"

namespace lamina {

// --- pins ----------------------------------------------------------------------------------------

// Under a lock over the reading, or an older answer could be the last to be set. Where the store
// does not answer, what was pinned stays pinned.
void Catalog::UpdatePins() {
  MutexLock lock(pins_mutex_);
  const auto pins = store_.PinnedImages();
  if (!pins) return LogWarning("which images are pinned cannot be told: " + pins.error().message);
  std::set<Digest> images;
  for (const Store::PinnedImage& pin : *pins) images.insert(pin.digest);
  std::erase_if(pins_, [&](const auto& pin) { return !images.contains(pin.first); });
  for (const auto& [image, content] : pins_) images.erase(image);
  ApplyPins(images);
}

// A document has come, which may be one of a pinned image.
void Catalog::LearnPins(const Digest& document) {
  MutexLock lock(pins_mutex_);
  std::set<Digest> images;
  for (const auto& [image, content] : pins_)
    if (content.missing.contains(document)) images.insert(image);
  if (!images.empty()) ApplyPins(images);
}

// Reads what these images are made of.
void Catalog::ApplyPins(const std::set<Digest>& images) {
  for (const Digest& image : images) {
    KnownContent content;
    if (const Status known = AddKnownContent(store_, image, &content); !known) {
      LogWarning("the layers of pinned images cannot be told: " + known.error().message);
      return;
    }
    pins_[image] = std::move(content);
  }
  std::set<std::string> layers;
  for (const auto& [image, content] : pins_)
    layers.insert(content.layers.begin(), content.layers.end());
  layers_.SetPinned(std::move(layers));
}

Result<Store::PinRow> Catalog::Pin(const std::string& reference, const Resolution& resolution) {
  // Its documents are needed to know its layers.
  ASSIGN_OR_RETURN(const auto image, OpenImage(resolution.repository, resolution.digest));
  const Store::PinRow pin{resolution.repository, image->documents().digest, reference,
                          clock_.NowNs()};
  RETURN_IF_ERROR(store_.PutPin(pin));
  UpdatePins();
  return pin;
}

// What a reference names as far as is known here; an alias may lead to another repository.
std::optional<Store::PinnedImage> Catalog::ImageOf(const Reference& reference) {
  const std::string repository = reference.repository.ToString();
  if (reference.digest)
    return Store::PinnedImage{
        repository, ImageOfId(repository, *reference.digest, true).value_or(*reference.digest)};
  const auto last = LastAnswer(repository, reference.tag_or_latest());
  if (!last) return std::nullopt;
  return Store::PinnedImage{last->repository, last->digest};
}

Result<std::vector<Store::PinRow>> Catalog::Unpin(const Reference& reference) {
  const std::string text = reference.ToString();
  const auto image = ImageOf(reference);
  ASSIGN_OR_RETURN(std::vector<Store::PinRow> pins, store_.Pins());
  std::erase_if(pins, [&](const Store::PinRow& pin) {
    return pin.reference != text && Store::PinnedImage{pin.repository, pin.digest} != image;
  });
  if (pins.empty()) return Error{Code::kNotFound, fmt::format("{} is not pinned", text)};
  for (const Store::PinRow& pin : pins)
    RETURN_IF_ERROR(store_.RemovePin(pin.repository, pin.digest));
  UpdatePins();
  return pins;
}

Result<bool> Catalog::IsPinned(const std::string& repository, const Digest& digest) {
  ASSIGN_OR_RETURN(const auto pins, store_.PinnedImages());
  return std::ranges::find(pins, Store::PinnedImage{repository, digest}) != pins.end();
}

// --- open images ---------------------------------------------------------------------------------

std::vector<std::shared_ptr<Image>> Catalog::LiveImages() const {
  std::vector<std::shared_ptr<Image>> images;  // what dies here dies without the lock
  MutexLock lock(mutex_);
  for (const auto& known : live_images_)
    if (auto image = known.lock()) images.push_back(std::move(image));
  return images;
}

void Catalog::SetKeepers(Keepers keepers) {
  MutexLock lock(mutex_);
  keepers_ = std::move(keepers);
}

Result<std::vector<std::string>> Catalog::HeldImages() const {
  std::function<Result<std::vector<std::string>>()> held;
  {
    MutexLock lock(mutex_);
    held = keepers_.held;
  }
  return held ? held() : std::vector<std::string>();
}

uint64_t Catalog::Namings() const {
  std::function<uint64_t()> held_changes;
  {
    MutexLock lock(mutex_);
    held_changes = keepers_.held_changes;
  }
  return store_.Namings() + (held_changes ? held_changes() : 0);
}

void Catalog::LetGo(const Image& image) {
  const ImageDocuments& documents = image.documents();
  images_.Remove(fmt::format("{}@{}", documents.repository, documents.digest.ToString()));
  std::function<void(const Image&)> let_go;
  {
    MutexLock lock(mutex_);
    let_go = keepers_.let_go;
  }
  if (let_go) let_go(image);
}

}  // namespace lamina
