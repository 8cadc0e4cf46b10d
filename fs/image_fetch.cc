// lamina fetch: all chunks of an image that are not local, by wide requests beside each other.

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>

#include "base/log.h"
#include "fs/image.h"
#include "fs/transfer_threads.h"

namespace lamina {
namespace {

// What is fetched as a whole is waited for in steps, between which lamina may be told to stop; a
// layer may take as many as 50 KiB/s need.
constexpr std::chrono::seconds kTry{20};
constexpr uint64_t kBytesOfATry = 1u << 20;
// So often it is told how far the work is.
constexpr std::chrono::milliseconds kTellEvery{200};

// Chunks of a layer that come by one request.
struct Part {
  Layer* layer = nullptr;
  uint64_t first = 0;
  uint64_t last = 0;
  uint64_t chunks() const { return last - first + 1; }
};

std::vector<Part> PartsOf(const std::vector<std::shared_ptr<Layer>>& layers) {
  std::vector<Part> parts;
  for (const auto& layer : layers) {
    const uint64_t count = layer->index().facts().chunk_count;
    for (uint64_t first = 0; first < count; first = parts.back().last + 1)
      parts.push_back({layer.get(), first, layer->cache().LastOfRun(first)});
  }
  return parts;
}

// The end of a single zstd frame may take long, since all before it is decoded first; each try goes
// on where the last one ended.
Status FetchPart(const Part& part, const std::atomic<bool>& cancelled,
                 const std::atomic<bool>& given_up) {
  const uint64_t tries = 3 + part.layer->index().facts().blob_size / kBytesOfATry;
  for (uint64_t tried = 1;; ++tried) {
    if (cancelled) return Error{Code::kCancelled, "lamina is stopping"};
    if (given_up) return Error{Code::kCancelled, "nobody waits for the image any more"};
    Status done = part.layer->cache().Fetch(part.first, part.last, Deadline::After(kTry));
    if (done.has_value() || done.error().code != Code::kTimeout || tried == tries) return done;
  }
}

// The threads of one call, which take one part after another.
class PartFetcher {
 public:
  PartFetcher(std::vector<Part> parts, const std::atomic<bool>& cancelled)
      : parts_(std::move(parts)), cancelled_(cancelled) {}
  ~PartFetcher() {
    GiveUp();
    JoinThreads();
  }

  void Start() {
    const size_t count = std::min(parts_.size(), TransferThreads::kPerHost);
    threads_.reserve(count);
    try {
      while (threads_.size() < count) {
        Begin();
        threads_.emplace_back([this] { Work(); });
      }
    } catch (const std::system_error& failure) {  // those that run do it all
      LogWarning(fmt::format("fetching with {} threads: {}", threads_.size(), failure.what()));
      if (threads_.empty()) return Work();
      End();
    }
  }
  // Chunks that are done, once there are more than `told` or no more come.
  uint64_t WaitForMore(uint64_t told, bool* ended) {
    const Deadline soon = Deadline::After(kTellEvery);
    MutexLock lock(mutex_);
    while (done_ == told && working_ > 0 && !soon.passed()) changed_.WaitUntil(mutex_, soon);
    *ended = working_ == 0;
    return done_;
  }
  void GiveUp() { given_up_ = true; }
  Status Join() {
    JoinThreads();
    MutexLock lock(mutex_);
    return failure_;
  }

 private:
  void JoinThreads() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  void Begin() {
    MutexLock lock(mutex_);
    ++working_;
  }
  void End() {
    MutexLock lock(mutex_);
    --working_;
    changed_.NotifyAll();
  }
  void Work() noexcept {
    for (size_t i = next_++; i < parts_.size() && !given_up_; i = next_++) {
      Status done = FetchGuarded(parts_[i]);
      MutexLock lock(mutex_);
      if (done) {
        done_ += parts_[i].chunks();
      } else {
        given_up_ = true;
        if (failure_) failure_ = std::move(done);
      }
      changed_.NotifyAll();
    }
    End();
  }
  Status FetchGuarded(const Part& part) noexcept try {
    return FetchPart(part, cancelled_, given_up_);
  } catch (const std::exception& failure) {
    return Error{Code::kInternal, failure.what()};
  }

  const std::vector<Part> parts_;
  const std::atomic<bool>& cancelled_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> given_up_{false};
  std::vector<std::thread> threads_;
  Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t done_ GUARDED_BY(mutex_) = 0;  // chunks
  size_t working_ GUARDED_BY(mutex_) = 0;
  Status failure_ GUARDED_BY(mutex_);  // the first
};

}  // namespace

Status Image::FetchAll(const std::function<bool(uint64_t, uint64_t)>& progress) {
  ASSIGN_OR_RETURN(const auto tree, EnsureTree());
  std::vector<std::shared_ptr<Layer>> layers(tree->layer_count());
  for (uint32_t device = 0; device < layers.size(); ++device) {
    ASSIGN_OR_RETURN(layers[device], VerifiedLayerOf(*tree, device));
  }
  uint64_t all = 0;
  for (const auto& layer : layers) all += layer->index().facts().chunk_count;
  PartFetcher fetcher(PartsOf(layers), layers_.cancelled());
  fetcher.Start();
  uint64_t told = 0;
  for (bool ended = false; !ended;) {
    const uint64_t done = fetcher.WaitForMore(told, &ended);
    if (layers_.cancelled()) break;
    told = done;
    if (progress && !progress(done, all)) {
      fetcher.GiveUp();
      RETURN_IF_ERROR(fetcher.Join());
      return Error{Code::kCancelled, "nobody waits for the image any more"};
    }
  }
  if (layers_.cancelled()) fetcher.GiveUp();
  RETURN_IF_ERROR(fetcher.Join());
  if (layers_.cancelled()) return Error{Code::kCancelled, "lamina is stopping"};
  return CheckAllKept(layers);
}

Status Image::CheckAllKept(const std::vector<std::shared_ptr<Layer>>& layers) const {
  uint64_t kept = 0;
  uint64_t all = 0;
  for (const auto& layer : layers) {
    const LayerCache::Usage usage = layer->cache().usage();
    kept += usage.chunks_present;
    all += usage.chunks_total;
  }
  if (kept == all) return {};
  return Error{Code::kNoSpace,
               fmt::format("only {} of {} chunks of {}@{} are local now: the disk or the cache's "
                           "limit ({}) has no room for the rest",
                           kept, all, documents_.repository, documents_.digest.ToString(),
                           CacheLimitText(layers_.cache_budget().limit()))};
}

}  // namespace lamina
