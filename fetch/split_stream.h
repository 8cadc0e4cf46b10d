#pragma once

// SplitStream: the stream of a large blob made of pieces that come beside each other and are given
// in order. Whoever calls Run() fetches the piece that is next straight into the sink, unless a
// helper has it already; helpers fetch those behind it into memory, as far as the quota has some.
// So without memory, threads or connections it is one stream as any other, and only the caller ever
// fails: what a helper could not get the caller asks for himself. One Run(); it blocks.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/blob_source.h"
#include "base/mutex.h"
#include "base/quota.h"

namespace lamina {

class SplitStream {
 public:
  static constexpr uint64_t kPiece = 8u << 20;    // bytes
  static constexpr uint64_t kLeast = 4 * kPiece;  // smaller streams are not split
  static constexpr size_t kHelpers = 3;

  // Fetches [begin, end) as BlobSource::Stream() does; an error of the sink ends it.
  using Fetch = std::function<Status(uint64_t begin, uint64_t end, const ByteSink& sink)>;
  SplitStream(uint64_t begin, uint64_t end, Quota& memory, Fetch fetch);
  ~SplitStream();

  Status Run(const ByteSink& sink);

 private:
  struct Piece {
    std::vector<uint8_t> bytes;
    Quota::Share memory;
  };
  uint64_t EndOf(uint64_t begin) const;
  void StartHelpers();
  void Help() noexcept;
  std::optional<uint64_t> Claimable() const REQUIRES(mutex_);
  // False once there is nothing more to claim; so does Claim().
  bool WaitForClaimable();
  bool Claim(uint64_t* begin, Piece* piece);
  void Deliver(uint64_t begin, Piece piece, bool whole);
  // Takes the piece at `begin` from a helper; false where none has it: then it is the caller's.
  bool TakeFromHelper(uint64_t begin, Piece* piece);
  void Advance(uint64_t to);
  void Stop();

  const uint64_t end_;
  Quota& memory_;
  const Fetch fetch_;
  std::vector<std::thread> helpers_;

  Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t next_ GUARDED_BY(mutex_);                   // where the caller is
  uint64_t unclaimed_ GUARDED_BY(mutex_);              // the first piece that nobody has begun
  std::set<uint64_t> begun_ GUARDED_BY(mutex_);        // by helpers
  std::map<uint64_t, Piece> done_ GUARDED_BY(mutex_);  // by helpers
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace lamina
