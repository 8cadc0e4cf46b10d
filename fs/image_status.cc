// status.json: what is known of an image, in words that a person can act on.

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "fs/image.h"

namespace lamina {
namespace {

using Json = nlohmann::ordered_json;

const char* LazinessOf(const LayerFacts& facts) {
  switch (facts.kind) {
    case IndexKind::kStargz:
    case IndexKind::kZstdChunked:
      return "any piece of a file, by the layer's own table of contents";
    case IndexKind::kSoci:
      return "any span, by the checkpoints of a SOCI index";
    case IndexKind::kOwn:
      break;
  }
  switch (facts.compression) {
    case Compression::kNone:
      return "any range, uncompressed";
    case Compression::kGzip:
      return "any range, by inflate checkpoints made when it was indexed here";
    case Compression::kZstd:
      // A window of some MiB would have to be kept for each place inside a frame.
      return facts.checkpoint_count > 1
                 ? "by zstd frame"
                 : "not lazy: one zstd frame, which is decoded from its start up to what the cache "
                   "lacks";
  }
  return "";
}

const char* VerifiedBy(IndexKind kind) {
  switch (kind) {
    case IndexKind::kStargz:
    case IndexKind::kZstdChunked:
      return "each piece by its digest in the table of contents when read; the whole layer not yet";
    case IndexKind::kSoci:
      return "each compressed span by its digest in the zTOC when read; the whole layer not yet";
    case IndexKind::kOwn:
      break;
  }
  return "blob digest and diff id when indexed; what is fetched again by states of the blob digest";
}

Json OpenLayerJson(const Layer& layer) {
  const LayerFacts& facts = layer.index().facts();
  const LayerCache::Usage usage = layer.cache().usage();
  Json json{
      {"compression", CompressionName(facts.compression)},
      {"lazy", LazinessOf(facts)},
      {"index", IndexKindName(facts.kind)},
      {"index_from", layer.index().origin()},
      {"verified", VerifiedBy(facts.kind)},
      {"verified_whole", layer.verified()},
      {"cold_read_bytes", {{"mean", layer.cold_read().mean}, {"most", layer.cold_read().most}}},
      {"diff_id", facts.diff_id.ToString()},
      {"entries", facts.entry_count},
      {"flat_bytes", facts.flat_size},
      {"index_bytes", layer.index().file_bytes()},
      {"chunks", usage.chunks_total},
      {"chunks_local", usage.chunks_present},
      {"bytes_local", usage.bytes_present},
      {"disk_bytes", usage.disk_bytes}};
  json["not_kept"] = nullptr;
  if (const auto not_kept = layer.cache().not_kept())
    json["not_kept"] = {{"reason", not_kept->reason}, {"time", Rfc3339(not_kept->at_ns)}};
  if (layer.refusal() != nullptr) json["refused"] = layer.refusal()->message;
  if (auto warnings = layer.index().Warnings(); !warnings.empty()) json["warnings"] = warnings;
  return json;
}

// Why nothing new lasts, where the disk of the store is full, read-only or broken.
Json RefusalJson(const std::optional<SpareFolder::Refusal>& refusal) {
  if (!refusal) return nullptr;
  return {{"reason", refusal->reason}, {"since", Rfc3339(refusal->since_ns)}};
}

}  // namespace

std::string Image::StatusJson(const std::vector<std::string>& aliases) const {
  Json layers = Json::array();
  const auto tree = tree_.shared();
  for (size_t i = 0; i < layer_count(); ++i) {
    const Descriptor& descriptor = documents_.parsed_manifest.layers[i];
    Json json{{"digest", descriptor.digest.ToString()},
              {"size", descriptor.size},
              {"media_type", descriptor.media_type}};
    if (tree && tree->layers_[i].get() != nullptr)
      json.update(OpenLayerJson(*tree->layers_[i].get()));
    else if (!tree)
      json["indexing"] = {{"done", progress_[i]->done_bytes.load()}, {"of", descriptor.size}};
    layers.push_back(std::move(json));
  }
  Json layers_from = Json::array();
  for (const auto& source : sources_) layers_from.push_back(source->origin());
  Json json{{"repository", documents_.repository},
            {"digest", documents_.digest.ToString()},
            {"manifest_digest", documents_.manifest_digest.ToString()},
            {"platform", documents_.parsed_config.platform.ToString()},
            {"origin", documents_.origin},
            {"local", documents_.local},
            {"aliases", aliases},
            {"layers_from", layers_from},
            {"tree", tree ? "ready" : "not merged yet"},
            {"store_refuses", RefusalJson(paths_.DiskRefusal())}};
  if (tree) json["inodes"] = tree->tree().inode_count();
  json["layers"] = std::move(layers);
  MutexLock lock(status_mutex_);
  json["last_error"] = nullptr;
  if (!last_error_.empty())
    json["last_error"] = {{"message", last_error_}, {"time", Rfc3339(last_error_ns_)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

uint64_t Image::status_version() const { return std::hash<std::string>()(StatusJson()); }

}  // namespace lamina
