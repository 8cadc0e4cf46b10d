#pragma once

// ScriptedLayer: an image of one layer with the store that it is read into, and checks of what
// sources give of it: each is an error of the source, or fails the test where a byte is wrong. What
// is right is computed here from the layer's files. One thread.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "fetch/repository_source.h"
#include "fs/layer_store.h"
#include "tests/fakes/scripted_registry.h"

namespace lamina::testing {

class ScriptedLayer {
 public:
  enum class Packing { kNone, kGzip, kZstd };
  explicit ScriptedLayer(Packing packing);
  // Of files of these sizes.
  ScriptedLayer(Packing packing, const std::vector<size_t>& sizes);

  const fakes::ScriptedImage& image() const { return made_->image; }
  const Descriptor& descriptor() const { return made_->layer; }
  uint64_t flat_size() const { return made_->flat.size(); }
  const std::string& flat() const { return made_->flat; }
  const StorePaths& paths() const { return paths_; }

  Status CheckTag(RepositorySource& source) const;
  Status CheckManifest(RepositorySource& source) const;
  Status CheckConfig(RepositorySource& source) const;
  // Opens the layer, streaming it where it has no index, and reads all of it.
  Status CheckPass(const std::shared_ptr<RepositorySource>& source);
  Status CheckRead(const std::shared_ptr<RepositorySource>& source, uint64_t offset,
                   uint64_t length);
  // A new process without the bytes of the layer; the index stays.
  void ForgetBytes();
  // A new process.
  void Restart();
  LayerStore& store() { return *store_; }
  LayerRequest Request(const std::shared_ptr<RepositorySource>& source) const;

 private:
  // The bytes and what is known of them, made once for each packing.
  struct Made {
    std::string flat;
    Digest diff_id;
    Descriptor layer;
    Descriptor config;
    fakes::ScriptedImage image;
  };
  using MadePtr = std::shared_ptr<const Made>;
  static MadePtr Make(Packing packing, const std::vector<size_t>& sizes);
  static MadePtr MakeOnce(Packing packing);
  explicit ScriptedLayer(MadePtr made);

  const MadePtr made_;
  TemporaryFolder folder_;
  StorePaths paths_;
  std::unique_ptr<LayerStore> store_;
  std::shared_ptr<Layer> open_;
};

}  // namespace lamina::testing
