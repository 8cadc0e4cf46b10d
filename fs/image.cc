#include "fs/image.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "fs/known_content.h"
#include "fs/soci_finder.h"

namespace lamina {
namespace {

// Layers of one image that are indexed at the same time.
constexpr size_t kIndexingThreads = 4;

std::string PoolKeyOf(const std::vector<std::shared_ptr<RepositorySource>>& sources) {
  for (const auto& source : sources)
    if (source->pool_key() != "local") return source->pool_key();
  return "local";
}

Leases::Lease LeaseOf(const ImageDocuments& documents, Leases& leases) {
  std::vector<std::string> names{Leases::OfDocument(documents.digest),
                                 Leases::OfDocument(documents.manifest_digest),
                                 Leases::OfDocument(documents.parsed_manifest.config.digest)};
  for (const Descriptor& layer : documents.parsed_manifest.layers)
    names.push_back(Leases::OfLayer(layer.digest));
  return leases.Take(std::move(names));
}

}  // namespace

Image::Image(ImageDocuments documents, std::vector<std::shared_ptr<RepositorySource>> sources,
             LayerStore& layers, StorePaths paths, bool strict)
    : documents_(std::move(documents)),
      sources_(std::move(sources)),
      pool_key_(PoolKeyOf(sources_)),
      layers_(layers),
      paths_(std::move(paths)),
      strict_(strict),
      soci_(std::make_shared<SociFinder>(
          fmt::format("{}@{}", documents_.repository, documents_.digest.ToString()),
          documents_.manifest_digest, documents_.parsed_manifest, sources_)),
      lease_(LeaseOf(documents_, layers.leases())),
      layer_trees_(documents_.parsed_manifest.layers.size()) {
  for (const Descriptor& layer : documents_.parsed_manifest.layers) {
    progress_.push_back(std::make_shared<LayerProgress>());
    progress_.back()->total_bytes = layer.size;
  }
}

Image::~Image() = default;

// --- trees ---------------------------------------------------------------------------------------

std::shared_ptr<MountedTree> Image::OpenedLayerTree(size_t number) const {
  return number < layer_trees_.size() ? layer_trees_[number].shared() : nullptr;
}

Result<std::shared_ptr<MountedTree>> Image::EnsureTree() {
  if (auto tree = tree_.shared()) return tree;
  return opening_.Do(-1, [this]() -> Result<std::shared_ptr<MountedTree>> {
    if (auto tree = tree_.shared()) return tree;
    ASSIGN_OR_RETURN(auto tree, OpenOrBuild(std::nullopt));
    return tree_.Set(std::move(tree));
  });
}

Result<std::shared_ptr<MountedTree>> Image::EnsureLayerTree(size_t number) {
  if (number >= layer_trees_.size())
    return Error{Code::kNotFound, fmt::format("{} has no layer {}", documents_.repository, number)};
  if (auto tree = layer_trees_[number].shared()) return tree;
  return opening_.Do(static_cast<int64_t>(number),
                     [this, number]() -> Result<std::shared_ptr<MountedTree>> {
                       if (auto tree = layer_trees_[number].shared()) return tree;
                       ASSIGN_OR_RETURN(auto tree, OpenOrBuild(number));
                       return layer_trees_[number].Set(std::move(tree));
                     });
}

Result<std::shared_ptr<MountedTree>> Image::OpenOrBuild(std::optional<size_t> only_layer) {
  const size_t count = only_layer ? *only_layer + 1 : layer_count();
  TreeOfImage wanted = TreeOf(documents_.parsed_manifest, documents_.parsed_config, only_layer);
  wanted.options.cancel = &layers_.cancelled();
  for (size_t i = 0; i < count; ++i) RETURN_IF_ERROR(layers_.CheckNotRefused(RequestFor(i)));
  auto lease = layers_.leases().Take({Leases::OfTree(wanted.key)});
  // A strict image's tree may have been merged when its layers were believed.
  if (strict_) RETURN_IF_ERROR(OpenLayers(count));
  auto tree = Tree::Open(paths_.Tree(wanted.key));
  std::vector<std::shared_ptr<Layer>> layers;  // as far as they had to be opened
  if (!tree) {
    if (tree.error().code != Code::kNotFound)
      LogWarning(fmt::format("{}; merging again", tree.error().message));
    tree = BuildTreeFile(wanted, count, &layers);
  }
  if (!tree) {
    const Error error = tree.error().Within(
        fmt::format("{}@{}", documents_.repository, documents_.digest.ToString()));
    SetLastError(error);
    return error;
  }
  auto mounted = std::make_shared<MountedTree>(*std::move(tree), count, std::move(lease));
  for (size_t i = 0; i < layers.size(); ++i) mounted->layers_[i].Set(std::move(layers[i]));
  return mounted;
}

Result<std::shared_ptr<const Tree>> Image::BuildTreeFile(
    const TreeOfImage& wanted, size_t count, std::vector<std::shared_ptr<Layer>>* layers) {
  ASSIGN_OR_RETURN(*layers, OpenLayers(count));
  std::vector<std::shared_ptr<const LayerIndex>> indexes;
  for (const auto& layer : *layers) indexes.push_back(layer->shared_index());
  std::string path = paths_.NewTree(wanted.key);
  auto facts = BuildTree(indexes, wanted.options, path);
  if (!facts && paths_.DiskIsToBlame(path, facts.error())) {
    path = paths_.NewTree(wanted.key);
    facts = BuildTree(indexes, wanted.options, path);
  }
  if (!facts) return std::move(facts).error();
  LogInfo(fmt::format("merged {} layers of {}@{}: {} entries", count, documents_.repository,
                      documents_.digest.ToString(), facts->entry_count));
  return Tree::Open(path);
}

// --- layers --------------------------------------------------------------------------------------

LayerRequest Image::RequestFor(size_t number) const {
  const Descriptor& descriptor = documents_.parsed_manifest.layers[number];
  return {.descriptor = descriptor,
          .diff_id = documents_.parsed_config.diff_ids[number],
          .name = fmt::format("layer {} ({}) of {}", number, descriptor.digest.ToString(),
                              documents_.repository),
          .sources = sources_,
          .progress = progress_[number],
          .strict = strict_,
          .tags = documents_.tags,
          .soci = soci_};
}

// On a thread of its own, so nothing is thrown.
Status Image::OpenLayer(size_t number, std::shared_ptr<Layer>* out) noexcept try {
  ASSIGN_OR_RETURN(*out, layers_.Get(RequestFor(number)));
  return {};
} catch (const std::exception& failure) {
  return Error{Code::kInternal, failure.what()};
}

Result<std::vector<std::shared_ptr<Layer>>> Image::OpenLayers(size_t count) {
  std::vector<std::shared_ptr<Layer>> layers(count);
  std::vector<Status> outcomes(count);
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    for (size_t i = next++; i < count && !failed; i = next++) {
      outcomes[i] = OpenLayer(i, &layers[i]);
      failed = failed || !outcomes[i].has_value();
    }
  };
  std::vector<std::thread> threads;
  try {
    for (size_t i = 1; i < std::min(count, kIndexingThreads); ++i) threads.emplace_back(work);
  } catch (const std::exception& failure) {  // those that run, and this one, do it all
    LogWarning(fmt::format("indexing with {} threads: {}", threads.size() + 1, failure.what()));
  }
  work();
  for (std::thread& thread : threads) thread.join();
  for (Status& outcome : outcomes) RETURN_IF_ERROR(std::move(outcome));
  return layers;
}

