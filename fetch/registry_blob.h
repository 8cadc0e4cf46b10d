#pragma once

// RegistryBlob: a blob of a registry as BlobSource, by HTTP range requests. The place that the
// registry redirects to is kept for the next range. Any thread; blocks as BlobSource says.

#include <memory>
#include <string>

#include "base/blob_source.h"
#include "fetch/manifest.h"
#include "fetch/registry_session.h"

namespace lamina {

// The request for a blob of repository `path`, without receiver and range.
RegistryRequest BlobRequest(const std::string& path, const Digest& digest);

class RegistryBlob : public BlobSource {
 public:
  // A large stream is split where its sink waits for the network for more than this part of the
  // time, as its first piece tells: one that is fast enough for its sink is best left alone.
  static constexpr double kSplitFrom = 0.5;

  // `path` is a valid repository path. `split_from` as above; below 0: always.
  RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
               const Descriptor& descriptor, double split_from = kSplitFrom);

  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override;
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::shared_ptr<BlobSource> WithUrgency(Urgency urgency) override;
  std::string origin() const override { return session_->origin() + target_; }

 private:
  // What is still to come: [position, end).
  struct Wanted {
    uint64_t position = 0;  // moves with the bytes that went to the sink
    uint64_t end = 0;
    // Set: a server that has no ranges and sends the whole blob is let, and `end` moves to its end.
    bool or_whole = false;
  };
  // One attempt.
  RegistryAnswer Fetch(Wanted& wanted, const ByteSink& sink, Urgency urgency, bool bounded,
                       const Deadline& deadline);
  // The first piece of a large stream, or all of it. How much of the time went by waiting, from its
  // first byte on, is put into `*waited`: 0 to 1.
  Status StreamHead(Wanted& wanted, const ByteSink& sink, double* waited);
  // As Stream(), of a part.
  Status StreamPart(Wanted& wanted, const ByteSink& sink);
  RegistryBlob(const RegistryBlob& other, Urgency urgency);
  Status CheckBounds(uint64_t offset, uint64_t length) const;

  const std::shared_ptr<RegistrySession> session_;
  const std::string target_;
  const std::string scope_;
  const std::string what_;
  const uint64_t size_;
  const double split_from_;
  const Urgency urgency_ = Urgency::kReader;  // of reads
  const std::shared_ptr<RedirectCache> redirects_ = std::make_shared<RedirectCache>();
};

}  // namespace lamina
