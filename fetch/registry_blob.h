#pragma once

// RegistryBlob: a blob of a registry as BlobSource, by HTTP range requests. The place that the
// registry redirects to is kept for the next range. Any thread; blocks as BlobSource says.

#include <atomic>
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
  struct StreamOptions {
    // A large stream is split where its sink waits for the network for more than this part of the
    // time, as its first piece tells: one that is fast enough for its sink is best left alone.
    // Below 0: always.
    double split_from = 0.5;
    // One that is not asks anew after so many bytes, so that others have their turn.
    uint64_t turn_bytes = 128u << 20;
  };

  // `path` is a valid repository path.
  RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
               const Descriptor& descriptor);
  RegistryBlob(std::shared_ptr<RegistrySession> session, const std::string& path,
               const Descriptor& descriptor, const StreamOptions& stream);

  uint64_t size() const override { return size_; }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override;
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::shared_ptr<BlobSource> WithUrgency(Urgency urgency) override;
  Deadline::Clock::duration queued() const override {
    return Deadline::Clock::duration(queued_.load());
  }
  std::string origin() const override { return session_->origin() + target_; }

 private:
  // What is still to come: [position, end).
  struct Wanted {
    uint64_t position = 0;  // moves with the bytes that went to the sink
    uint64_t end = 0;
    // What is done with a server that has no ranges and sends the whole blob.
    enum class IfWhole {
      kTakePart,
      kTakeAll,  // `end` moves to the blob's
      kRefuse,   // kUnsupported
    };
    IfWhole if_whole = IfWhole::kTakePart;
    int wrong_ranges = 0;  // answers of other bytes than were asked for
    bool plain = false;    // asked for without a range, since the server cannot be asked for parts
    RegistryLeaves leaves = {};
  };
  // One attempt.
  RegistryAnswer Fetch(Wanted& wanted, const ByteSink& sink, Urgency urgency, bool bounded,
                       const Deadline& deadline);
  // The first piece of a large stream, or all of it. How much of the time went by waiting, from its
  // first byte on, is put into `*waited`: 0 to 1.
  Status StreamHead(Wanted& wanted, const ByteSink& sink, double* waited);
  // From `begin` to `end` at least, or to the blob's end, in so many requests as it takes turns.
  Status StreamTurns(uint64_t begin, uint64_t end, const ByteSink& sink);
  Status StreamSplit(uint64_t begin, const ByteSink& sink);
  // As Stream(), of a part.
  Status StreamPart(Wanted& wanted, const ByteSink& sink);
  bool IsRanged(const Wanted& wanted) const;
  // Whether the answer shows that parts are not to be had of this server. An error where that is
  // not what `wanted` is for; otherwise it is asked for the whole from now on.
  Result<bool> LeaveRanges(Wanted& wanted, const RegistryAnswer& answer) const;
  RegistryBlob(const RegistryBlob& other, Urgency urgency);
  Status CheckBounds(uint64_t offset, uint64_t length) const;

  const std::shared_ptr<RegistrySession> session_;
  const std::string target_;
  const std::string scope_;
  const std::string what_;
  const uint64_t size_;
  const StreamOptions stream_;
  const Urgency urgency_ = Urgency::kReader;  // of reads
  const std::shared_ptr<RedirectCache> redirects_ = std::make_shared<RedirectCache>();
  std::atomic<Deadline::Clock::rep> queued_{0};  // of this object's own requests
};

}  // namespace lamina
