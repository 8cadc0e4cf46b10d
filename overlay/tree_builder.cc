#include "overlay/tree_builder.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/file.h"
#include "overlay/erofs_writer.h"
#include "overlay/image_layout.h"
#include "overlay/merge.h"

namespace lamina {
namespace {

// Of the rules and the layout: raise it when either changes, and old trees are made again.
constexpr uint32_t kBuilderVersion = 1;
// Device numbers have 16 bits.
constexpr size_t kMaxLayers = 65534;

void UpdateNumber(Hasher* hasher, uint64_t value) {
  std::array<uint8_t, 8> bytes{};
  StoreLe(bytes.data(), value);
  hasher->Update(bytes);
}

// The layers that a tree depends on.
size_t LayersUsed(size_t layers, const TreeOptions& options) {
  return options.only_layer ? std::min(layers, *options.only_layer + 1) : layers;
}

// Merges and writes the file, which is not committed.
Result<AtomicFile> MakeFile(std::span<const std::shared_ptr<const LayerIndex>> layers,
                            const TreeOptions& options, const std::string& path, TreeFacts* facts) {
  BuildWork work(options.step_limit, options.cancel);
  const LayerStack stack(layers.first(LayersUsed(layers.size(), options)));
  std::vector<Digest> digests;
  for (const auto& layer : layers) digests.push_back(layer->facts().blob_digest);
  ASSIGN_OR_RETURN(MergedTree tree, MergeLayers(stack, options, work));
  ASSIGN_OR_RETURN(const ImageLayout layout, PlaceInodes(stack, options, work, &tree));
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  ASSIGN_OR_RETURN(facts->file_bytes,
                   WriteImage(stack, options, work, tree, layout, TreeKey(digests, options),
                              file.fd(), file.temporary_path()));
  facts->inode_count = tree.inodes.size();
  facts->entry_count = tree.names.size() + 1;
  return file;
}

}  // namespace

Digest TreeKey(const std::vector<Digest>& layers, const TreeOptions& options) {
  Hasher hasher;
  hasher.Update(AsBytes("lamina tree\n"));
  UpdateNumber(&hasher, kBuilderVersion);
  UpdateNumber(&hasher, static_cast<uint64_t>(options.created_ns));
  UpdateNumber(&hasher, options.only_layer ? *options.only_layer + 1 : 0);
  // A layer's own tree has nothing of the layers above it, and is shared by images that differ only
  // there.
  const size_t used = LayersUsed(layers.size(), options);
  for (size_t i = 0; i < used; ++i) hasher.Update(AsBytes(layers[i].ToString() + "\n"));
  return hasher.Finish();
}

Result<TreeFacts> BuildTree(std::span<const std::shared_ptr<const LayerIndex>> layers,
                            const TreeOptions& options, const std::string& path) {
  if (layers.size() > kMaxLayers)
    return Error{Code::kLimit, fmt::format("the image has {} layers, more than the limit of {}",
                                           layers.size(), kMaxLayers)};
  if (options.only_layer && *options.only_layer >= layers.size())
    return Error{Code::kInvalid, fmt::format("there is no layer {}, the image has {}",
                                             *options.only_layer, layers.size())};
  TreeFacts facts;
  auto file = MakeFile(layers, options, path, &facts);
  // First: zeros in the place of a page that cannot be read look like other mistakes, or like none.
  for (const auto& layer : layers) {
    const Status intact = layer->Intact();
    if (!intact) return intact.error().Within(layer->facts().blob_digest.ToString());
  }
  if (!file) return std::move(file).error();
  RETURN_IF_ERROR(file->Commit());
  return facts;
}

}  // namespace lamina