Result<std::shared_ptr<Layer>> Image::LayerOf(MountedTree& mounted, uint32_t device) {
  if (device >= mounted.layers_.size())
    return Error{Code::kCorrupt, fmt::format("the tree of {} names a layer that is not there",
                                             documents_.repository)};
  if (auto layer = mounted.layers_[device].shared()) {
    if (layer->refusal() != nullptr) return *layer->refusal();
    return layer;
  }
  ASSIGN_OR_RETURN(auto layer, layers_.Get(RequestFor(device)));
  return mounted.layers_[device].Set(std::move(layer));
}

// The pass over the whole layer, where none has been made.
Result<std::shared_ptr<Layer>> Image::VerifiedLayerOf(MountedTree& mounted, uint32_t device) {
  ASSIGN_OR_RETURN(auto layer, LayerOf(mounted, device));
  if (layer->verified()) return layer;
  LayerRequest request = RequestFor(device);
  request.strict = true;
  ASSIGN_OR_RETURN(layer, layers_.Get(request));
  return mounted.layers_[device].Set(std::move(layer));
}

// Null where its source would have to be asked.
std::vector<std::shared_ptr<Layer>> Image::IndexedLayers() {
  std::vector<std::shared_ptr<Layer>> layers(layer_count());
  for (size_t i = 0; i < layers.size(); ++i) {
    auto layer = layers_.GetIndexed(RequestFor(i));
    if (layer && (!strict_ || (*layer)->verified())) layers[i] = *std::move(layer);
  }
  return layers;
}

