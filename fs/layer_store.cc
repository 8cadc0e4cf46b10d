#include "fs/layer_store.h"

#include <fmt/core.h>

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "fs/layer_chunks.h"
#include "index/chunk_reader.h"
#include "index/compression.h"
#include "index/layer_indexer.h"

namespace lamina {
namespace {

// Feeds the cache from the indexing pass.
class CacheSink : public FlatSink {
 public:
  explicit CacheSink(CacheWriter& writer) : writer_(writer) {}
  void Write(uint64_t flat_offset, ByteSpan bytes) override { writer_.Write(flat_offset, bytes); }
  bool GiveBack() override { return writer_.GiveBack(); }

 private:
  CacheWriter& writer_;
};

// An index is of use only while its checkpoints can be resumed by this build's codec library.
Status CheckResumable(const LayerIndex& index) {
  const LayerFacts& facts = index.facts();
  if (facts.checkpoint_count == 0) return {};
  ASSIGN_OR_RETURN(const CheckpointView last,
                   index.CheckpointAt(static_cast<uint32_t>(facts.checkpoint_count - 1)));
  auto decoder =
      StreamDecoder::Resume(facts.compression, last.raw_offset, last.blob_offset, last.state);
  if (!decoder) return std::move(decoder).error();
  return {};
}

}  // namespace

LayerStore::LayerStore(StorePaths paths)
    : paths_(std::move(paths)),
      cache_counters_(std::make_shared<CacheCounters>()),
      counters_(std::make_shared<LayerCounters>()),
      decoding_(std::make_shared<DecodeResources>()) {}

LayerStore::~LayerStore() = default;

std::shared_ptr<Layer> LayerStore::Opened(const LayerRequest& request) {
  std::shared_ptr<Layer> layer;
  {
    MutexLock lock(mutex_);
    const auto at = open_.find(request.descriptor.digest);
    if (at != open_.end()) layer = at->second.lock();
  }
  if (layer) layer->chunks_->AddSource(request.source, request.descriptor);
  return layer;
}

Result<std::shared_ptr<Layer>> LayerStore::Get(const LayerRequest& request) {
  if (auto layer = Opened(request)) return layer;
  return opening_.Do(request.descriptor.digest, [&] { return OpenOrIndex(request); });
}

Result<std::shared_ptr<Layer>> LayerStore::GetIndexed(const LayerRequest& request) {
  if (auto layer = Opened(request)) return layer;
  ASSIGN_OR_RETURN(auto index, OpenIndex(request.descriptor.digest));
  return Assemble(request, std::move(index));
}

Result<std::shared_ptr<Layer>> LayerStore::OpenOrIndex(const LayerRequest& request) {
  if (cancelled_) return Error{Code::kCancelled, "lamina is stopping"};
  if (auto layer = Opened(request)) return layer;
  auto index = OpenIndex(request.descriptor.digest);
  if (!index) {
    if (index.error().code != Code::kNotFound)
      LogWarning(fmt::format("{}: {}; indexing it again", request.name, index.error().message));
    index = MakeIndex(request);
  }
  if (!index) {
    ++counters_->index_failures;
    return std::move(index).error();
  }
  if (request.progress) {
    request.progress->done_bytes = request.descriptor.size;
    request.progress->finished = true;
  }
  return Assemble(request, *std::move(index));
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::OpenIndex(const Digest& digest) const {
  ASSIGN_OR_RETURN(auto index, LayerIndex::Open(paths_.Index(digest), digest));
  RETURN_IF_ERROR(CheckResumable(*index));
  return index;
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::MakeIndex(const LayerRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<BlobSource> blob,
                   request.source->OpenBlob(request.descriptor));
  // Without a cache the pass is as good; the bytes are then fetched when something reads them.
  auto writer = CacheWriter::Create(paths_.CacheFolder(), request.descriptor.digest);
  if (!writer)
    LogWarning(fmt::format("{}: nothing is kept: {}", request.name, writer.error().message));
  std::optional<CacheSink> sink;
  if (writer) sink.emplace(**writer);

  IndexRequest pass{.blob_digest = request.descriptor.digest,
                    .blob_size = request.descriptor.size,
                    .diff_id = request.diff_id,
                    .name = request.name,
                    .output_path = paths_.Index(request.descriptor.digest),
                    .sink = sink ? &*sink : nullptr,
                    .windows = &decoding_->windows,
                    .cancel = &cancelled_};
  if (writer)
    pass.before_publish = [&](const std::shared_ptr<const LayerIndex>& index) {
      const LayerChunks owner(index, counters_, decoding_);
      if (Status kept = (*writer)->Commit(owner); !kept)
        LogWarning(fmt::format("{}: nothing is kept: {}", request.name, kept.error().message));
    };
  if (request.progress) {
    request.progress->total_bytes = request.descriptor.size;
    pass.progress = [progress = request.progress](uint64_t done) { progress->done_bytes = done; };
  }
  LogInfo(fmt::format("indexing {}, {}, from {}", request.name, HumanSize(request.descriptor.size),
                      blob->origin()));
  ASSIGN_OR_RETURN(auto index, IndexLayer(*blob, pass));
  ++counters_->indexed;
  LogInfo(fmt::format("indexed {}: {} entries, {} of index", request.name,
                      index->facts().entry_count, HumanSize(index->file_bytes())));
  return index;
}

Result<std::shared_ptr<Layer>> LayerStore::Assemble(const LayerRequest& request,
                                                    std::shared_ptr<const LayerIndex> index) {
  auto chunks = std::make_shared<LayerChunks>(index, counters_, decoding_);
  chunks->AddSource(request.source, request.descriptor);
  ASSIGN_OR_RETURN(auto cache, LayerCache::Open(paths_.CacheFolder(), request.descriptor.digest,
                                                chunks, cache_counters_));
  chunks->SetCache(cache);
  std::shared_ptr<Layer> layer(new Layer(std::move(index), std::move(chunks), std::move(cache)));
  MutexLock lock(mutex_);
  std::weak_ptr<Layer>& slot = open_.try_emplace(request.descriptor.digest).first->second;
  // Another opener may have been first; one object per layer, or two caches would fetch the same
  // chunk.
  if (auto first = slot.lock()) return first;
  slot = layer;
  return layer;
}

}  // namespace lamina
