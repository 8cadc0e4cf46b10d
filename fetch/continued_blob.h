#pragma once

// ContinuedBlob: one blob at several places, streamed from the first and, where that breaks off for
// good, from the next one on at the byte that was reached. Any thread; blocks as BlobSource says.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/blob_source.h"

namespace lamina {

class ContinuedBlob : public BlobSource {
 public:
  using Opener = std::function<Result<std::shared_ptr<BlobSource>>()>;
  // `first` and those that may go on for it, all of the same digest; they are opened when their
  // turn comes.
  ContinuedBlob(std::shared_ptr<BlobSource> first, std::vector<Opener> others)
      : first_(std::move(first)), others_(std::move(others)) {}

  uint64_t size() const override { return first_->size(); }
  Status ReadAt(uint64_t offset, MutableByteSpan out, const Deadline& deadline) override {
    return first_->ReadAt(offset, out, deadline);
  }
  // Fails like the first where that gives no byte: who asks for the blob then asks elsewhere
  // anyway.
  Status Stream(uint64_t offset, const ByteSink& sink) override;
  std::string origin() const override { return first_->origin(); }
  bool digest_is_name() const override { return first_->digest_is_name(); }

 private:
  const std::shared_ptr<BlobSource> first_;
  const std::vector<Opener> others_;
};

}  // namespace lamina