// Nothing of it may wait for a source, so the tree is opened only once its layers are.
void Image::OpenIndexed() {
  const auto layers = IndexedLayers();
  const bool all = std::ranges::none_of(layers, [](const auto& layer) { return layer == nullptr; });
  auto tree = tree_.shared();
  if (all && !tree)
    if (auto opened = EnsureTree()) tree = *std::move(opened);
  for (size_t i = 0; tree && i < layers.size(); ++i)
    if (layers[i]) tree->layers_[i].Set(layers[i]);
  opened_indexed_ = true;
}

// --- reading -------------------------------------------------------------------------------------

Result<bool> Image::TryReadFile(const MountedTree& mounted, Nid nid, uint64_t offset,
                                MutableByteSpan out, size_t* got) const {
  ASSIGN_OR_RETURN(const TreeAttr attr, mounted.tree().Stat(nid));
  *got = offset >= attr.size ? 0 : std::min<uint64_t>(out.size(), attr.size - offset);
  for (size_t done = 0; done < *got;) {
    ASSIGN_OR_RETURN(const DataExtent extent, mounted.tree().Map(nid, offset + done));
    const MutableByteSpan part = out.subspan(done, std::min<uint64_t>(*got - done, extent.length));
    done += part.size();
    if (extent.hole) {
      std::memset(part.data(), 0, part.size());
      continue;
    }
    const Layer* layer =
        extent.device < mounted.layers_.size() ? mounted.layers_[extent.device].get() : nullptr;
    if (layer == nullptr || !layer->cache().Ready(extent.flat_offset, part.size())) return false;
    if (layer->refusal() != nullptr) return *layer->refusal();
    // A cache file that was cut or lost under us is not the reader's trouble: the slow path repairs
    // it.
    if (!layer->cache().ReadReady(extent.flat_offset, part)) return false;
  }
  return true;
}

Result<size_t> Image::ReadFile(MountedTree& mounted, Nid nid, uint64_t offset, MutableByteSpan out,
                               const Deadline& deadline) {
  ASSIGN_OR_RETURN(const TreeAttr attr, mounted.tree().Stat(nid));
  const size_t want = offset >= attr.size ? 0 : std::min<uint64_t>(out.size(), attr.size - offset);
  for (size_t done = 0; done < want;) {
    ASSIGN_OR_RETURN(const DataExtent extent, mounted.tree().Map(nid, offset + done));
    const MutableByteSpan part = out.subspan(done, std::min<uint64_t>(want - done, extent.length));
    done += part.size();
    if (extent.hole) {
      std::memset(part.data(), 0, part.size());
      continue;
    }
    ASSIGN_OR_RETURN(const auto layer, LayerOf(mounted, extent.device));
    RETURN_IF_ERROR(layer->cache().Read(extent.flat_offset, part, deadline));
  }
  return want;
}

Result<std::optional<Image::Provenance>> Image::ProvenanceOf(MountedTree& mounted, Nid nid) {
  ASSIGN_OR_RETURN(const TreeAttr attr, mounted.tree().Stat(nid));
  if (attr.type != EntryType::kRegular || attr.size == 0) return std::optional<Provenance>();
  std::optional<Provenance> found;
  for (uint64_t offset = 0; offset < attr.size;) {
    ASSIGN_OR_RETURN(const DataExtent extent, mounted.tree().Map(nid, offset));
    const uint64_t length = std::min(extent.length, attr.size - offset);
    offset += length;
    if (extent.hole || extent.device >= mounted.layer_count()) continue;
    if (!found) {
      found = {extent.device, documents_.parsed_manifest.layers[extent.device].digest, true};
      if (mounted.layers_[extent.device].get() == nullptr) {
        if (auto layer = layers_.GetIndexed(RequestFor(extent.device)))
          mounted.layers_[extent.device].Set(*std::move(layer));
      }
    }
    const Layer* layer = mounted.layers_[extent.device].get();
    if (layer == nullptr || !layer->cache().Ready(extent.flat_offset, length)) found->local = false;
  }
  return found;
}

std::optional<std::string> Image::last_error() const {
  MutexLock lock(status_mutex_);
  return last_error_.empty() ? std::nullopt : std::optional(last_error_);
}

void Image::SetLastError(const Error& error) {
  MutexLock lock(status_mutex_);
  last_error_ = fmt::format("{} ({})", error.message, CodeName(error.code));
  last_error_ns_ = WallClock::System().NowNs();
}

}  // namespace lamina
