#pragma once

// OpenImages: the images that are kept open, the most recently used ones. Each of their layers
// costs file descriptors and mappings, so what nobody has used for longest is let go; whoever still
// holds an image keeps it alive. Any thread; never waits.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"

namespace lamina {

class Image;

class OpenImages {
 public:
  // As many layers as half of the file descriptors that the process may have allows.
  OpenImages();
  explicit OpenImages(size_t most_layers);
  ~OpenImages();

  // Null where it is not open. It then counts as used now.
  std::shared_ptr<Image> Find(const std::string& key) const;
  // Lets go of others until all layers together are within the bound; the new one always stays.
  void Put(const std::string& key, std::shared_ptr<Image> image);
  void Remove(const std::string& key);

 private:
  struct Slot {
    std::shared_ptr<Image> image;
    mutable uint64_t used = 0;  // larger is later
  };
  using Slots = std::map<std::string, Slot>;
  // The one used longest ago, but for `kept`.
  Slots::iterator Oldest(const std::string& kept) REQUIRES(mutex_);

  const size_t most_layers_;
  mutable Mutex mutex_;  // leaf
  mutable uint64_t clock_ GUARDED_BY(mutex_) = 0;
  Slots slots_ GUARDED_BY(mutex_);
  size_t layers_ GUARDED_BY(mutex_) = 0;
};

}  // namespace lamina
