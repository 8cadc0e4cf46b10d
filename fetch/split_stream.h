#pragma once

// SplitStream: the stream of a large blob made of pieces that come beside each other and are given
// in order. Whoever calls Run() fetches the piece that is next straight into the sink, unless a
// helper has it already; helpers fetch those behind it into memory, and there is only a helper
// where the quota has memory for what it fetches. So without memory, threads or connections it is
// one stream as any other, and only the caller ever fails: what a helper could not get the caller
// asks for himself. One Run(); it blocks, and sees within a second that the sink wants no more.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "base/blob_source.h"
#include "base/mutex.h"
#include "base/quota.h"

namespace lamina {

class SplitStream {
 public:
  static constexpr uint64_t kPiece = 8u << 20;    // bytes
  static constexpr uint64_t kLeast = 4 * kPiece;  // smaller streams are not split
  static constexpr size_t kHelpers = 3;
  static constexpr size_t kSlice = 256u << 10;  // bytes; the sink gets no more at a time

  using Fetch = std::function<Status(uint64_t begin, uint64_t end, const ByteSink& sink)>;
  struct Source {
    // For the caller of Run(), as BlobSource::Stream(): at least [begin, end), or all to the end of
    // the stream where no less is to be had.
    Fetch fetch;
    // For helpers: [begin, end); kUnsupported where parts are not to be had, which ends splitting.
    Fetch fetch_part;
  };
  // `owner` has the memory, see Quota.
  SplitStream(uint64_t begin, uint64_t end, Quota& memory, std::string owner, Source source);
  ~SplitStream();

  Status Run(const ByteSink& sink);

 private:
  // The bytes of [begin, end), as far as they have come.
  struct Piece {
    uint64_t begin = 0;
    uint64_t end = 0;
    size_t size = 0;
    std::unique_ptr<uint8_t[]> bytes;
    Quota::Share memory;
  };
  struct Helper {
    std::thread thread;    // the caller's
    bool running = false;  // guarded by mutex_
  };
  uint64_t EndOf(uint64_t begin) const;
  void StartHelpers() noexcept;
  bool StartHelper(Helper& helper);
  void Help(Helper& helper, Piece piece) noexcept;
  // False where splitting is of no use.
  bool FillPiece(Piece& piece);
  std::optional<uint64_t> Claimable() const REQUIRES(mutex_);
  // A piece for a helper, with its memory.
  std::optional<Piece> Claim();
  void Deliver(Piece piece, bool whole);
  // Absent where no helper has it: then it is the caller's.
  Result<std::optional<Piece>> TakeFromHelper(uint64_t begin, const ByteSink& sink);
  Status GiveOut(const Piece& piece, const ByteSink& sink);
  Result<uint64_t> FetchOwn(uint64_t begin, const ByteSink& sink);
  void Advance(uint64_t to);
  // The helpers end soon, and there are no more.
  void EndSplitting();
  void Stop();

  const uint64_t begin_;
  const uint64_t end_;
  Quota& memory_;
  const std::string owner_;
  const Source source_;

  Mutex mutex_;  // leaf
  CondVar changed_;
  uint64_t next_ GUARDED_BY(mutex_);                   // where the caller is
  uint64_t unclaimed_ GUARDED_BY(mutex_);              // the first piece that nobody has begun
  std::set<uint64_t> begun_ GUARDED_BY(mutex_);        // by helpers
  std::map<uint64_t, Piece> done_ GUARDED_BY(mutex_);  // by helpers
  bool split_ GUARDED_BY(mutex_) = true;
  std::array<Helper, kHelpers> helpers_;
};

}  // namespace lamina
