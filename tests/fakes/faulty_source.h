#pragma once

// A source of images that fails as a test wants it: an OCI layout behind a gate. Any thread.

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "fetch/oci_layout.h"

namespace lamina::fakes {

class FaultySource : public RepositorySource {
 public:
  FaultySource(std::shared_ptr<OciLayout> layout, std::string origin)
      : layout_(std::move(layout)), origin_(std::move(origin)) {}

  // Streams wait after their first piece, reads at once, until Open().
  void Close() { open_ = false; }
  void Open() {
    open_ = true;
    open_.notify_all();
  }
  // Reads and streams fail from now on.
  void Fail() { fails_ = true; }
  // Reads take so long, and say that they have waited so long for their turn.
  void Delay(std::chrono::milliseconds time, Deadline::Clock::duration queued) {
    delay_ = time;
    queued_ = queued;
  }
  int opened() const { return opened_; }    // blobs
  int waiting() const { return waiting_; }  // streams that have met the closed gate

  Result<Document> FetchTag(const std::string& tag, const Deadline& deadline) override {
    return layout_->FetchTag(tag, deadline);
  }
  Result<Document> FetchManifest(const Digest& digest, const Deadline& deadline) override {
    return layout_->FetchManifest(digest, deadline);
  }
  Result<std::string> FetchSmallBlob(const Descriptor& descriptor, uint64_t limit,
                                     const Deadline& deadline) override {
    return layout_->FetchSmallBlob(descriptor, limit, deadline);
  }
  bool MayHold(const Digest&) override { return true; }
  Result<std::shared_ptr<BlobSource>> OpenBlob(const Descriptor& descriptor) override {
    ++opened_;
    ASSIGN_OR_RETURN(auto blob, layout_->OpenBlob(descriptor));
    return std::shared_ptr<BlobSource>(std::make_shared<Blob>(std::move(blob), *this));
  }
  Result<std::vector<std::string>> ListTags(const Deadline& deadline) override {
    return layout_->ListTags(deadline);
  }
  std::string origin() const override { return origin_; }
  std::string pool_key() const override { return origin_; }

 private:
  class Blob : public BlobSource {
   public:
    Blob(std::shared_ptr<BlobSource> blob, FaultySource& source)
        : blob_(std::move(blob)), source_(source) {}
    uint64_t size() const override { return blob_->size(); }
    Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override {
      RETURN_IF_ERROR(source_.Pass());
      std::this_thread::sleep_for(source_.delay_.load());
      return blob_->ReadAt(offset, out, deadline);
    }
    Status Stream(uint64_t offset, const ByteSink& sink) override {
      return blob_->Stream(offset, [&](ByteSpan bytes) -> Status {
        RETURN_IF_ERROR(source_.Pass());
        return sink(bytes);
      });
    }
    Deadline::Clock::duration queued() const override { return source_.queued_; }
    std::string origin() const override { return source_.origin(); }

   private:
    std::shared_ptr<BlobSource> blob_;
    FaultySource& source_;
  };

  Status Pass() {
    if (!open_) ++waiting_;
    open_.wait(false);
    if (fails_) return Error{Code::kUnavailable, origin_ + " is away"};
    return {};
  }

  const std::shared_ptr<OciLayout> layout_;
  const std::string origin_;
  std::atomic<bool> open_{true};
  std::atomic<bool> fails_{false};
  std::atomic<std::chrono::milliseconds> delay_{};
  std::atomic<Deadline::Clock::duration> queued_{};
  std::atomic<int> opened_{0};
  std::atomic<int> waiting_{0};
};

}  // namespace lamina::fakes
