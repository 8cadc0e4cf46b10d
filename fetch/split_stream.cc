#include "fetch/split_stream.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>

namespace lamina {
namespace {

// So often who waits for a helper asks the sink whether to go on.
constexpr std::chrono::milliseconds kAskEvery{500};

}  // namespace

SplitStream::SplitStream(uint64_t begin, uint64_t end, Quota& memory, std::string owner,
                         Source source)
    : begin_(begin),
      end_(end),
      memory_(memory),
      owner_(std::move(owner)),
      source_(std::move(source)),
      next_(begin),
      unclaimed_(begin) {}

SplitStream::~SplitStream() { Stop(); }

uint64_t SplitStream::EndOf(uint64_t begin) const { return begin + std::min(kPiece, end_ - begin); }

Status SplitStream::Run(const ByteSink& sink) {
  for (uint64_t at = begin_; at < end_;) {
    StartHelpers();
    ASSIGN_OR_RETURN(const std::optional<Piece> piece, TakeFromHelper(at, sink));
    if (piece) {
      RETURN_IF_ERROR(GiveOut(*piece, sink));
      at = piece->end;
    } else {
      ASSIGN_OR_RETURN(at, FetchOwn(at, sink));
    }
    Advance(at);
  }
  return {};
}

// --- helpers -------------------------------------------------------------------------------------

void SplitStream::StartHelpers() noexcept try {
  for (Helper& helper : helpers_) {
    {
      MutexLock lock(mutex_);
      if (helper.running) continue;
    }
    if (helper.thread.joinable()) helper.thread.join();
    if (!StartHelper(helper)) return;
  }
} catch (const std::exception&) {  // memory: fewer do as well
}

bool SplitStream::StartHelper(Helper& helper) {
  std::optional<Piece> piece = Claim();
  if (!piece) return false;
  const uint64_t begin = piece->begin;
  {
    MutexLock lock(mutex_);
    helper.running = true;
  }
  try {
    helper.thread = std::thread(
        [this, &helper, piece = *std::move(piece)]() mutable { Help(helper, std::move(piece)); });
  } catch (const std::exception&) {
    MutexLock lock(mutex_);
    helper.running = false;
    begun_.erase(begin);  // it is the caller's
    return false;
  }
  return true;
}

// Ends where there is no memory for another piece, or none to be fetched: the caller begins anew
// with the next one.
void SplitStream::Help(Helper& helper, Piece piece) noexcept {
  try {
    std::optional<Piece> next = std::move(piece);
    while (next) {
      const bool whole = FillPiece(*next);
      Deliver(*std::move(next), whole);
      next = Claim();
    }
  } catch (const std::exception&) {  // memory
  }
  MutexLock lock(mutex_);
  helper.running = false;
}

bool SplitStream::FillPiece(Piece& piece) try {
  const size_t length = piece.end - piece.begin;
  piece.bytes = std::make_unique_for_overwrite<uint8_t[]>(length);
  const ByteSink keep = [&](ByteSpan bytes) -> Status {
    {
      MutexLock lock(mutex_);
      if (!split_) return Error{Code::kCancelled, "nobody waits for it"};
    }
    if (bytes.size() > length - piece.size)
      return Error{Code::kInternal, "more bytes came than were asked for"};
    std::copy(bytes.begin(), bytes.end(), piece.bytes.get() + piece.size);
    piece.size += bytes.size();
    return {};
  };
  const Status done = source_.fetch_part(piece.begin, piece.end, keep);
  if (!done && done.error().code == Code::kUnsupported) EndSplitting();
  return done.has_value() && piece.size == length;
} catch (const std::exception&) {  // memory: the caller needs none
  return false;
}

// The first piece that a helper may take: behind the caller's own, and not further than there are
// helpers.
std::optional<uint64_t> SplitStream::Claimable() const {
  const uint64_t at = std::max(unclaimed_, EndOf(next_));
  if (!split_ || at >= end_ || at - next_ > kHelpers * kPiece) return std::nullopt;
  return at;
}

std::optional<SplitStream::Piece> SplitStream::Claim() {
  while (true) {
    std::optional<uint64_t> at;
    {
      MutexLock lock(mutex_);
      at = Claimable();
    }
    if (!at) return std::nullopt;
    Piece piece{.begin = *at, .end = EndOf(*at), .size = 0, .bytes = {}, .memory = {}};
    auto memory = memory_.TryTake(piece.end - piece.begin, Urgency::kStream, owner_);
    if (!memory) return std::nullopt;
    piece.memory = *std::move(memory);
    MutexLock lock(mutex_);
    if (Claimable() != at) continue;  // another helper was faster
    begun_.insert(*at);
    unclaimed_ = piece.end;
    return piece;
  }
}

void SplitStream::Deliver(Piece piece, bool whole) {
  const uint64_t begin = piece.begin;
  MutexLock lock(mutex_);
  begun_.erase(begin);
  changed_.NotifyAll();
  if (whole && split_) done_.emplace(begin, std::move(piece));
}

// --- the caller ----------------------------------------------------------------------------------

Result<std::optional<SplitStream::Piece>> SplitStream::TakeFromHelper(uint64_t begin,
                                                                      const ByteSink& sink) {
  while (true) {
    {
      MutexLock lock(mutex_);
      if (split_ && begun_.contains(begin)) changed_.WaitUntil(mutex_, Deadline::After(kAskEvery));
      if (!split_ || !begun_.contains(begin)) {
        std::optional<Piece> piece;
        if (const auto found = done_.find(begin); found != done_.end()) {
          piece = std::move(found->second);
          done_.erase(found);
        }
        return piece;
      }
    }
    RETURN_IF_ERROR(sink({}));
  }
}

Status SplitStream::GiveOut(const Piece& piece, const ByteSink& sink) {
  for (size_t at = 0; at < piece.size; at += kSlice)
    RETURN_IF_ERROR(sink({piece.bytes.get() + at, std::min(kSlice, piece.size - at)}));
  return {};
}

// The piece at `begin`, and all behind it once there is nothing to be split. Returns how far it
// came.
Result<uint64_t> SplitStream::FetchOwn(uint64_t begin, const ByteSink& sink) {
  bool split = false;
  {
    MutexLock lock(mutex_);
    split = split_;
  }
  if (!split) Stop();
  const uint64_t end = split ? EndOf(begin) : end_;
  uint64_t at = begin;
  const ByteSink counting = [&](ByteSpan bytes) -> Status {
    at += bytes.size();
    if (split && at > end) EndSplitting();  // the whole blob comes
    return sink(bytes);
  };
  RETURN_IF_ERROR(source_.fetch(begin, end, counting));
  if (at < end) return Error{Code::kInternal, "fewer bytes came than were asked for"};
  return at;
}

void SplitStream::Advance(uint64_t to) {
  MutexLock lock(mutex_);
  next_ = to;
}

void SplitStream::EndSplitting() {
  MutexLock lock(mutex_);
  split_ = false;
  changed_.NotifyAll();
}

void SplitStream::Stop() {
  EndSplitting();
  for (Helper& helper : helpers_)
    if (helper.thread.joinable()) helper.thread.join();
  std::map<uint64_t, Piece> dropped;  // its memory is given back without the lock
  MutexLock lock(mutex_);
  dropped.swap(done_);
}

}  // namespace lamina
