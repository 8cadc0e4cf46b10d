#include "fs/layer_store.h"

#include <fmt/core.h>

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "fetch/continued_blob.h"
#include "fetch/decoded_chunks.h"
#include "fs/foreign_layers.h"
#include "fs/layer_chunks.h"
#include "fs/progress_log.h"
#include "fs/transfer_threads.h"
#include "index/chunk_reader.h"
#include "index/compression.h"
#include "index/index_compare.h"
#include "index/layer_indexer.h"

namespace lamina {
namespace {

// Bytes of the text that says why a layer is refused.
constexpr uint64_t kMaxReason = 64u << 10;
// A layer whose bytes are not its digest's is streamed again this often, from the next place.
constexpr size_t kRestreams = 2;

Status WriteRefusal(const std::string& path, const std::string& reason) {
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(PwriteExactly(file.fd(), AsBytes(reason), 0, path));
  return file.Commit();
}

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

// What the index has must be what the image's documents say; the pass itself checked only those of
// the image that came first.
Status CheckFacts(const LayerFacts& facts, const LayerRequest& request) {
  if (facts.blob_size != request.descriptor.size)
    return Error{Code::kCorrupt,
                 fmt::format("{}: the manifest gives it {} bytes, it has {}", request.name,
                             request.descriptor.size, facts.blob_size)};
  if (request.diff_id && request.diff_id->algorithm() == facts.diff_id.algorithm() &&
      *request.diff_id != facts.diff_id)
    return Error{Code::kCorrupt,
                 fmt::format("{}: its content is not the one of the image config: its diff id is "
                             "{}, not {}",
                             request.name, facts.diff_id.ToString(), request.diff_id->ToString())};
  return {};
}

// An index that is not there, damaged or of another build is made anew. Anything else (no more file
// descriptors, a disk that fails) would only stream the layer again.
bool IsToBeMade(Code code) {
  return code == Code::kNotFound || code == Code::kCorrupt || code == Code::kInvalid ||
         code == Code::kUnsupported;
}

// Whether another source may do better: a blob that is itself bad is the same everywhere, and so is
// our disk.
bool OthersMayHelp(Code code) {
  return code != Code::kInvalid && code != Code::kLimit && code != Code::kCancelled &&
         code != Code::kNoSpace;
}

std::string FlightKey(const LayerRequest& request) {
  std::string key =
      fmt::format("{} {} {}", request.descriptor.digest.ToString(), request.descriptor.size,
                  request.diff_id ? request.diff_id->ToString() : "");
  if (request.strict) key += " strict";
  for (const auto& source : request.sources) key += " " + source->origin();
  return key;
}

}  // namespace

LayerStore::LayerStore(StorePaths paths, uint64_t cache_limit, std::shared_ptr<Quota> memory,
                       CacheCompression compression)
    : paths_(std::move(paths)),
      cache_budget_(CacheBudget::Open(paths_.CacheFolder(), cache_limit)),
      cache_counters_(std::make_shared<CacheCounters>()),
      cache_compression_(compression),
      decoded_chunks_(std::make_shared<DecodedChunks>()),
      resources_(std::make_shared<ChunkResources>()) {
  resources_->counters = std::make_shared<LayerCounters>();
  resources_->decoding = std::make_shared<DecodeResources>();
  resources_->memory = memory ? std::move(memory) : MakeTransferMemory();
  resources_->threads = std::make_shared<TransferThreads>();
}

// Layers that outlive this find threads that take no more jobs.
LayerStore::~LayerStore() { resources_->threads->Stop(); }

void LayerStore::Cancel() {
  cancelled_ = true;
  resources_->threads->Cancel();
}

const LayerCounters& LayerStore::counters() const { return *resources_->counters; }
const Quota& LayerStore::memory() const { return *resources_->memory; }

std::shared_ptr<Quota> MakeTransferMemory() {
  return std::make_shared<Quota>(kTransferMemory, kTransferMemory / 4);
}

void LayerStore::SetPinned(std::set<std::string> layers) {
  cache_budget_->SetPinned(std::move(layers));
  cache_budget_->Trim();
}

std::shared_ptr<Layer> LayerStore::Opened(const LayerRequest& request) {
  std::shared_ptr<Layer> layer;
  {
    MutexLock lock(mutex_);
    const auto at = open_.find(request.descriptor.digest);
    if (at != open_.end()) layer = at->second.lock();
  }
  if (layer && request.strict && !layer->verified()) return nullptr;
  if (layer) layer->chunks_->AddSources(request.sources, request.descriptor);
  return layer;
}

Status LayerStore::CheckNotRefused(const LayerRequest& request) const {
  const auto reason = ReadWholeFile(paths_.Refusal(request.descriptor.digest), kMaxReason);
  if (reason) return Error{Code::kInvalid, fmt::format("{}: {}", request.name, *reason)};
  return reason.error().code == Code::kNotFound ? Status() : Status(reason.error());
}

Result<std::shared_ptr<Layer>> LayerStore::Get(const LayerRequest& request) {
  auto layer = Opened(request);
  if (!layer) {
    ASSIGN_OR_RETURN(layer, opening_.Do(FlightKey(request), [&] { return OpenOrIndex(request); }));
  }
  RETURN_IF_ERROR(CheckFacts(layer->index().facts(), request));
  return layer;
}

Result<std::shared_ptr<Layer>> LayerStore::GetIndexed(const LayerRequest& request) {
  auto layer = Opened(request);
  if (!layer) {
    const auto lease = leases_.Take({Leases::OfLayer(request.descriptor.digest)});
    RETURN_IF_ERROR(CheckNotRefused(request));
    ASSIGN_OR_RETURN(auto index, OpenIndex(request));
    ASSIGN_OR_RETURN(layer, Assemble(request, index));
  }
  RETURN_IF_ERROR(CheckFacts(layer->index().facts(), request));
  return layer;
}

Result<std::shared_ptr<Layer>> LayerStore::OpenOrIndex(const LayerRequest& request) {
  if (cancelled_) return Error{Code::kCancelled, "lamina is stopping"};
  if (auto layer = Opened(request)) return layer;
  const auto lease = leases_.Take({Leases::OfLayer(request.descriptor.digest)});
  RETURN_IF_ERROR(CheckNotRefused(request));
  auto index = OpenIndex(request);
  if (!index && IsToBeMade(index.error().code)) {
    if (index.error().code != Code::kNotFound) {
      LogWarning(fmt::format("{}: {}; indexing it again", request.name, index.error().message));
      if (Status removed = RemoveOwnFile(paths_.Index(request.descriptor.digest)); !removed)
        LogWarning(removed.error().message);
    }
    index = MakeIndex(request);
  }
  if (!index) {
    ++resources_->counters->index_failures;
    return std::move(index).error();
  }
  if (request.progress) {
    request.progress->done_bytes = request.descriptor.size;
    request.progress->finished = true;
  }
  return Assemble(request, *index);
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::OpenIndex(const LayerRequest& request) const {
  const Digest& digest = request.descriptor.digest;
  ASSIGN_OR_RETURN(auto index, LayerIndex::Open(paths_.Index(digest), digest));
  RETURN_IF_ERROR(CheckResumable(*index));
  if (request.strict && index->facts().kind != IndexKind::kOwn)
    return Error{Code::kNotFound, "the layer has not been verified as a whole yet"};
  return index;
}

IndexRequest LayerStore::PassOf(const LayerRequest& request, const std::string& path) {
  return {.blob_digest = request.descriptor.digest,
          .blob_size = request.descriptor.size,
          .diff_id = request.diff_id,
          .hides_stargz_files = HasStargzFiles(request.descriptor),
          .name = request.name,
          .output_path = path,
          .memory = &index_memory_,
          .windows = &resources_->decoding->windows,
          .cancel = &cancelled_};
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::MakeIndex(const LayerRequest& request) {
  const std::string path = paths_.NewIndex(request.descriptor.digest);
  auto index = MakeIndexAt(path, request);
  if (index || !paths_.DiskIsToBlame(path, index.error())) return index;
  const std::string in_memory = paths_.NewIndex(request.descriptor.digest);
  return in_memory == path ? index : MakeIndexAt(in_memory, request);
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::MakeIndexAt(const std::string& path,
                                                                  const LayerRequest& request) {
  auto foreign = ForeignIndex(path, request);
  if (foreign || foreign.error().code != Code::kNotFound) return foreign;
  Error failure{Code::kUnavailable, fmt::format("{}: no source holds it", request.name)};
  const size_t places = request.sources.size();
  const size_t attempts = places == 0 ? 0 : places + kRestreams;
  for (size_t attempt = 0; attempt < attempts; ++attempt) {
    auto index = IndexFrom(attempt % places, path, request);
    if (index || !OthersMayHelp(index.error().code)) return index;
    const Code code = index.error().code;
    // "Not found" of one source says less than what another one failed with.
    if (attempt == 0 || code != Code::kNotFound) failure = index.error();
    // Only wrong bytes are worth another turn: a source has retried everything else itself.
    if (attempt + 1 == attempts || (attempt + 1 >= places && code != Code::kCorrupt)) break;
    const auto& next = request.sources[(attempt + 1) % places];
    LogWarning(fmt::format("{}; asking {}", index.error().message, next->origin()));
  }
  return failure;
}

// What the layer carries, if it does.
Result<std::shared_ptr<const LayerIndex>> LayerStore::ForeignIndex(const std::string& path,
                                                                   const LayerRequest& request) {
  IndexRequest pass = PassOf(request, path);
  pass.publish = [&](const std::shared_ptr<const LayerIndex>& index, AtomicFile& file) {
    return Publish(request, index, file, nullptr);
  };
  ASSIGN_OR_RETURN(auto index, IndexFromForeign(request, pass));
  ++resources_->counters->foreign;
  LogInfo(fmt::format("{} is lazy by its {} index: {}", request.name,
                      IndexKindName(index->facts().kind), index->origin()));
  return index;
}

// Null where nothing is to be kept, or cannot be: the pass is as good, and the bytes are then
// fetched when something reads them.
std::unique_ptr<CacheWriter> LayerStore::WriterFor(const LayerRequest& request) const {
  if (cache_budget_->limit() == 0) return nullptr;
  auto writer = CacheWriter::Create(paths_.CacheFolder(), request.descriptor.digest, cache_budget_,
                                    cache_compression_);
  if (writer) return *std::move(writer);
  LogWarning(fmt::format("{}: nothing is kept: {}", request.name, writer.error().message));
  return nullptr;
}

// The blob at one source, to be gone on with from the others where that one breaks off.
Result<std::shared_ptr<BlobSource>> LayerStore::OpenContinued(size_t source,
                                                              const LayerRequest& request) {
  const auto& sources = request.sources;
  ASSIGN_OR_RETURN(std::shared_ptr<BlobSource> first,
                   sources[source]->OpenBlob(request.descriptor));
  if (sources.size() == 1 || first->digest_is_name()) return first;
  std::vector<ContinuedBlob::Opener> others;
  for (size_t i = 1; i < sources.size(); ++i)
    others.emplace_back([source = sources[(source + i) % sources.size()],
                         descriptor = request.descriptor] { return source->OpenBlob(descriptor); });
  return std::shared_ptr<BlobSource>(
      std::make_shared<ContinuedBlob>(std::move(first), std::move(others)));
}

Result<std::shared_ptr<const LayerIndex>> LayerStore::IndexFrom(size_t source,
                                                                const std::string& path,
                                                                const LayerRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<BlobSource> blob, OpenContinued(source, request));
  const std::unique_ptr<CacheWriter> writer = WriterFor(request);
  std::optional<CacheSink> sink;
  if (writer) sink.emplace(*writer);

  IndexRequest pass = PassOf(request, path);
  pass.digest_is_name = blob->digest_is_name();
  pass.sink = sink ? &*sink : nullptr;
  pass.publish = [&](const std::shared_ptr<const LayerIndex>& index, AtomicFile& file) {
    return Publish(request, index, file, writer.get());
  };
  if (request.progress) request.progress->total_bytes = request.descriptor.size;
  pass.progress = [&, log = ProgressLog(request.name, request.descriptor.size,
                                        std::chrono::steady_clock::now())](uint64_t done) mutable {
    if (request.progress) request.progress->done_bytes = done;
    if (const auto line = log.Line(done, std::chrono::steady_clock::now())) LogInfo(*line);
  };
  LogInfo(fmt::format("indexing {}, {}, from {}", request.name, HumanSize(request.descriptor.size),
                      blob->origin()));
  ASSIGN_OR_RETURN(auto index, IndexLayer(*blob, pass));
  ++resources_->counters->indexed;
  LogInfo(fmt::format("indexed {}: {} entries, {} of index", request.name,
                      index->facts().entry_count, HumanSize(index->file_bytes())));
  return index;
}

// Where a pass over the same layer from another source was faster, its files stay: they are in use.
// An index that was made of the whole layer takes the place of one that was believed, if that was
// right.
Result<bool> LayerStore::MayTakePlace(const LayerRequest& request, const LayerIndex& index) {
  const Digest& digest = request.descriptor.digest;
  const auto before = LayerIndex::Open(paths_.Index(digest), digest);
  if (!before || !CheckResumable(**before)) return true;
  if ((*before)->facts().kind == IndexKind::kOwn || index.facts().kind != IndexKind::kOwn)
    return false;
  const Status same = SameTree(**before, index);
  if (same) return true;
  const Error reason = same.error().Within(
      fmt::format("the layer is not what its {} index says ({}) and is not served",
                  IndexKindName((*before)->facts().kind), (*before)->origin()));
  Refuse(request, reason);
  return reason;
}

// For ever: its bytes have their digest, so they would be as wrong the next time.
void LayerStore::Refuse(const LayerRequest& request, const Error& reason) {
  const Digest& digest = request.descriptor.digest;
  LogError(fmt::format("{}: {}", request.name, reason.message));
  if (Status kept = WriteRefusal(paths_.NewRefusal(digest), reason.message); !kept)
    LogError(kept.error().message);
  std::shared_ptr<Layer> layer;
  {
    MutexLock lock(mutex_);
    const auto at = open_.find(digest);
    if (at != open_.end()) layer = at->second.lock();
  }
  if (layer) layer->refusal_.Set(std::make_shared<Error>(reason));
}

// The cache first, then the index.
Status LayerStore::Publish(const LayerRequest& request,
                           const std::shared_ptr<const LayerIndex>& index, AtomicFile& file,
                           CacheWriter* writer) {
  const auto publish = [&]() -> Result<bool> {
    ASSIGN_OR_RETURN(const bool takes_place, MayTakePlace(request, *index));
    if (!takes_place) return true;
    if (writer != nullptr) {
      const LayerChunks owner(index, *resources_);
      if (Status kept = writer->Commit(owner); !kept)
        LogWarning(fmt::format("{}: nothing is kept: {}", request.name, kept.error().message));
    }
    RETURN_IF_ERROR(file.Commit());
    return true;
  };
  const auto published = publishing_.Do(request.descriptor.digest, publish);
  return published ? Status() : Status(published.error());
}

// One object per layer, or two caches would fetch the same chunk and tidy up each other's files.
Result<std::shared_ptr<Layer>> LayerStore::Assemble(
    const LayerRequest& request, const std::shared_ptr<const LayerIndex>& index) {
  auto assembled =
      assembling_.Do(request.descriptor.digest, [&]() -> Result<std::shared_ptr<Layer>> {
        auto open = Opened(request);
        if (open && open->verified() == (index->facts().kind == IndexKind::kOwn)) return open;
        auto chunks = std::make_shared<LayerChunks>(index, *resources_);
        chunks->AddSources(request.sources, request.descriptor);
        ASSIGN_OR_RETURN(auto cache,
                         LayerCache::Open(paths_.CacheFolder(), request.descriptor.digest, chunks,
                                          cache_counters_,
                                          {.budget = cache_budget_,
                                           .compression = cache_compression_,
                                           .decoded = decoded_chunks_}));
        std::shared_ptr<Layer> layer(
            new Layer(index, std::move(chunks), std::move(cache),
                      leases_.Take({Leases::OfLayer(request.descriptor.digest)})));
        layer->chunks_->SetLayer(layer);
        MutexLock lock(mutex_);
        std::erase_if(open_, [](const auto& item) { return item.second.expired(); });
        open_.insert_or_assign(request.descriptor.digest, layer);
        return layer;
      });
  // Whoever joined another caller's flight adds what he knows.
  if (assembled) (*assembled)->chunks_->AddSources(request.sources, request.descriptor);
  return assembled;
}

}  // namespace lamina
